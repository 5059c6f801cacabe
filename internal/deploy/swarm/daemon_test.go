package swarm

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dswarm "github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// tiny deploys one tiny app and returns its Deployer.
func tiny(t *testing.T, cli *client.Client, o Options, compose string) (*Deployer, harness.App, func() string) {
	t.Helper()
	run, err := ccci.NewRunID(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o.RunID, o.Docker = run, cli
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	app := harness.App{RunID: run, StackName: run.AppName("tiny") + "_ci_test"}
	t.Cleanup(func() {
		if _, err := d.Remove(context.Background(), app); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
	stack := deploytest.Stack(t, app.StackName, t.TempDir(), compose)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := pullAndDeploy(ctx, d, stack); err != nil {
		t.Fatalf("Deploy: %v", err)
	}
	return d, app, func() string {
		conn, err := d.Dial(t.Context(), stack, "app", 8080)
		if err != nil {
			t.Fatalf("Dial: %v", err)
		}
		defer conn.Close()
		request, err := http.NewRequest("GET", "http://app/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		if err := request.Write(conn); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Fatalf("reading an answer: %v", err)
		}
		return string(answer)
	}
}

const tinyCompose = `
version: "3.8"
services:
  app:
    image: IMAGE
    environment: [VERSION=one]
    networks: [NET]
    healthcheck: {test: ["CMD", "/app", "health"], interval: 250ms, timeout: 2s, retries: 8}
networks: {NET: OPTS}
`

// A network that is internal has no bridge to the host; the box goes in.
func TestDialThroughBoxIntoInternalNetwork(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	box := Box{Image: img, Dial: func(address string) []string { return []string{"/app", "dial", address} }}
	compose := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS", "{internal: true}").Replace(tinyCompose)
	_, _, get := tiny(t, cli, Options{Box: box}, compose)
	for range 2 {
		if answer := get(); !strings.HasSuffix(answer, "\r\n\r\none") {
			t.Errorf("the app answers %q", answer)
		}
	}
}

func TestDialWithoutRouteSaysSo(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	compose := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS", "{internal: true}").Replace(tinyCompose)
	d, app, _ := tiny(t, cli, Options{}, compose)
	_, err := d.Dial(t.Context(), deploytest.Stack(t, app.StackName, t.TempDir(), compose), "app", 8080)
	if err == nil || ccci.HintOf(err) == "" || !strings.Contains(err.Error(), "no route") {
		t.Errorf("Dial: %v, hint %q", err, ccci.HintOf(err))
	}
}

// The removal of a tiny app that is on the proxy network only takes at most a second
// on an idle machine; the bound here allows for a busy one.
func TestA19_TinyTeardownIsFast(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	compose := strings.NewReplacer("IMAGE", img, "NET", "proxy", "OPTS", "{external: true}").Replace(tinyCompose)
	d, app, get := tiny(t, cli, Options{}, compose)
	get()
	started := time.Now()
	removed, err := d.Remove(t.Context(), app)
	took := time.Since(started)
	t.Logf("removed %v in %s", removed, took.Round(time.Millisecond))
	if err != nil || took > 3*time.Second {
		t.Errorf("Remove took %s: %v", took, err)
	}
}

func TestA20_AppsAreFound(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	compose := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS", "{}").Replace(tinyCompose)
	d, app, _ := tiny(t, cli, Options{}, compose)
	find := func() bool {
		all, err := d.Apps(t.Context())
		if err != nil {
			t.Fatalf("Apps: %v", err)
		}
		for _, a := range all {
			if a.RunID == app.RunID && a.StackName == app.StackName {
				return true
			}
		}
		return false
	}
	if !find() {
		t.Error("the app is not found")
	}
	if _, err := d.Remove(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if find() {
		t.Error("the app is found after its removal")
	}
}

// What a person reads when Docker is not there.
func TestDockerNotRunning(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	d, err := New(Options{RunID: "r", Host: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Snapshot(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Docker does not answer") || !strings.Contains(ccci.HintOf(err), "start it") {
		t.Errorf("Snapshot: %v, hint %q", err, ccci.HintOf(err))
	}
	if ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("code = %s", ccci.CodeOf(err))
	}
}

func TestNoPermissionOnTheSocket(t *testing.T) {
	d, err := New(Options{RunID: "r", Host: "unix:///var/run/docker.sock"})
	if err != nil {
		t.Fatal(err)
	}
	err = d.fault("asking Docker", &os.PathError{Op: "dial", Path: "/var/run/docker.sock", Err: os.ErrPermission})
	if !strings.Contains(err.Error(), "no permission on the Docker socket") || !strings.Contains(ccci.HintOf(err), "docker") {
		t.Errorf("%v, hint %q", err, ccci.HintOf(err))
	}
}

func TestNotASwarmManager(t *testing.T) {
	cases := map[string]dswarm.Info{
		"docker swarm init":   {LocalNodeState: dswarm.LocalNodeStateInactive},
		"docker swarm unlock": {LocalNodeState: dswarm.LocalNodeStateLocked},
		"docker info":         {LocalNodeState: dswarm.LocalNodeStateError, Error: "x"},
		"docker node promote": {LocalNodeState: dswarm.LocalNodeStateActive, NodeID: "n"},
	}
	for hint, info := range cases {
		if err := swarmState(info); err == nil || !strings.Contains(ccci.HintOf(err), hint) {
			t.Errorf("%s: %v, hint %q", info.LocalNodeState, err, ccci.HintOf(err))
		}
	}
	if err := swarmState(dswarm.Info{LocalNodeState: dswarm.LocalNodeStateActive, ControlAvailable: true}); err != nil {
		t.Errorf("a manager is refused: %v", err)
	}
}

func TestIPVSIsFound(t *testing.T) {
	cases := map[string]struct {
		file, text string
		want       bool
	}{
		"loaded":        {"proc/net/ip_vs", "IP Virtual Server version 1.2.1", true},
		"in the list":   {"proc/modules", "xt_ipvs 16384 0 - Live 0x0\nip_vs 180224 2 xt_ipvs, Live 0x0\n", true},
		"only a cousin": {"proc/modules", "xt_ipvs 16384 0 - Live 0x0\nip_vs_rr 16384 0 - Live 0x0\n", false},
		"built in":      {"lib/modules/6.1/modules.builtin", "kernel/net/netfilter/ipvs/ip_vs.ko\n", true},
		"loadable":      {"lib/modules/6.1/modules.dep", "kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/libcrc32c.ko.xz\n", true},
		"other kernel":  {"lib/modules/5.9/modules.dep", "kernel/net/netfilter/ipvs/ip_vs.ko: \n", false},
		"absent":        {"proc/modules", "", false},
	}
	for name, c := range cases {
		root := t.TempDir()
		path := filepath.Join(root, c.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := hasIPVS(root, "6.1"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An image that cannot be had is an error of its own, and tells whose fault it is.
func TestU19_PullFaultsTellWhoseTheyAre(t *testing.T) {
	d, err := New(Options{RunID: "r", Host: "unix:///none"})
	if err != nil {
		t.Fatal(err)
	}
	for text, code := range map[string]ccci.Code{
		"manifest for nginx:9.9 not found: manifest unknown: manifest unknown":                                         ccci.CodeRecipe,
		"pull access denied for nobody/none, repository does not exist or may require 'docker login'":                  ccci.CodeRecipe,
		"toomanyrequests: You have reached your pull rate limit":                                                       ccci.CodeInfra,
		"Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host":                        ccci.CodeRecipe,
		"Get \"https://registry.example/v2/\": net/http: request canceled (Client.Timeout exceeded)":                   ccci.CodeInfra,
		"unauthorized: authentication required":                                                                        ccci.CodeRecipe,
		"Head \"https://ghcr.io/v2/x/y/manifests/z\": denied":                                                          ccci.CodeRecipe,
		"Get \"https://registry.example/v2/\": dial tcp: lookup registry.example on 127.0.0.53:53: server misbehaving": ccci.CodeInfra,
		"Get \"https://registry.example/v2/\": dial tcp 192.0.2.1:443: connect: connection refused":                    ccci.CodeInfra,
		"received unexpected HTTP status: 503 Service Unavailable":                                                     ccci.CodeInfra,
		"unexpected status from HEAD request to https://r.example/v2/x/manifests/1: 502 Bad Gateway":                   ccci.CodeInfra,
		"error parsing HTTP 500 response body: not found":                                                              ccci.CodeInfra,
		"manifest for r.example/x:500 not found: manifest unknown":                                                     ccci.CodeRecipe,
		"repository name not known to registry: name unknown":                                                          ccci.CodeRecipe,
		"write /var/lib/docker/tmp/x: no space left on device":                                                         ccci.CodeInfra,
		"Get \"http://10.0.0.1:2019/token\": dial tcp 10.0.0.1:2019: connect: no route to host":                        ccci.CodeInfra,
	} {
		err := d.pullFault("pulling image x of service app", "registry.example/x", false, errText(text))
		if strings.Contains(text, "no route to host") != strings.Contains(ccci.HintOf(err), "docker_allow") {
			t.Errorf("%s: hint %q", text, ccci.HintOf(err))
		}
		if ccci.CodeOf(err) != code || ccci.HintOf(err) == "" {
			t.Errorf("%s: code %s, hint %q", text, ccci.CodeOf(err), ccci.HintOf(err))
		}
	}
	// A recipe does not choose the name of Docker Hub, and credentials are ours.
	if err := d.pullFault("", "nginx:1", false, errText("dial tcp: lookup registry-1.docker.io: no such host")); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Error(err)
	}
	if err := d.pullFault("", "r.example/x", true, errText("unauthorized: incorrect username or password")); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Error(err)
	}
}

type errText string

func (e errText) Error() string { return string(e) }
