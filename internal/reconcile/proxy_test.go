package reconcile

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/traefik"
)

// TestRealProxy is the proxy on a Docker of its own, from nothing, in one go because
// the images are large.
func TestRealProxy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	t.Run("A32 killed after every change", h.killedAfterEveryChange)
	t.Run("A32 from nothing, and then nothing to do", h.fromNothing)
	t.Run("A25 TLS and routes", h.serves)
	t.Run("A31 a new certificate drops no request", h.rotates)
	t.Run("A25 a run goes through it", h.harness)
	t.Run("A32 repairs exactly what was removed or edited", h.repairs)
	t.Run("U22 a version that does not run is not begun, or rolled back", h.rollsBack)
	t.Run("the command says so", h.command)
}

// fromNothing begins with the swarm of the test before, and leaves it.
func (h *testHost) fromNothing(t *testing.T) {
	if err := h.Docker.SwarmLeave(t.Context(), true); err != nil && !strings.Contains(err.Error(), "not part of a swarm") {
		t.Fatal(err)
	}
	begin := time.Now()
	did := h.converge(t, h.options())
	t.Logf("%d changes in %v", len(did), time.Since(begin))
	if len(did) != 11 {
		t.Errorf("did\n%s", strings.Join(did, "\n"))
	}
	for range 2 {
		begin = time.Now()
		if again := h.converge(t, h.options()); len(again) > 0 {
			t.Fatalf("then it does\n%s", strings.Join(again, "\n"))
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("finding nothing to do takes %v", took)
		} else {
			t.Logf("nothing to do, found in %v", took)
		}
	}
}

// killedAfterEveryChange kills each run after its first change, until one has nothing to do.
func (h *testHost) killedAfterEveryChange(t *testing.T) {
	if deaths := h.killed(t); deaths != 11 {
		t.Errorf("from nothing there are %d deaths", deaths)
	}
	if did := h.converge(t, h.options()); len(did) > 0 {
		t.Errorf("after the last death it does\n%s", strings.Join(did, "\n"))
	}
	// A rotation: two secrets and a config that names them, one update, three removals.
	h.certificate(t, domain, "*."+domain)
	if deaths := h.killed(t); deaths != 7 {
		t.Errorf("in a rotation there are %d deaths", deaths)
	}
	if did := h.converge(t, h.options()); len(did) > 0 {
		t.Errorf("after the rotation it does\n%s", strings.Join(did, "\n"))
	}
}

func (h *testHost) killed(t *testing.T) (deaths int) {
	t.Helper()
	o := h.options()
	o.Dial, o.Now = nil, nil
	text, err := json.Marshal(struct {
		Domain, Network, Certificates, Traefik, CCCI, Socket string
		HTTP, HTTPS                                          int
		Entrypoints                                          []Entrypoint
	}{o.Domain, o.Network, o.Certificates, o.Traefik, o.CCCI, o.Socket, o.HTTP, o.HTTPS, o.Entrypoints})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		cmd := h.Command(t.Context(), self)
		cmd.Env = append(cmd.Env, dieEnv+"="+string(text))
		out, err := cmd.CombinedOutput()
		t.Logf("%s", bytes.TrimSpace(out))
		switch {
		case err == nil:
			return deaths
		case strings.Contains(err.Error(), "killed"):
			deaths++
		default:
			t.Fatal(err)
		}
	}
	t.Fatal("it does not come to an end")
	return deaths
}

// client asks the proxy, whatever the host's name, and trusts the certificate of now.
func (h *testHost) client(keep bool) *http.Client {
	return &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: !keep,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // what is served is compared below
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				// As from elsewhere: by the firewall's rules, not by docker-proxy, which serves loopback.
				return h.Dial(ctx, network, net.JoinHostPort(dockerd.Address, port))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// app deploys an app as a recipe would, and waits until it is reached.
func (h *testHost) app(t *testing.T) {
	t.Helper()
	_, err := h.Docker.ServiceCreate(t.Context(), swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: "wiki_app", Labels: map[string]string{
			"traefik.enable":                                      "true",
			"traefik.swarm.network":                               "proxy",
			"traefik.http.routers.wiki.rule":                      "Host(`wiki." + domain + "`,`" + domain + "`)", // as Traefik 2 wrote it
			"traefik.http.routers.wiki.entrypoints":               "web-secure",
			"traefik.http.routers.wiki.tls.certresolver":          "production",
			"traefik.http.routers.wiki.middlewares":               "security@file",
			"traefik.http.services.wiki.loadbalancer.server.port": "8080",
		}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Image: appImage},
			Networks:      []swarm.NetworkAttachmentConfig{{Target: "proxy"}},
		},
		EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR},
	}, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.await(t, "the app is reached", func() bool {
		res, err := h.client(false).Get("https://wiki." + domain + "/health")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

func (h *testHost) await(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ready() {
		if pause(ctx, 50*time.Millisecond) != nil {
			t.Fatalf("within 30 s it is not so that %s", what)
		}
	}
}

func (h *testHost) serves(t *testing.T) {
	begin := time.Now()
	h.app(t)
	t.Logf("an app is reached %v after it was made", time.Since(begin))
	c := h.client(false)
	for url, status := range map[string]int{
		"https://wiki." + domain + "/health":  200,
		"https://" + domain + "/health":       200,
		"https://nobody." + domain + "/":      404,
		"https://elsewhere.example.com/":      404,
		"http://wiki." + domain + "/a?b=c":    301,
		"http://nobody." + domain + "/":       301,
		"https://" + domain + "/api/rawdata":  404,
		"https://" + domain + "/dashboard/":   404,
		"https://" + domain + pingPath:        200,
		"https://wiki." + domain + pingPath:   404,
		"https://deep.wiki." + domain + "/":   404,
		"https://wiki." + domain + "/version": 200,
		"http://elsewhere.example.com/":       301,
		"http://wiki." + domain + ":80/a":     301,
	} {
		res, _ := get(t, c, url)
		if res.StatusCode != status && !(status == 301 && (res.StatusCode == 308 || res.StatusCode == 302)) {
			t.Errorf("%s answers %s", url, res.Status)
		}
		if res.TLS != nil && !bytes.Equal(res.TLS.PeerCertificates[0].Raw, h.leaf) {
			t.Errorf("%s shows another certificate", url)
		}
		if strings.HasSuffix(url, "b=c") && res.Header.Get("Location") != "https://wiki."+domain+"/a?b=c" {
			t.Errorf("%s leads to %s", url, res.Header.Get("Location"))
		}
		if strings.Contains(url, "wiki") && strings.HasSuffix(url, "/health") && !strings.Contains(res.Header.Get("Strict-Transport-Security"), "31536000") {
			t.Errorf("%s lacks what security@file adds: %v", url, res.Header)
		}
	}
	// Apps reach the proxy on the networks of their runs: what a request makes it hold is bounded.
	for url, status := range map[string]int{"https://wiki." + domain + "/health": 200, "http://wiki." + domain + "/health": 301} {
		for size, want := range map[int]int{30 << 10: status, 200 << 10: http.StatusRequestHeaderFieldsTooLarge} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Cookie", strings.Repeat("x", size))
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want && !(want == 301 && res.StatusCode == 308) {
				t.Errorf("%s with %d KiB of headers answers %s, want %d", url, size>>10, res.Status, want)
			}
		}
	}
	// What it buffers is in a memory of bounded size, whatever volume the image has there.
	inspected, err := h.Docker.ContainerInspect(t.Context(), h.container(t, "cc-ci_traefik"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range inspected.Mounts {
		if m.Type != mount.TypeTmpfs && m.Destination == "/tmp" || m.Type == mount.TypeVolume && !strings.HasPrefix(m.Name, Prefix) {
			t.Errorf("the proxy has %+v", m)
		}
	}
	conn, err := h.Dial(t.Context(), "tcp", "127.0.0.1:2222") // an entrypoint of its own
	if err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

// load asks the app without pause, over kept and over new connections, until stop, which says how
// many requests there were and how many of them failed.
func (h *testHost) load(t *testing.T) (stop func() (asked, failed int64)) {
	var asked, failed atomic.Int64
	begin := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			c := h.client(i%2 == 0)
			for ctx.Err() == nil {
				asked.Add(1)
				res, err := c.Get("https://wiki." + domain + "/health")
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if err == nil && res.StatusCode != 200 {
						err = fmt.Errorf("%s", res.Status)
					}
				}
				if err != nil {
					if failed.Add(1) < 10 {
						t.Logf("after %v: %v", time.Since(begin), err)
					}
				}
			}
		})
	}
	return func() (int64, int64) {
		cancel()
		load.Wait()
		t.Logf("%d requests in %v, %d failed", asked.Load(), time.Since(begin), failed.Load())
		return asked.Load(), failed.Load()
	}
}

// rotates puts a new certificate into place while requests come in, over new connections and
// over such that last.
func (h *testHost) rotates(t *testing.T) {
	begin, stop := time.Now(), h.load(t)
	older := h.leaf
	for range 2 {
		t.Logf("after %v: a new certificate", time.Since(begin))
		h.certificate(t, domain, "*."+domain)
		did := h.converge(t, h.options())
		if strings.Contains(strings.Join(did, "\n"), "cc-ci_traefik") {
			t.Errorf("Traefik itself is touched:\n%s", strings.Join(did, "\n"))
		}
	}
	if asked, failed := stop(); failed > 0 || asked < 100 {
		t.Error("that is not none of at least 100")
	}
	res, _ := get(t, h.client(false), "https://wiki."+domain+"/health")
	if served := res.TLS.PeerCertificates[0].Raw; !bytes.Equal(served, h.leaf) || bytes.Equal(served, older) {
		t.Error("another certificate than the new one is shown")
	}
	// One that would not do is refused, and the one before stays.
	good := h.leaf
	for want, make := range map[string]func(){
		"not any.ci.example.org": func() { h.certificate(t, domain) },
		"it is valid from": func() {
			writeCertificate(t, h.certs, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour), domain, "*."+domain)
		},
		"private key does not match": func() {
			text, err := os.ReadFile(h.certs + "/" + keyFile)
			if err != nil {
				t.Fatal(err)
			}
			h.certificate(t, domain, "*."+domain)
			if err := os.WriteFile(h.certs+"/"+keyFile, text, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		make()
		reports, err := h.runner(t).Run(t.Context(), unitsOf(h.options())...)
		if err == nil || !strings.Contains(err.Error(), want) || ccci.CodeOf(err) != ccci.CodeInvalid || len(reports[1].Actions) > 0 {
			t.Errorf("want %s, got %v", want, err)
		}
	}
	if res, _ := get(t, h.client(false), "https://"+domain+"/health"); !bytes.Equal(res.TLS.PeerCertificates[0].Raw, good) {
		t.Error("the good certificate is gone")
	}
	h.certificate(t, domain, "*."+domain)
	h.converge(t, h.options())
}

func (h *testHost) rollsBack(t *testing.T) {
	files, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Import(t.Context(), "traefik:broken", map[string]string{"/app": files["app"]}, `ENTRYPOINT ["/app"]`); err != nil {
		t.Fatal(err)
	}
	o := h.options()
	run := func() (string, error) {
		reports, err := h.runner(t).Run(t.Context(), unitsOf(o)...)
		return strings.Join(texts(reports[len(reports)-1].Actions), "\n"), err
	}
	o.Traefik = "traefik:absent"
	did, err := run()
	if err == nil || did != "" || !strings.Contains(err.Error(), "pulling image traefik:absent for service cc-ci_traefik") || ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("of an image that is not there it says %v after %s", err, did)
	}
	get(t, h.client(false), "https://wiki."+domain+"/health") // Traefik was not touched
	o.Traefik = "traefik:broken"
	stop := h.load(t)
	did, err = run()
	if err == nil || !strings.Contains(err.Error(), "cc-ci_traefik stays as it is: its next version, traefik:broken") || !strings.Contains(err.Error(), "non-zero exit") || ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("it says %v after %s", err, did)
	}
	if asked, failed := stop(); failed > 0 || asked < 100 {
		t.Error("that is not none of at least 100")
	}
	// It runs, but not with the ports: somebody else has one of them.
	o = h.options()
	o.Entrypoints = append(o.Entrypoints, Entrypoint{Name: "taken", Port: 2300})
	free := h.occupy(t, "2300")
	did, err = run()
	free()
	if err == nil || !strings.Contains(err.Error(), "was rolled back") || !strings.Contains(err.Error(), "2300") || ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("it says %v after %s", err, did)
	}
	h.await(t, "the version before serves", func() bool {
		res, err := h.client(false).Get("https://wiki." + domain + "/health")
		return err == nil && res.Body.Close() == nil && res.StatusCode == 200
	})
	begin := time.Now()
	if did, err := run(); err == nil || did != "" || !strings.Contains(err.Error(), "was rolled back") || time.Since(begin) > 2*time.Second {
		t.Errorf("a second run says %v after %s", err, did)
	}
	// The configuration that was tried in vain is all that is left of it.
	if did := h.converge(t, h.options()); len(did) != 1 || !strings.HasPrefix(did[0], "removing config proxy_static_") {
		t.Errorf("with what was before again it does\n%s", strings.Join(did, "\n"))
	}
}

// occupy takes a port of the host away until free.
func (h *testHost) occupy(t *testing.T, port string) (free func()) {
	t.Helper()
	c, err := h.Docker.ContainerCreate(t.Context(), &container.Config{Image: appImage, ExposedPorts: nat.PortSet{"8080/tcp": {}}},
		&container.HostConfig{PortBindings: nat.PortMap{"8080/tcp": {{HostPort: port}}}}, nil, nil, "occupier")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Docker.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := h.Docker.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// command is the shipped program: what it prints, and its exit codes.
func (h *testHost) command(t *testing.T) {
	files, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "cc-ci.yml")
	listed := "" // more of reconcile.proxy
	run := func(traefikImage string, args ...string) (int, string) {
		t.Helper()
		text := fmt.Sprintf("domain: %s\ndata: data\ningress: {kind: traefik}\nreconcile:\n  images: {cc_ci: %q, traefik: %q}\n  proxy: {certificates: %s, entrypoints: ['gitea-ssh:2222', 'mumble-udp:64738/udp']%s}\n  socket: %s\n",
			domain, selfImage, traefikImage, h.certs, listed, h.Socket)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := h.Command(t.Context(), files["cc-ci"], append([]string{"--config", config, "reconcile"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	// What the settings list as a gateway gets to Traefik's configuration, or is refused with its place.
	gateways := func(list string, code int, want ...string) {
		t.Helper()
		listed = ", gateways: " + list
		defer func() { listed = "" }()
		got, out := run(traefik.Image, "proxy", "--dry-run")
		for _, text := range want {
			if !strings.Contains(out, text) || got != code {
				t.Errorf("with the gateways %s it ends with %d and says not %q: %s", list, got, text, out)
			}
		}
	}
	gateways("[198.51.100.9]", 0, "proxy: creating config proxy_static_", "proxy: creating service cc-ci_traefik-trial", "proxy: updating service cc-ci_traefik", "proxy: 4 changes to make")
	gateways("[198.51.100.9, 10.1.2.3]", 2, "cc-ci.yml:6: reconcile.proxy.gateways[1]: 10.1.2.3/32 holds addresses of the networks that the swarm makes, 10.0.0.0/8")
	for _, tc := range []struct {
		image string
		args  []string
		code  int
		want  []string
	}{
		{traefik.Image, []string{"proxy"}, 0, []string{"swarm: nothing to do\nproxy: nothing to do\n"}},
		{traefik.Image, []string{"proxy", "--json"}, 0, []string{`"unit": "proxy",`, `"state": "nothing",`, `"actions": []`}},
		{"traefik:other", []string{"proxy", "--dry-run"}, 0, []string{"proxy: updating service cc-ci_traefik: Image is traefik:v3.6.12 and should be traefik:other", "proxy: 2 changes to make"}},
		{"traefik:broken", []string{"proxy"}, 3, []string{"its next version, traefik:broken, was tried beside it", "non-zero exit", "hint: "}},
		{"traefik:broken", []string{"proxy", "--json"}, 3, []string{`"state": "failed"`, `"code": "infra"`, "tried beside it"}},
		{"", []string{"proxy"}, 2, []string{"needs images", "reconcile.images.traefik"}},
		{traefik.Image, []string{"prox"}, 2, []string{`did you mean "proxy"?`}},
	} {
		code, out := run(tc.image, tc.args...)
		if code != tc.code {
			t.Errorf("%s %v ends with %d: %s", tc.image, tc.args, code, out)
		}
		for _, text := range tc.want {
			if !strings.Contains(out, text) {
				t.Errorf("%s %v says not %q: %s", tc.image, tc.args, text, out)
			}
		}
	}
}
