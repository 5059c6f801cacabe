package swarm

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// converted converts one service on the proxy's network, named web in the recipe, and on
// one of the stack's own.
func converted(t *testing.T, key, aliases, rest string) (*model, swarm.ServiceSpec) {
	t.Helper()
	compose := "version: '3.8'\nservices:\n  " + key + ":\n    image: x:1\n    networks: {web: {aliases: [" + aliases + "]}, inside: {}}\n" + rest +
		"networks: {web: {external: true, name: edge}, inside: {}}\n"
	m, err := convert(deploytest.Stack(t, "wiki-0a1b2c_ci_test", "/recipe", compose), nil, "260102-030405-abcdef", false, "edge", Ceilings{})
	if err != nil {
		t.Fatal(err)
	}
	return m, m.services[0].spec
}

func attachment(t *testing.T, spec swarm.ServiceSpec, target string) []string {
	t.Helper()
	for _, n := range spec.TaskTemplate.Networks {
		if n.Target == target {
			return n.Aliases
		}
	}
	t.Fatalf("no attachment to %s in %v", target, spec.TaskTemplate.Networks)
	return nil
}

const runNet = "cc-ci-run-260102-030405-abcdef"

// The network that a recipe shares with everybody in production is the run's own here.
func TestN3_TheRunsOwnNetworkToTheProxy(t *testing.T) {
	m, spec := converted(t, "app", "", "")
	if len(m.external.networks) != 0 || m.networks[runNet].Labels[LabelRun] != "260102-030405-abcdef" || !m.networks[runNet].Attachable {
		t.Errorf("external %v, own %+v", m.external.networks, m.networks)
	}
	if !m.proxied || len(spec.TaskTemplate.Networks) != 2 {
		t.Errorf("proxied %t, %+v", m.proxied, spec.TaskTemplate.Networks)
	}
	if m, _ := converted(t, "app", "", "    deploy: {replicas: 0}\n"); m.proxied {
		t.Error("a stopped app needs the proxy")
	}
}

// On the proxy's network a service has no name that another run could have, in any spelling.
func TestN3_NamesOnTheProxysNetwork(t *testing.T) {
	for alias, want := range map[string][]string{
		"traefik":                        nil,
		"drone":                          nil,
		"cc-ci_socket-proxy":             nil,
		"DRONE":                          nil,
		"tasks.cc-ci_traefik":            nil,
		"blog-ffffff_ci_test_app":        nil,
		"BLOG-FFFFFF_CI_TEST_APP":        nil,
		"blog-ffffff.ci.test":            nil,
		"wiki-0a1b2c_ci_testx":           nil,
		"evil.example":                   nil,
		"app":                            nil,
		"'{{.Node.Hostname}}.ci.test'":   nil,
		"'wiki-0a1b2c_ci_test_{{x}}'":    nil,
		"wiki-0a1b2c_ci_test_redis":      {"wiki-0a1b2c_ci_test_redis"},
		"WIKI-0A1B2C_CI_TEST_REDIS":      {"wiki-0a1b2c_ci_test_redis"},
		"wiki-0a1b2c.ci.test":            {"wiki-0a1b2c.ci.test"},
		"Wiki-0a1b2c.CI.test":            {"wiki-0a1b2c.ci.test"},
		"www.wiki-0a1b2c.ci.test":        {"www.wiki-0a1b2c.ci.test"},
		"sandbox-wiki-0a1b2c.ci.test":    {"sandbox-wiki-0a1b2c.ci.test"},
		"wiki-0a1b2c.ci.test, otherapp1": {"wiki-0a1b2c.ci.test"},
	} {
		_, spec := converted(t, "app", alias, "")
		if diff := cmp.Diff(want, attachment(t, spec, runNet)); diff != "" {
			t.Errorf("alias %s (-want +got):\n%s", alias, diff)
		}
	}
	for _, key := range []string{"traefik", "drone", "cc-ci_socket-proxy", "APP", "blog-ffffff_ci_test_app"} {
		_, spec := converted(t, key, "", "    hostname: "+key+"\n")
		if got := attachment(t, spec, runNet); len(got) > 0 {
			t.Errorf("the service %s is %v", key, got)
		}
		if got := attachment(t, spec, "wiki-0a1b2c_ci_test_inside"); !cmp.Equal(got, []string{key}) {
			t.Errorf("inside its stack the service %s is %v", key, got)
		}
	}
}

// A host name becomes an alias on every network of the container.
func TestN3_HostnamesOnTheProxysNetwork(t *testing.T) {
	for _, tc := range []struct{ hostname, want, inside string }{
		{"traefik", "wiki-0a1b2c-app", "app traefik"},
		{"app", "wiki-0a1b2c-app", "app"},
		{"cc-ci_socket-proxy", "wiki-0a1b2c-app", "app cc-ci_socket-proxy"},
		{"blog-ffffff_ci_test_app", "wiki-0a1b2c-app", "app blog-ffffff_ci_test_app"},
		{"''", "", "app"},
		{"'{{.Service.Name}}'", "wiki-0a1b2c-app", "app"},
		{"wiki-0a1b2c.ci.test", "wiki-0a1b2c.ci.test", "app"},
		{"Mail.wiki-0a1b2c.ci.test", "Mail.wiki-0a1b2c.ci.test", "app"},
		{"wiki-0a1b2c_ci_test_app", "wiki-0a1b2c_ci_test_app", "app"},
	} {
		_, spec := converted(t, "app", "", "    hostname: "+tc.hostname+"\n")
		if got := spec.TaskTemplate.ContainerSpec.Hostname; got != tc.want {
			t.Errorf("hostname %s: %q, want %q", tc.hostname, got, tc.want)
		}
		if got := strings.Join(attachment(t, spec, "wiki-0a1b2c_ci_test_inside"), " "); got != tc.inside {
			t.Errorf("hostname %s: %q inside the stack, want %q", tc.hostname, got, tc.inside)
		}
	}
	m, err := convert(deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.8'\nservices:\n  db: {image: 'x:1', hostname: traefik}\n"), nil, "r", true, "proxy", Ceilings{})
	if err != nil || m.services[0].spec.TaskTemplate.ContainerSpec.Hostname != "traefik" {
		t.Errorf("a service that is not on the proxy's network lost its hostname: %v", err)
	}
	long := strings.Repeat("a", 60)
	if _, spec := converted(t, long, "", "    hostname: x\n"); len(spec.TaskTemplate.ContainerSpec.Hostname) > 63 {
		t.Errorf("hostname %s is too long for Linux", spec.TaskTemplate.ContainerSpec.Hostname)
	}
}

// Traefik looks for an app on the network that its label names.
func TestN3_TraefikIsToldTheRunsNetwork(t *testing.T) {
	const v2, v3 = "traefik.docker.network", "traefik.swarm.network"
	for _, tc := range []struct{ labels, v2, v3 string }{
		{"traefik.enable=true", runNet, ""},
		{"traefik.enable=true, " + v2 + "=edge", runNet, ""},
		{"traefik.enable=true, " + v3 + "=edge", "", runNet},
		{"traefik.enable=1, traefik.swarm.lbswarm=false", "", runNet},
		{"traefik.enable=false", "", ""},
		{"other=1", "", ""},
		{"traefik.enable=true, " + v2 + "=", runNet, ""},
		{"traefik.enable=true, " + v2 + "=wiki-0a1b2c_ci_test_inside", "wiki-0a1b2c_ci_test_inside", ""},
	} {
		_, spec := converted(t, "app", "", "    deploy: {labels: ['"+strings.ReplaceAll(tc.labels, ", ", "','")+"']}\n")
		if spec.Labels[v2] != tc.v2 || spec.Labels[v3] != tc.v3 {
			t.Errorf("%s: %q and %q", tc.labels, spec.Labels[v2], spec.Labels[v3])
		}
	}
	_, spec := converted(t, "app", "", "    deploy: {labels: ['Traefik.Enable=true', 'Traefik.Docker.Network=edge']}\n")
	if spec.Labels["Traefik.Docker.Network"] != runNet {
		t.Errorf("a label in other letters keeps %v", spec.Labels)
	}
}

// What a recipe leaves out is set where the proxy's default is harmful, and nowhere else.
func TestN3_HarmfulDefaultsOfTheProxyAreSet(t *testing.T) {
	const auth, other = "traefik.http.middlewares.a.forwardauth.", "traefik.http.middlewares.B.ForwardAuth."
	const health, off = "traefik.http.services.Checked.loadbalancer.healthcheck.", "traefik.http.services.off.LoadBalancer.HealthCheck."
	_, spec := converted(t, "app", "", "    deploy: {labels: ['"+auth+"address=http://x/','"+other+"MaxResponseBodySize=77','traefik.http.middlewares.c.compress=true',"+
		"'"+health+"path=/','"+health+"interval=5s','"+off+"FollowRedirects=0','traefik.http.services.plain.loadbalancer.server.port=80']}\n")
	want := map[string]string{
		auth + "address": "http://x/", auth + "maxresponsebodysize": "262144", auth + "maxbodysize": "1048576",
		other + "MaxResponseBodySize": "77", "traefik.http.middlewares.B.forwardauth.maxbodysize": "1048576",
		"traefik.http.middlewares.c.compress": "true",
		health + "path":                       "/", health + "interval": "5s", health + "followredirects": "false",
		off + "FollowRedirects":                                "0",
		"traefik.http.services.plain.loadbalancer.server.port": "80",
	}
	got := map[string]string{}
	for key, value := range spec.Labels {
		if strings.HasPrefix(key, "traefik.http.") {
			got[key] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A recipe does not mark its container as the proxy, nor as another run's.
func TestN3_LabelsOfOursAreNotARecipes(t *testing.T) {
	_, spec := converted(t, "app", "", "    labels: {cc-ci.proxy: 'true', cc-ci.run: other, kept: 'yes'}\n    deploy: {labels: {cc-ci.ingress: x}}\n")
	got := spec.TaskTemplate.ContainerSpec.Labels
	if got[LabelProxy] != "" || got[LabelRun] != "260102-030405-abcdef" || got["kept"] != "yes" || spec.Labels[labelIngress] != "" {
		t.Errorf("%v %v", got, spec.Labels)
	}
	d, err := New(Options{RunID: "r", Host: "unix:///none"})
	if err != nil {
		t.Fatal(err)
	}
	if !d.isProxy("/x", map[string]string{LabelProxy: "true"}) {
		t.Error("the proxy is not found")
	}
	// From an image's own labels.
	if d.isProxy("/x", map[string]string{LabelProxy: "true", LabelRun: "r2"}) {
		t.Error("a container of a run is taken for the proxy")
	}
}

// An image brings labels of its own along. None of them keeps a container from being counted.
func TestN3_AnImageHidesNoContainer(t *testing.T) {
	if !isIngress(map[string]string{labelIngress: "digest"}) || isIngress(map[string]string{LabelRun: "r"}) {
		t.Error("the ingress is not told from a run")
	}
	if isIngress(map[string]string{labelIngress: "digest", LabelRun: "r"}) {
		t.Error("a container of a run is left out of the inventory")
	}
}

func TestN3_ANetworkOfAnotherRunIsNotTaken(t *testing.T) {
	for _, tc := range []struct {
		o    harness.Object
		want bool
	}{
		{harness.Object{Name: runNet, Run: "260102-030405-abcdef"}, true},
		{harness.Object{Name: runNet, Run: "other"}, false},
		{harness.Object{Name: runNet}, false},
		{harness.Object{Name: "cc-ci-run-", Run: ""}, false},
	} {
		if got := isRunNetwork(tc.o.Name, map[string]string{LabelRun: tc.o.Run}); got != tc.want {
			t.Errorf("%+v: %t", tc.o, got)
		}
	}
}

// The proxy's address is far from those that swarm gives away.
func TestLastAddresses(t *testing.T) {
	n := func(subnet, gateway string, taken ...string) network.Inspect {
		out := network.Inspect{IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet, Gateway: gateway}}}, Containers: map[string]network.EndpointResource{}}
		for _, a := range taken {
			out.Containers[a] = network.EndpointResource{IPv4Address: a}
		}
		return out
	}
	for _, tc := range []struct {
		n     network.Inspect
		first string
		count int
	}{
		{n("10.0.3.0/24", "10.0.3.1", "10.0.3.2/24"), "10.0.3.254", 8},
		{n("10.0.3.0/24", "10.0.3.1", "10.0.3.254/24", "10.0.3.253/24"), "10.0.3.252", 8},
		{n("10.10.0.0/16", "10.10.0.1"), "10.10.255.254", 8},
		{n("10.0.3.8/29", "10.0.3.9", "10.0.3.14/29"), "10.0.3.13", 4},
		{n("10.0.3.8/30", "10.0.3.9", "10.0.3.10/30"), "", 0},
		{n("fd00::/64", ""), "", 0},
		{network.Inspect{}, "", 0},
	} {
		got, err := lastAddresses(tc.n)
		if (err != nil) != (tc.count == 0) || len(got) != tc.count || tc.count > 0 && got[0] != netip.MustParseAddr(tc.first) {
			t.Errorf("%v: %v, %v", tc.n.IPAM.Config, got, err)
		}
	}
}

// Who does not need a capability does not have it; who asks for it, with a waiver, does.
func TestN3_CapabilitiesAreDropped(t *testing.T) {
	for _, tc := range []struct{ part, add, drop string }{
		{"", "", "CAP_AUDIT_WRITE CAP_MKNOD CAP_NET_RAW CAP_SETFCAP CAP_SETPCAP"},
		{"    cap_add: [net_raw]\n", "CAP_NET_RAW", "CAP_AUDIT_WRITE CAP_MKNOD CAP_SETFCAP CAP_SETPCAP"},
		{"    cap_drop: [CHOWN]\n", "", "CAP_AUDIT_WRITE CAP_CHOWN CAP_MKNOD CAP_NET_RAW CAP_SETFCAP CAP_SETPCAP"},
		{"    cap_add: [ALL]\n", "ALL", ""},
	} {
		_, spec := converted(t, "app", "", tc.part)
		c := spec.TaskTemplate.ContainerSpec
		if add, drop := strings.Join(c.CapabilityAdd, " "), strings.Join(c.CapabilityDrop, " "); add != tc.add || drop != tc.drop {
			t.Errorf("%q: adds %q, drops %q", tc.part, add, drop)
		}
	}
}

// A network that only the recipe could have made is the recipe's to make.
func TestN3_AnOwnNetworkThatIsMissingIsTheRecipesFault(t *testing.T) {
	stack := &recipe.Stack{Name: "s_ci_test"}
	for name, want := range map[string]ccci.Code{"s_ci_test_inside": ccci.CodeRecipe, "proxy": ccci.CodeInfra} {
		err := missing(stack, &model{external: externals{networks: []string{name}}}, references{})
		if ccci.CodeOf(err) != want || ccci.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
