package ingress

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/box"
)

// TestMain lets this test binary stand for cc-ci inside the box, and for an app.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || (os.Args[1] != "ingress" && os.Args[1] != "app") {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var err error
	if os.Args[1] == "app" {
		err = http.ListenAndServe(os.Args[2], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "app at %s%s", r.Host, r.URL)
		}))
	} else {
		err = Serve(ctx, os.Args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// setup returns a daemon, a network and a box; all are removed after the test.
func setup(t *testing.T) (docker *client.Client, networkName, boxRef string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts containers")
	}
	need := func(what string, err error) {
		if err == nil {
			return
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("this test needs %s: %v", what, err)
		}
		t.Skipf("this test needs %s: %v", what, err)
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	need("Docker", err)
	_, err = docker.SwarmInspect(t.Context())
	need("an active swarm", err)
	restic, err := exec.LookPath("restic")
	need("restic", err)
	boxRef, err = box.Ensure(t.Context(), docker, os.Args[0], restic)
	if err != nil {
		t.Fatal(err)
	}
	after := context.WithoutCancel(t.Context())
	networkName = fmt.Sprintf("ccci-ingress-test-%d", os.Getpid())
	t.Cleanup(func() {
		_, _ = docker.ImageRemove(after, boxRef, image.RemoveOptions{Force: true, PruneChildren: true})
		docker.Close()
	})
	if _, err := docker.NetworkCreate(t.Context(), networkName, network.CreateOptions{Driver: "overlay", Attachable: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, func() error { return docker.NetworkRemove(after, networkName) })
	})
	return docker, networkName, boxRef
}

// eventually repeats until it succeeds, for up to 30 s.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// clientOf reaches the ingress under any name, and trusts its authority only.
func clientOf(in *Ingress) *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: in.CAs()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, in.Addr())
		},
		DisableKeepAlives: true,
	}}
}

// A24, A21, U22: on a real swarm, an app is reached under its own name over TLS.
func TestA24_ServesAnAppOfTheSwarm(t *testing.T) {
	docker, networkName, boxRef := setup(t)
	ctx := t.Context()
	after := context.WithoutCancel(ctx)
	// A path deeper than a socket's name may be.
	state := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	opts := Options{Docker: docker, Box: boxRef, Domain: "ci.localhost", StateDir: state}
	in, err := Ensure(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(after) })

	stack := stackOf(map[string]types.Labels{"app": labels(enable, "services.x.loadbalancer.server.port=8000",
		"routers.x.rule=Host(`blog-1a2b3c.ci.localhost`)", "routers.x.entrypoints=web-secure", "routers.x.tls.certresolver=")})
	stack.Name, stack.Domain = fmt.Sprintf("ingt%d_ci_localhost", os.Getpid()), "blog-1a2b3c.ci.localhost"
	service, err := docker.ServiceCreate(ctx, swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: stack.Name + "_app"},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Image: boxRef, Command: []string{box.Program, "app", ":8000"}},
			Networks:      []swarm.NetworkAttachmentConfig{{Target: networkName}},
		},
		EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR},
	}, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.ServiceRemove(after, service.ID) })

	const page = "https://blog-1a2b3c.ci.localhost/x"
	get := func(url string) (int, string, error) {
		resp, err := clientOf(in).Get(url)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	if code, body, err := get(page); code != 404 {
		t.Fatalf("before Route: %d %q, %v", code, body, err)
	}
	if err := in.Route(ctx, stack); err != nil {
		t.Fatal(err)
	}
	join := func(in *Ingress) { // as a deployment does
		t.Helper()
		eventually(t, func() error { return docker.NetworkConnect(ctx, networkName, in.Container(), nil) })
	}
	join(in)
	eventually(t, func() error {
		code, body, err := get(page)
		if err != nil || code != 200 || body != "app at blog-1a2b3c.ci.localhost/x" {
			return fmt.Errorf("app answers %d %q, %v", code, body, err)
		}
		return nil
	})

	t.Run("ensure again keeps it", func(t *testing.T) {
		again, err := Ensure(ctx, opts)
		if err != nil || again.Addr() != in.Addr() {
			t.Fatalf("second Ensure = %v, %v; want %s", again, err, in.Addr())
		}
		if err := again.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("web redirects", func(t *testing.T) {
		c := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := c.Get("http://" + in.WebAddr() + "/x")
		if err != nil || resp.StatusCode != 301 || resp.Header.Get("Location") != "https://"+in.Addr()+"/x" {
			t.Fatalf("web answers %+v, %v", resp, err)
		}
		resp.Body.Close()
	})
	t.Run("only loopback listens", func(t *testing.T) {
		if host, _, _ := net.SplitHostPort(in.Addr()); host != "127.0.0.1" {
			t.Errorf("published on %s", in.Addr())
		}
		bad := opts
		bad.Addr = "0.0.0.0:0"
		bad.StateDir = t.TempDir()
		if other, err := Ensure(ctx, bad); err == nil {
			_ = other.Close(ctx)
			t.Error("an address for everybody was accepted")
		}
	})
	t.Run("another domain replaces it and keeps the routes", func(t *testing.T) {
		other := opts
		other.Domain = "ci2.localhost"
		replaced, err := Ensure(ctx, other)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Ensure(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range []*Ingress{replaced, in} { // it stays for the one who is left
			if err := user.Close(ctx); err != nil {
				t.Fatal(err)
			}
		}
		in = back
		join(in)
		eventually(t, func() error {
			if code, body, err := get(page); code != 200 {
				return fmt.Errorf("after replacement: %d %q, %v", code, body, err)
			}
			return nil
		})
	})
	t.Run("unroute", func(t *testing.T) {
		for range 2 { // twice is legal
			if err := in.Unroute(ctx, stack.Name); err != nil {
				t.Fatal(err)
			}
		}
		if code, body, err := get(page); code != 404 {
			t.Errorf("after Unroute: %d %q, %v", code, body, err)
		}
	})
	t.Run("the last user removes it", func(t *testing.T) {
		for range 2 {
			if err := in.Close(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.Unroute(ctx, stack.Name); err != nil {
			t.Errorf("Unroute after Close: %v", err)
		}
		if err := in.Route(ctx, stack); err == nil {
			t.Error("Route after Close did not fail")
		}
	})
}

func TestEnsureRefuses(t *testing.T) {
	docker, err := client.NewClientWithOpts()
	if err != nil {
		t.Fatal(err)
	}
	good := Options{Docker: docker, Box: "b", Domain: "ci.localhost", StateDir: t.TempDir()}
	for name, change := range map[string]func(*Options){
		"no box":     func(o *Options) { o.Box = "" },
		"no docker":  func(o *Options) { o.Docker = nil },
		"no domain":  func(o *Options) { o.Domain = "" },
		"bad domain": func(o *Options) { o.Domain = "*.ci.localhost" },
		"no state":   func(o *Options) { o.StateDir = "" },
	} {
		o := good
		change(&o)
		if _, err := Ensure(t.Context(), o); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
