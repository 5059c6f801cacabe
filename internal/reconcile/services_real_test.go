package reconcile

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/recipe-maintainers/cc-ci/internal/doctor"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
)

// TestRealServices brings Drone, bridge and dashboard up behind the real proxy, on a Docker of the test's own:
// real programs in containers, with the forge and Redis away. What Drone's API is told, for
// which it needs a forge, is TestA16_RealDroneIsSetUp.
func TestRealServices(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dronetest.Import(t, h.Server, "drone:test", nil)
	inside := ThroughProxy(h.Dial, 443)
	dir := t.TempDir()
	data, tests, locks := filepath.Join(dir, "data"), filepath.Join(dir, "tests"), filepath.Join(dir, "locks")
	for _, folder := range []string{data, tests, locks} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("cc-ci.yml", `
processes: apart
bus: {kind: redis, redis: {url_file: redis_url}}
data: `+data+`
tests: `+tests+`
domain: `+domain+`
dashboard: {streams_per_address: 1}
url: https://`+domain+`
listen: 0.0.0.0:8480
bridge: {listen: "0.0.0.0:8481"}
engine: {kind: drone, drone: {url: "http://127.0.0.1:9", token_file: drone_token, repo: coop/cc-ci}}
forges: [{kind: gitea, name: git, url: "http://127.0.0.1:9", org: coop, token_file: git_token, repositories: [{repo: coop/wiki}]}]
`)
	socket := filepath.Join(dir, "redis", "redis.sock") // of a Redis that is away
	if err := os.Mkdir(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	redis := put("redis_url", "unix://:geheim@"+socket)
	secrets := []string{redis, put("drone_token", "drone-geheim"), put("git_token", "git-geheim")}
	self := func(secrets ...string) Self {
		return Self{Image: selfImage, Domain: domain, HTTPS: 443, Config: filepath.Join(dir, "cc-ci.yml"), Secrets: secrets, Data: data, Tests: tests, Dial: h.Dial,
			Bus: func() (string, string, error) { return "unix", socket, nil }}
	}
	reading := func(s Self) Self {
		s.Reads = []string{"store", "blobs"}
		return s
	}
	droneServer := func() Unit {
		o := droneOptions("https://drone." + domain)
		o.Image, o.Host, o.Transport = "drone:test", "drone."+domain, inside
		u := Drone(o)
		steps := u.Steps
		u.Steps = func(ctx context.Context) ([]Step, error) { // those that need no forge
			all, err := steps(ctx)
			return slices.DeleteFunc(all, func(s Step) bool { return s.Beside == nil }), err
		}
		return u
	}
	own := func() []Unit {
		return []Unit{
			droneServer(),
			Bridge(BridgeOptions{Self: self(secrets...), Port: 8481, Hook: "/hook/git", Locks: func() (string, error) { return locks, nil }}),
			Dashboard(DashboardOptions{Self: reading(self(redis)), Port: 8480}),
		}
	}
	proxy := h.options()
	converge := func() []string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		reports, err := h.runner(t).Run(ctx, append(unitsOf(proxy), own()...)...)
		if err != nil {
			t.Fatal(err)
		}
		var did []string
		for _, r := range reports {
			did = append(did, texts(r.Actions)...)
		}
		return did
	}

	// A32, A33: from nothing, in one go, and then there is nothing to do.
	begin := time.Now()
	did := converge()
	t.Logf("%d changes in %v", len(did), time.Since(begin))
	position := func(service string) int {
		return slices.Index(did, "creating service cc-ci_"+service+": it is not there")
	}
	if order := []int{position("traefik"), position("drone"), position("bridge"), position("dashboard")}; order[0] < 0 || !slices.IsSorted(order) {
		t.Errorf("the order is\n%s", strings.Join(did, "\n"))
	}
	if again := converge(); len(again) > 0 {
		t.Fatalf("then it does\n%s", strings.Join(again, "\n"))
	}

	// A29: Drone was told the token, and its log does not have it.
	var log bytes.Buffer
	out, err := h.Docker.ServiceLogs(t.Context(), "cc-ci_drone", container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stdcopy.StdCopy(&log, &log, out)
	out.Close()
	if err != nil || !strings.Contains(log.String(), "starting the http server") || strings.Contains(log.String(), "0123456789abcdef") {
		t.Errorf("%v, Drone says\n%s", err, &log)
	}
	if n := strings.Count(strings.Join(did, "\n"), "telling Drone the token of cibot"); n != 1 {
		t.Errorf("it was told %d times", n)
	}

	// N3: the doctor sees the settings of a server in a container, as it reads them itself.
	o := droneOptions("")
	if seen := doctor.DroneSettings("drone."+domain, o.Admin, o.Repo)(t.Context()); seen[0].Code != "" {
		t.Errorf("the doctor says %s: %s", seen[0].Check, seen[0].Message)
	}

	// A12, A27: both behind one name, each with its own paths.
	client := &http.Client{Transport: inside}
	for path, want := range map[string]int{"/": 200, "/badge/wiki.svg": 200, "/hook/git": 405, "/hook/nobody": 404, "/metrics": 404} {
		res, err := client.Get("https://" + domain + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || path == "/" && !strings.Contains(string(body), "<html") {
			t.Errorf("%s: %s", path, res.Status)
		}
	}

	// A31: a new token is a new version for the one service that reads it.
	put("git_token", "another")
	changed := converge()
	if len(changed) != 3 || !strings.HasPrefix(changed[0], "creating secret bridge_") || !strings.HasPrefix(changed[1], "updating service cc-ci_bridge") || !strings.HasPrefix(changed[2], "removing secret bridge_") {
		t.Errorf("a new token did\n%s", strings.Join(changed, "\n"))
	}

	// Behind a gateway all visitors are one client, who here has one live page, until the gateway is listed and names them.
	h.addresses(t)
	live := func(header string) int {
		t.Helper()
		res, err := h.ask(t.Context(), caller{from: theGateway, to: theHost, port: 443, header: header}, domain, "/events")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() }) // until then the page is live
		return res.StatusCode
	}
	if first, second := live(""), live(""); first != http.StatusOK || second != http.StatusServiceUnavailable {
		t.Errorf("of one address the live pages are answered %d and %d", first, second)
	}
	proxy.Gateways, proxy.Containers = []Gateway{{From: netip.MustParsePrefix(theGateway + "/32")}}, ContainerRanges(h.Docker)
	converge()
	h.await(t, "the dashboard is reached again", func() bool {
		res, err := h.ask(t.Context(), caller{from: theGateway, to: theHost, port: 443, header: header2("203.0.113.1:1")}, domain, "/healthz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	const one, other = "198.51.100.7:1", "198.51.100.8:1"
	if a, again, b := live(header2(one)), live(header2(one)), live(header2(other)); a != http.StatusOK || again != http.StatusServiceUnavailable || b != http.StatusOK {
		t.Errorf("live pages of one visitor are answered %d and %d, one of another %d", a, again, b)
	}
}

// The dashboard has no token, and nobody Docker's socket.
func TestA12_ServicesHoldLittle(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cc-ci.yml", "redis_url", "drone_token"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self := Self{Image: "cc-ci:1", Domain: domain, Config: filepath.Join(dir, "cc-ci.yml"), Data: dir, Tests: dir + "/none", Secrets: []string{filepath.Join(dir, "redis_url")}}
	bridge := self
	bridge.Secrets = append(bridge.Secrets, filepath.Join(dir, "drone_token"))
	for _, u := range []Unit{
		Dashboard(DashboardOptions{Self: self, Port: 1}),
		Bridge(BridgeOptions{Self: bridge, Port: 1, Locks: func() (string, error) { return "/run/lock/cc-ci/x", nil }}),
	} {
		d, err := u.Desired(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d.Unit = u.Name
		if err := d.check(); err != nil {
			t.Error(err)
		}
		c := d.Services[0].Spec.TaskTemplate.ContainerSpec
		var targets []string
		for _, s := range c.Secrets {
			targets = append(targets, s.File.Name)
		}
		want := []string{"/etc/cc-ci/redis_url"}
		if u.Name == "bridge" {
			want = append(want, "/etc/cc-ci/drone_token")
		}
		if !slices.Equal(targets, want) {
			t.Errorf("%s has the secrets %v", u.Name, targets)
		}
		for _, m := range c.Mounts {
			if strings.Contains(m.Source, "docker") {
				t.Errorf("%s mounts %s", u.Name, m.Source)
			}
		}
		if !c.ReadOnly || len(c.CapabilityDrop) != 1 {
			t.Errorf("%s is not confined", u.Name)
		}
	}
	// Beside another copy of the configuration the same secret has the same name.
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	there := self
	there.Config, there.Secrets = filepath.Join(copied, "cc-ci.yml"), []string{filepath.Join(copied, "redis_url")}
	w := newWorld()
	did(t, w, Unit{Name: "dashboard", Desired: Dashboard(DashboardOptions{Self: self, Port: 1}).Desired})
	if again := did(t, w, Unit{Name: "dashboard", Desired: Dashboard(DashboardOptions{Self: there, Port: 1}).Desired}); len(again) > 0 {
		t.Errorf("from another folder it does %v", again)
	}
	for name, spoil := range map[string]func(*Self){
		"no image": func(s *Self) { s.Image = "" }, "no configuration": func(s *Self) { s.Config = "" },
		"no secret": func(s *Self) { s.Secrets = []string{dir + "/none"} }, "no data": func(s *Self) { s.Data = dir + "/none" },
	} {
		s := self
		spoil(&s)
		if _, err := Dashboard(DashboardOptions{Self: s}).Desired(t.Context()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
