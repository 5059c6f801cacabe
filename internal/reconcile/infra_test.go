package reconcile

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/mount"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// ownServices returns the desired state of each unit that makes services.
func ownServices(t *testing.T) map[string]Desired {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cc-ci.yml", "redis_url"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeCertificate(t, dir, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), domain, "*."+domain)
	self := Self{Image: "cc-ci:1", Domain: domain, Config: filepath.Join(dir, "cc-ci.yml"), Data: dir, Tests: dir + "/none"}
	reading := self
	reading.Reads = []string{"store", "blobs"}
	withForges := self
	withForges.Egress = true
	proxy := ProxyOptions{Domain: domain, Network: "proxy", Certificates: dir, Traefik: "traefik:1", CCCI: "cc-ci:1", Socket: "/var/run/docker.sock", HTTP: 80, HTTPS: 443}
	all := map[string]Desired{}
	for _, u := range []Unit{
		Proxy(proxy), Drone(droneOptions("https://drone." + domain)),
		Bridge(BridgeOptions{Self: withForges, Port: 1, Locks: func() (string, error) { return dir, nil }}),
		Dashboard(DashboardOptions{Self: reading, Port: 1}),
	} {
		d, err := u.Desired(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all[u.Name] = d
	}
	return all
}

// Infrastructure and apps share no network, but for what the proxy has for apps deployed by hand.
func TestN3_InfrastructureHasNetworksOfItsOwn(t *testing.T) {
	want := map[string][]string{
		"cc-ci_socket-proxy": nil, "cc-ci_certificates": nil,
		"cc-ci_traefik": {"proxy", InfraNetwork}, "cc-ci_drone": {InfraNetwork, EgressNetwork},
		"cc-ci_bridge": {InfraNetwork, EgressNetwork}, "cc-ci_dashboard": {InfraNetwork},
	}
	for unit, d := range ownServices(t) {
		for _, s := range d.Services {
			var networks []string
			for _, n := range s.Spec.TaskTemplate.Networks {
				networks = append(networks, n.Target)
				if len(n.Aliases) > 0 {
					t.Errorf("%s has the names %v", s.Name(), n.Aliases)
				}
			}
			if expected, ok := want[s.Name()]; !ok || !slices.Equal(networks, expected) {
				t.Errorf("%s is in %v", s.Name(), networks)
			}
			delete(want, s.Name())
			if unit != "proxy" && s.Spec.Labels["traefik.swarm.network"] != InfraNetwork {
				t.Errorf("the proxy reaches %s in %q", s.Name(), s.Spec.Labels["traefik.swarm.network"])
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("there is no %v", want)
	}
	swarm, err := Swarm(SwarmOptions{Network: "proxy"}).Desired(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := swarm.Networks[1]; n.Name != InfraNetwork || n.Attachable || !n.Internal {
		t.Errorf("%+v", n)
	}
}

// Runs find the proxy by a label on its container, which is on no other, its trial included.
func TestN3_OneContainerIsTheProxy(t *testing.T) {
	var labelled []string
	for _, d := range ownServices(t) {
		for _, s := range d.Services {
			for _, s := range []Service{s, s.trial()} {
				if s.Spec.TaskTemplate.ContainerSpec.Labels[LabelProxy] != "" {
					labelled = append(labelled, s.Name())
				}
				if s.Spec.Labels[LabelProxy] != "" {
					t.Errorf("%s has it as a service", s.Name())
				}
			}
		}
	}
	if !slices.Equal(labelled, []string{"cc-ci_traefik"}) {
		t.Errorf("it is on %v", labelled)
	}
}

// Traefik is in networks of apps, so it resolves no name: whatever it is told to reach is a path or
// an address of its own.
func TestN3_TraefikResolvesNoName(t *testing.T) {
	static, err := staticConfig(ProxyOptions{Domain: domain, Network: "proxy", HTTP: 80, HTTPS: 443, Entrypoints: []Entrypoint{{Name: "ssh", Port: 2222}, {Name: "udp", Port: 1, UDP: true}},
		Gateways: []Gateway{{From: netip.MustParsePrefix("198.51.100.0/28")}}})
	if err != nil {
		t.Fatal(err)
	}
	dynamic, err := dynamicConfig("a.crt", "a.key")
	if err != nil {
		t.Fatal(err)
	}
	harmless := regexp.MustCompile(`^(|/[a-z0-9/_.-]+|unix:///[a-z0-9/_.-]+|(127\.0\.0\.1)?:[0-9]+(/udp)?|https|INFO|v2|proxy|ping|[0-9]+ms|VersionTLS12|198\.51\.100\.0/28)$`)
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				walk(path+"."+key, value)
			}
		case []any:
			for _, value := range v {
				walk(path, value)
			}
		case string:
			if !harmless.MatchString(v) {
				t.Errorf("%s is %q", path, v)
			}
		}
	}
	for _, text := range []string{static, dynamic} {
		var tree map[string]any
		if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		walk("", tree)
		for _, asks := range []string{"acme", "redis", "tracing", "otlp", "url:", "plugins", "http://"} {
			if strings.Contains(text, asks) {
				t.Errorf("%s is in\n%s", asks, text)
			}
		}
	}
}

// Each own service has memory that no app takes, and a bound of its own.
func TestInfrastructureHasResources(t *testing.T) {
	var reserved int64
	for _, d := range ownServices(t) {
		for _, s := range d.Services {
			r := s.Spec.TaskTemplate.Resources
			if r == nil || r.Reservations.MemoryBytes < 32<<20 || r.Limits.MemoryBytes < 2*r.Reservations.MemoryBytes || r.Limits.MemoryBytes > 1<<30 || r.Limits.Pids != pidsLimit {
				t.Fatalf("%s has %+v", s.Name(), r)
			}
			// How much these compute is up to visitors; nobody reaches the others.
			all := int64(runtime.NumCPU()) * 1e9
			most, reached := map[string]int64{"cc-ci_traefik": all * 3 / 4, "cc-ci_drone": all / 2, "cc-ci_bridge": all / 2, "cc-ci_dashboard": all / 2}[s.Name()]
			if reached && r.Limits.NanoCPUs <= 0 || r.Limits.NanoCPUs > most {
				t.Errorf("%s may use %d of %d billionths of a processor", s.Name(), r.Limits.NanoCPUs, all)
			}
			reserved += r.Reservations.MemoryBytes
			if env := s.Spec.TaskTemplate.ContainerSpec.Env; len(env) != 1 || !strings.HasPrefix(env[0], "GOMEMLIMIT=") {
				t.Errorf("%s has %v", s.Name(), env)
			}
		}
	}
	if reserved > 1<<30 {
		t.Errorf("all together reserve %d bytes", reserved)
	}
}

// Redis at a Unix socket is the folder's alone; one elsewhere needs a way out; one on this host's
// ports is reached by no container, and that is said.
func TestN3_ServicesReachTheBus(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cc-ci.yml"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		network, address string
		egress           bool
		want             string // of the error
	}{
		{"", "", false, ""},
		{"unix", dir + "/redis.sock", false, ""},
		{"tcp", "203.0.113.9:6379", true, ""},
		{"tcp", "redis.example.org:6379", true, ""},
		{"tcp", "127.0.0.1:6379", false, "an address of this host, of which containers reach no port"},
		{"tcp", "localhost:6379", false, "an address of this host"},
		{"tcp", "0.0.0.0:6379", false, "an address of this host"},
		{"unix", dir + "/none/redis.sock", false, "is not there"},
		{"unix", "/run/redis.sock", false, "is in no folder of its own"},
	} {
		self := Self{Image: "cc-ci:1", Domain: domain, Config: filepath.Join(dir, "cc-ci.yml"), Data: dir, Tests: dir + "/none",
			Bus: func() (string, string, error) { return tc.network, tc.address, nil }}
		d, err := Dashboard(DashboardOptions{Self: self, Port: 1}).Desired(t.Context())
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) || ccci.HintOf(err) == "" {
				t.Errorf("%s: %v", tc.address, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		spec := d.Services[0].Spec.TaskTemplate
		if egress := len(spec.Networks) == 2 && spec.Networks[1].Target == EgressNetwork; egress != tc.egress {
			t.Errorf("%s: it is in %v", tc.address, spec.Networks)
		}
		mounted := slices.ContainsFunc(spec.ContainerSpec.Mounts, func(m mount.Mount) bool { return m.Target == dir && m.ReadOnly })
		if mounted != (tc.network == "unix") {
			t.Errorf("%s: mounts are %v", tc.address, spec.ContainerSpec.Mounts)
		}
	}
}

// The group of the socket's folder, which may be one that nothing else of cc-ci is in, is given to the
// service; root's is not.
func TestN3_ServicesAreInTheGroupOfTheBus(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a folder to another group needs root")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cc-ci.yml"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	bus, data := filepath.Join(dir, "bus"), filepath.Join(dir, "data")
	for _, folder := range []string{bus, data} {
		if err := os.Mkdir(folder, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(data, 848, 848); err != nil {
		t.Fatal(err)
	}
	self := Self{Image: "cc-ci:1", Domain: domain, Config: filepath.Join(dir, "cc-ci.yml"), Data: data, Tests: dir + "/none",
		Bus: func() (string, string, error) { return "unix", bus + "/redis.sock", nil }}
	for gid, want := range map[int][]string{849: {"849"}, 848: nil, 0: nil} {
		if err := os.Chown(bus, 0, gid); err != nil {
			t.Fatal(err)
		}
		d, err := Dashboard(DashboardOptions{Self: self, Port: 1}).Desired(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := d.Services[0].Spec.TaskTemplate.ContainerSpec
		if c.User != "848:848" || !slices.Equal(c.Groups, want) {
			t.Errorf("the folder is of the group %d: the service is %s in %q, want %q", gid, c.User, c.Groups, want)
		}
	}
}

// The dashboard reads what it shows and no more of the data folder, and writes nothing.
func TestN3_DashboardOnlyReads(t *testing.T) {
	var binds []string
	for _, s := range ownServices(t)["dashboard"].Services {
		for _, m := range s.Spec.TaskTemplate.ContainerSpec.Mounts {
			if m.Type != mount.TypeBind {
				continue
			}
			binds = append(binds, filepath.Base(m.Source))
			if !m.ReadOnly {
				t.Errorf("%s is writable", m.Source)
			}
			info, err := os.Stat(m.Source)
			if err != nil || info.Mode().Perm() != 0o750 {
				t.Errorf("what is mounted: %v, %v", info, err)
			}
		}
	}
	if !slices.Equal(binds, []string{"store", "blobs"}) {
		t.Errorf("it gets %v", binds)
	}
}

// A kernel without processor quotas refuses to start a task that has one.
func TestServicesWithoutProcessorLimits(t *testing.T) {
	s := NewService("x", "x:1")
	s.CPUs(1e9)
	d := Desired{Services: []Service{s}}
	if got := d.on(Observed{NoCPULimit: true}).Services[0].Spec.TaskTemplate.Resources; got.Limits.NanoCPUs != 0 || got.Limits.MemoryBytes == 0 {
		t.Errorf("%+v", got.Limits)
	}
	if got := d.on(Observed{}).Services[0].Spec.TaskTemplate.Resources.Limits.NanoCPUs; got != 1e9 {
		t.Errorf("where it can be: %d", got)
	}
}
