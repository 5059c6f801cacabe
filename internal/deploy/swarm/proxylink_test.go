package swarm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	dnetwork "github.com/docker/docker/api/types/network"
	dswarm "github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/traefik"
)

// edge is a host of the test's own with a real Traefik, and beside it a second proxy
// that is the tiny app: it says which names a proxy resolves.
type edge struct {
	*dockerd.Server
	t     *testing.T
	image string
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	e := &edge{Server: dockerd.Start(t), t: t}
	if _, err := e.Docker.SwarmInit(t.Context(), dswarm.InitRequest{ListenAddr: dockerd.Address + ":2377", AdvertiseAddr: dockerd.Address}); err != nil {
		t.Fatal(err)
	}
	e.image = deploytest.BuildImage(t, daemon(e.Docker))
	traefik.Import(t, e.Server)
	if _, err := e.Docker.NetworkCreate(t.Context(), "infra", dnetwork.CreateOptions{Driver: "overlay", Scope: "swarm"}); err != nil {
		t.Fatal(err)
	}
	e.infra("cc-ci_probe", &dswarm.ContainerSpec{Image: e.image}, nil)
	e.infra("cc-ci_traefik", &dswarm.ContainerSpec{
		Image: traefik.Image,
		Args: []string{
			"--entrypoints.web.address=:80", "--providers.providersThrottleDuration=100ms", "--core.defaultRuleSyntax=v2",
			"--providers.swarm.endpoint=unix:///docker.sock", "--providers.swarm.exposedByDefault=false", "--providers.swarm.refreshSeconds=300ms",
		},
		Mounts: []mount.Mount{{Type: mount.TypeBind, Source: e.Socket, Target: "/docker.sock"}},
	}, []dswarm.PortConfig{{TargetPort: 80, PublishedPort: 80, PublishMode: dswarm.PortConfigPublishModeHost}})
	return e
}

// infra starts a service as cc-ci reconcile keeps it.
func (e *edge) infra(name string, c *dswarm.ContainerSpec, ports []dswarm.PortConfig) {
	e.t.Helper()
	c.Labels = map[string]string{LabelProxy: "true"}
	_, err := e.Docker.ServiceCreate(e.t.Context(), dswarm.ServiceSpec{
		Annotations: dswarm.Annotations{Name: name},
		TaskTemplate: dswarm.TaskSpec{
			ContainerSpec: c, Networks: []dswarm.NetworkAttachmentConfig{{Target: "infra"}},
			RestartPolicy: &dswarm.RestartPolicy{Condition: dswarm.RestartPolicyConditionAny, Delay: new(time.Duration)},
		},
		EndpointSpec: &dswarm.EndpointSpec{Mode: dswarm.ResolutionModeDNSRR, Ports: ports},
	}, dswarm.ServiceCreateOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	e.eventually("a container of "+name, func() bool { return e.container(name) != "" })
}

// container is the running one of a service, "" without.
func (e *edge) container(service string) string {
	list, err := e.Docker.ContainerList(e.t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelServiceName+"="+service))})
	if err != nil || len(list) != 1 {
		return ""
	}
	return list[0].ID
}

func (e *edge) lastLog(service string) string {
	out, err := exec.Command("docker", "-H", "unix://"+e.Socket, "logs", "--tail", "15", e.container(service)).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func (e *edge) eventually(what string, ok func() bool) {
	e.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			e.t.Logf("Traefik says\n%s", e.lastLog("cc-ci_traefik"))
			e.t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// run is one run with one stack.
type testRun struct {
	*Deployer
	app    harness.App
	stack  *recipe.Stack
	domain string
}

func (e *edge) run(id, services string) *testRun {
	e.t.Helper()
	d, err := New(Options{
		RunID: ccci.RunID("260102-030405-" + id), Docker: e.Docker, EndpointMode: EndpointDNSRR,
		Logger: slog.New(slog.NewTextHandler(e.t.Output(), nil)), RemovePatience: 20 * time.Second,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	r := &testRun{Deployer: d, app: harness.App{RunID: d.o.RunID, StackName: "tiny-" + id + "_ci_test"}, domain: "tiny-" + id + ".ci.test"}
	e.t.Cleanup(func() {
		if _, err := d.Remove(context.Background(), r.app); err != nil {
			e.t.Errorf("removing run %s: %v", id, err)
		}
	})
	compose := "version: '3.8'\nservices:\n" + services + "networks: {proxy: {external: true}, inside: {}}\n"
	r.stack = deploytest.Stack(e.t, r.app.StackName, e.t.TempDir(), strings.NewReplacer("IMAGE", e.image, "STACK", r.app.StackName, "DOMAIN", r.domain, "ID", id).Replace(compose))
	r.deploy(e.t)
	return r
}

func (r *testRun) deploy(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := pullAndDeploy(ctx, r.Deployer, r.stack); err != nil {
		t.Fatalf("Deploy: %v", err)
	}
}

const publicApp = `
  app:
    image: IMAGE
    environment: [VERSION=ID]
    networks: [proxy, inside]
    healthcheck: {test: ["CMD", "/app", "health"], interval: 250ms, timeout: 2s, retries: 8}
    deploy:
      labels:
        - traefik.enable=true
        - traefik.docker.network=proxy
        - traefik.http.routers.STACK.rule=Host(` + "`DOMAIN`" + `)
        - traefik.http.routers.STACK.entrypoints=web
        - traefik.http.services.STACK.loadbalancer.server.port=8080
        - traefik.http.services.STACK.loadbalancer.healthcheck.path=/jump/cc-ci_probe
        - traefik.http.services.STACK.loadbalancer.healthcheck.interval=1s
        - traefik.http.middlewares.STACK-small.forwardauth.address=http://STACK_app:8080/
        - traefik.http.middlewares.STACK-large.forwardauth.address=http://STACK_app:8080/large
        - traefik.http.routers.STACK-small.rule=Host(` + "`DOMAIN`" + `) && Path(` + "`/small`" + `)
        - traefik.http.routers.STACK-small.middlewares=STACK-small
        - traefik.http.routers.STACK-large.rule=Host(` + "`DOMAIN`" + `) && Path(` + "`/guarded`" + `)
        - traefik.http.routers.STACK-large.middlewares=STACK-large
`

// get asks Traefik for a host and a path, "/" by default.
func (e *edge) get(address string) string {
	host, path, _ := strings.Cut(address, "/")
	ctx, cancel := context.WithTimeout(e.t.Context(), 3*time.Second)
	defer cancel()
	conn, err := e.Dial(ctx, "tcp", net.JoinHostPort(dockerd.Address, "80"))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		return res.Status
	}
	return string(body)
}

// reach asks hosts from inside a container, all at once.
func (e *edge) reach(id string, hosts ...string) map[string]string {
	e.t.Helper()
	made, err := e.Docker.ContainerExecCreate(e.t.Context(), id, container.ExecOptions{Cmd: append([]string{"/app", "reach"}, hosts...), AttachStdout: true, Tty: true})
	if err != nil {
		e.t.Fatal(err)
	}
	attached, err := e.Docker.ContainerExecAttach(e.t.Context(), made.ID, container.ExecAttachOptions{Tty: true})
	if err != nil {
		e.t.Fatal(err)
	}
	defer attached.Close()
	text, err := io.ReadAll(attached.Reader)
	if err != nil {
		e.t.Fatal(err)
	}
	answers := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if host, answer, ok := strings.Cut(strings.TrimSpace(line), " "); ok && slices.Contains(hosts, host) {
			answers[host] = answer
		}
	}
	return answers
}

// on reports whether a container has an endpoint on a run's network.
func (e *edge) on(id string, r *testRun) bool {
	n, err := e.Docker.NetworkInspect(e.t.Context(), RunNetwork(r.o.RunID), dnetwork.InspectOptions{})
	_, there := n.Containers[id]
	return err == nil && there
}

// networks lists the networks of runs that a container is on, by its own account.
func (e *edge) networks(id string) []string {
	e.t.Helper()
	c, err := e.Docker.ContainerInspect(e.t.Context(), id)
	if err != nil {
		e.t.Fatal(err)
	}
	var out []string
	for name := range c.NetworkSettings.Networks {
		if strings.HasPrefix(name, runNetworkPrefix) {
			out = append(out, name)
		}
	}
	return out
}

// The names that a run would take to be found in place of others. Admission refuses most
// of them; here the deployer stands alone.
const hostileServices = publicApp + `
  traefik: &evil
    image: IMAGE
    environment: [VERSION=hostile]
    networks: {proxy: {aliases: [redis, dashboard, tiny-aaaaaa_ci_test_app, TINY-AAAAAA_CI_TEST_APP, tiny-aaaaaa.ci.test]}}
  drone: *evil
  cc-ci_socket-proxy: *evil
  cc-ci_dashboard: *evil
  TINY-AAAAAA_CI_TEST_APP: *evil
  named:
    image: IMAGE
    environment: [VERSION=hostile]
    hostname: tiny-aaaaaa_ci_test_app
    networks: [proxy]
  named2:
    image: IMAGE
    environment: [VERSION=hostile]
    hostname: cc-ci_socket-proxy
    networks: [proxy]
`

// Two runs side by side behind the real Traefik, one of them hostile: the proxy reaches
// each by its own name alone, is on no network of a run that has ended, and is back on
// those of the living when it is replaced.
func TestN3_RunsMeetTheProxyAndNobodyElse(t *testing.T) {
	e := newEdge(t)
	a := e.run("aaaaaa", publicApp)
	b := e.run("bbbbbb", hostileServices)
	for _, r := range []*testRun{a, b} {
		want := strings.TrimPrefix(string(r.o.RunID), "260102-030405-")
		e.eventually(want+" is served", func() bool { return e.get(r.domain) == want })
	}

	// An authentication server is asked, and what it may answer is bounded.
	for path, want := range map[string]string{"/small": "aaaaaa", "/guarded": "401 Unauthorized"} {
		if got := e.get(a.domain + path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}

	// A health check does not follow the app to a service of the host. The proxy asks for the
	// second time when it is through with the first.
	e.eventually("the health check asks twice", func() bool {
		return strings.Count(e.lastLog(a.app.StackName+"_app"), "sent to cc-ci_probe") > 1
	})
	if log := e.lastLog("cc-ci_probe"); strings.Contains(log, "reached") {
		t.Errorf("the health check followed a redirect; a service of the host says\n%s", log)
	}

	// What the proxy finds under names of others.
	names := []string{
		"traefik", "drone", "redis", "dashboard", "cc-ci_socket-proxy", "CC-CI_Socket-Proxy", "cc-ci_dashboard", "named",
		"tiny-aaaaaa_ci_test_app", "TINY-AAAAAA_CI_TEST_APP", "tasks.tiny-aaaaaa_ci_test_app", "tiny-aaaaaa.ci.test", "tiny-bbbbbb_ci_test_traefik",
	}
	for range 3 {
		for name, answer := range e.reach(e.container("cc-ci_probe"), names...) {
			want := map[bool]string{true: "aaaaaa", false: ""}[strings.Contains(strings.ToLower(name), "aaaaaa")]
			if strings.Contains(name, "bbbbbb") {
				want = "hostile" // its own name
			}
			if answer != want {
				t.Errorf("the proxy gets %q from %s, want %q", answer, name, want)
			}
		}
	}

	// From inside the hostile run: the host's own services and the other run by name and address.
	theirs := []string{"cc-ci_traefik", "cc-ci_probe.1", "app.cc-ci-run-260102-030405-aaaaaa", "tiny-aaaaaa_ci_test_app", "TINY-aaaaaa_ci_test_APP"}
	inspected, err := e.Docker.ContainerInspect(t.Context(), e.container(a.app.StackName+"_app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range inspected.NetworkSettings.Networks {
		theirs = append(theirs, n.IPAddress)
	}
	for host, answer := range e.reach(e.container(b.app.StackName+"_drone"), theirs...) {
		if answer != "hostile" {
			t.Errorf("the hostile run gets %q from %s", answer, host)
		}
	}

	// A proxy that is replaced comes back by itself.
	old := e.container("cc-ci_traefik")
	if err := e.Docker.ContainerRemove(t.Context(), old, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	e.eventually("another proxy", func() bool { id := e.container("cc-ci_traefik"); return id != "" && id != old })
	replaced := time.Now()
	fresh := e.container("cc-ci_traefik")
	e.eventually("it is on both networks", func() bool { return e.on(fresh, a) && e.on(fresh, b) })
	t.Logf("attached %s after the new container was seen", time.Since(replaced).Round(time.Millisecond))
	e.eventually("the app is served again", func() bool { return e.get(a.domain) == "aaaaaa" })

	// A run that ends takes its network along and leaves the other's alone.
	started := time.Now()
	if _, err := a.Remove(t.Context(), a.app); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed in %s", time.Since(started).Round(time.Millisecond))
	if got := e.networks(fresh); !slices.Equal(got, []string{RunNetwork(b.o.RunID)}) {
		t.Errorf("the proxy is on %v", got)
	}
	if _, err := e.Docker.NetworkInspect(t.Context(), RunNetwork(a.o.RunID), dnetwork.InspectOptions{}); !cerrdefs.IsNotFound(err) {
		t.Errorf("the network of the run that ended: %v", err)
	}

	// A run whose process was killed: the janitor, which knows its labels alone, twice, and with
	// a proxy that went meanwhile.
	b.link.stop()
	if err := e.Docker.ContainerRemove(t.Context(), e.container("cc-ci_probe"), container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	janitor, err := New(Options{RunID: "janitor", Docker: e.Docker})
	if err != nil {
		t.Fatal(err)
	}
	found, err := janitor.Apps(t.Context())
	if err != nil || len(found) == 0 {
		t.Fatalf("the janitor finds %v, %v", found, err)
	}
	for range 2 {
		for _, app := range found {
			if _, err := janitor.Remove(t.Context(), app); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := e.networks(e.container("cc-ci_traefik")); len(got) > 0 {
		t.Errorf("the proxy is on %v", got)
	}
	all, err := janitor.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if o.Run != "" {
			t.Errorf("%s %s is still there", o.Kind, o.Name)
		}
	}
}

// An app that is stopped has no task. Swarm leaves its network behind for good if the proxy is
// on it then; Remove would not come to an end.
func TestN3_AStoppedAppLeavesNoNetwork(t *testing.T) {
	e := newEdge(t)
	r := e.run("cccccc", publicApp)
	proxy := e.container("cc-ci_traefik")
	if !e.on(proxy, r) {
		t.Fatal("the proxy is not on the run's network")
	}
	running := *r.stack.Config
	stopped := running
	stopped.Services = slices.Clone(running.Services)
	stopped.Services[0].Deploy.Replicas = new(uint64)
	r.stack.Config = &stopped
	r.deploy(t)
	if e.on(proxy, r) {
		t.Error("the proxy is on the network of a stopped app")
	}
	r.stack.Config = &running
	r.deploy(t)
	e.eventually("the app is served again", func() bool { return e.get(r.domain) == "cccccc" })
	r.stack.Config = &stopped
	r.deploy(t)
	e.eventually("swarm has removed the tasks", func() bool {
		tasks, err := e.Docker.TaskList(t.Context(), dswarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", r.app.StackName+"_app"))})
		return err == nil && len(tasks) == 0
	})
	if _, err := r.Remove(t.Context(), r.app); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Docker.NetworkInspect(t.Context(), RunNetwork(r.o.RunID), dnetwork.InspectOptions{}); !cerrdefs.IsNotFound(err) {
		t.Errorf("the network of the run that ended: %v", err)
	}
}

// A proxy that is no task of swarm is on the run's network before there is an app: making a network
// costs most of a second, which the first task need not wait for.
func TestN3_TheProxyIsOnTheNetworkBeforeTheApp(t *testing.T) {
	e := newEdge(t)
	ctx := t.Context()
	made, err := e.Docker.ContainerCreate(ctx, &container.Config{Image: e.image, Labels: map[string]string{LabelProxy: "true"}}, nil, nil, nil, "own-proxy")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	newRun := func(id string) *testRun {
		d, err := New(Options{RunID: ccci.RunID("260102-030405-" + id), Docker: e.Docker, EndpointMode: EndpointDNSRR, Proxy: "own-proxy", RemovePatience: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return &testRun{Deployer: d, app: harness.App{RunID: d.o.RunID, StackName: "tiny-" + id + "_ci_test"}}
	}
	gone := func(r *testRun) {
		t.Helper()
		if _, err := r.Remove(ctx, r.app); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Docker.NetworkInspect(ctx, RunNetwork(r.o.RunID), dnetwork.InspectOptions{}); !cerrdefs.IsNotFound(err) {
			t.Errorf("the network stays: %v", err)
		}
		if got := e.networks(made.ID); len(got) > 0 {
			t.Errorf("the proxy stays on %v", got)
		}
	}

	// A run that is refused: nothing else was made.
	refused := newRun("cccccc")
	refused.Prepare(ctx)
	refused.Prepare(ctx)
	if !e.on(made.ID, refused) {
		t.Error("the proxy is not on the network of the run")
	}
	gone(refused)

	// Beside a deployment, which makes the same network.
	r := newRun("dddddd")
	r.stack = deploytest.Stack(t, r.app.StackName, t.TempDir(), "version: '3.8'\nservices:\n  app:\n    image: "+e.image+"\n    networks: [proxy]\nnetworks: {proxy: {external: true}}\n")
	prepared := make(chan struct{})
	go func() { defer close(prepared); r.Prepare(ctx) }()
	r.deploy(t)
	<-prepared
	if !e.on(made.ID, r) {
		t.Error("the proxy is not on the network of the run")
	}
	gone(r)
}
