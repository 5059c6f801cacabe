package swarm

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Every field of a compose file that swarm knows, in one stack, against what the
// daemon is told. A changed golden file changes what every recipe is deployed as.
func TestA24_ConvertGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/convert/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			compose, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			m, err := convert(deploytest.Stack(t, "full_ci_test", "/recipe", string(compose)), nil, "260102-030405-abcdef", strings.Contains(path, "dnsrr"), "proxy", smallMachine())
			if err != nil {
				t.Fatal(err)
			}
			type view struct {
				Services, Networks, External, Files any
			}
			v := view{Networks: m.networks, External: m.external}
			var specs []any
			for _, s := range m.services {
				specs = append(specs, s.spec)
			}
			var made []string
			for _, f := range m.files {
				made = append(made, f.kind()+" "+f.name+" from "+f.path)
			}
			v.Services, v.Files = specs, made
			v.External = [][]string{m.external.networks, m.external.secrets, m.external.configs}
			got, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(path, ".yml") + ".json"
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("the model differs (-golden +now):\n%s", diff)
			}
		})
	}
}

func TestConvertRefuses(t *testing.T) {
	cases := map[string]string{
		"undeclared volume":  "    volumes: [data:/data]\n",
		"undeclared secret":  "    secrets: [nope]\n",
		"undeclared config":  "    configs: [nope]\n",
		"undeclared network": "    networks: [nope]\n",
		"global replicas":    "    deploy: {mode: global, replicas: 2}\n",
		"job":                "    deploy: {mode: replicated-job}\n",
		"unknown mode":       "    deploy: {mode: sometimes}\n",
		"cpus":               "    deploy: {resources: {limits: {cpus: 'lots'}}}\n",
		"restart":            "    restart: sometimes\n",
		"test and disable":   "    healthcheck: {test: [CMD, x], disable: true}\n",
		"tmpfs with source":  "    volumes: [{type: tmpfs, source: x, target: /x}]\n",
	}
	for name, part := range cases {
		stack := deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.8'\nservices:\n  app:\n    image: x:1\n"+part)
		if _, err := convert(stack, nil, "r", false, "proxy", Ceilings{}); err == nil || !strings.Contains(err.Error(), "service app: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// N3: swarm's log has a copy of a specification for each state of each task. One service may be large,
// or have many tasks, but not both. No public recipe has more than 10 KB in all its tasks together.
func TestN3_SpecificationsAreBoundedInSum(t *testing.T) {
	const kb = 1000
	large := func(name string, size int, deploy string) string {
		return "  " + name + ":\n    image: x:1\n    command: [exit, '0', '" + strings.Repeat("x", size) + "']\n    deploy: {" + deploy + "}\n"
	}
	onNetwork := func(size int, replicas string) string {
		return "  app: {image: 'x:1', networks: [a, b], deploy: {" + replicas + "}}\n  other: {image: 'x:1', networks: [b]}\n" +
			"networks:\n  a: {labels: {x: '" + strings.Repeat("x", size) + "'}}\n  b: {}\n"
	}
	for name, c := range map[string]struct {
		services string
		apps     int
		want     string // of the error; "" when it is converted
	}{
		"labels of a network":        {onNetwork(40*kb, "replicas: 20"), 1, ""},
		"long labels of a network":   {onNetwork(400*kb, "replicas: 20"), 1, "service app: its specification has 40"},
		"longer ones, for one task":  {onNetwork(600*kb, ""), 1, "bytes with its networks, at most 524288 are allowed"},
		"one large service":          {large("app", 500*kb, ""), 1, ""},
		"a service over its limit":   {large("app", 600*kb, ""), 1, "service app: its specification has 60"},
		"many small tasks":           {large("app", 20*kb, "replicas: 40"), 1, ""},
		"a large one of many tasks":  {large("app", 360*kb, "replicas: 20") + large("small", kb, ""), 1, "service app: its specification has 36"},
		"the sum of two":             {large("app", 30*kb, "replicas: 20") + large("b", 40*kb, "replicas: 20"), 1, "service b: its specification has 4"},
		"no task, and many":          {large("app", 30*kb, "replicas: 20") + large("b", 400*kb, "replicas: 0"), 1, ""},
		"a global service counts":    {large("app", 500*kb, "mode: global") + large("b", 30*kb, "replicas: 20"), 1, "at most 1048576 are allowed"},
		"the apps of a run share it": {large("app", 30*kb, "replicas: 20"), 2, "at most 524288 are allowed"},
	} {
		ceilings := Ceilings{}
		ceilings.fill()
		ceilings.measure(machineOf(64<<30, 2), 1, c.apps)
		_, err := convert(deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.8'\nservices:\n"+c.services), nil, "r", false, "proxy", ceilings)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(ccci.HintOf(err), "config or a volume")):
			t.Errorf("%s: %v, hint %q; want %q", name, err, ccci.HintOf(err), c.want)
		}
	}
}

// The label that tells old tasks from new ones changes exactly with what a task is made from.
func TestU3_SpecLabel(t *testing.T) {
	hash := func(part string) string {
		t.Helper()
		m, err := convert(deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.8'\nservices:\n  app:\n    image: x:1\n"+part), nil, "r", false, "proxy", Ceilings{})
		if err != nil {
			t.Fatal(err)
		}
		return m.services[0].hash
	}
	base := hash("")
	for _, same := range []string{"", "    deploy: {labels: [a=b]}\n", "    deploy: {replicas: 3}\n", "    deploy: {update_config: {order: start-first}}\n"} {
		if hash(same) != base {
			t.Errorf("%q restarts the service", same)
		}
	}
	for _, other := range []string{"    environment: [A=1]\n", "    labels: [a=b]\n", "    command: [x]\n", "    user: '1'\n", "    hostname: h\n"} {
		if hash(other) == base {
			t.Errorf("%q goes unnoticed", other)
		}
	}
}

func TestNanoCPUs(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0.5": 5e8, "2": 2e9, "0.000000001": 1} {
		if got, err := nanoCPUs(text); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "-1", "1e3", "0.0000000001", "9999999999999"} {
		if got, err := nanoCPUs(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestA19_Belongs(t *testing.T) {
	app := harness.App{RunID: "r1", StackName: "a_b", Names: []string{"own"}}
	cases := []struct {
		o    harness.Object
		want bool
	}{
		{harness.Object{Name: "x", Run: "r1"}, true},
		{harness.Object{Name: "x", Run: "r1", Stack: "other"}, true},
		{harness.Object{Name: "a_b_data", Run: "r2"}, false},
		{harness.Object{Name: "a_b_data", Run: "r2", Stack: "a_b"}, false},
		{harness.Object{Name: "x", Stack: "a_b"}, true},
		{harness.Object{Name: "a_b_c_data", Stack: "a_b_c"}, false},
		{harness.Object{Name: "own", Stack: "other"}, false},
		{harness.Object{Name: "own"}, true},
		{harness.Object{Name: "own", Kind: kindVolume}, true},
		{harness.Object{Name: "own", Kind: kindContainer}, false},
		{harness.Object{Name: "own", Kind: kindService}, false},
		{harness.Object{Name: "a_b_data"}, true},
		{harness.Object{Name: "a_bdata"}, false},
		{harness.Object{Name: "a_b"}, false},
	}
	for _, c := range cases {
		if got := belongs(c.o, app); got != c.want {
			t.Errorf("%+v: %v", c.o, got)
		}
	}
	if belongs(harness.Object{Name: "_x"}, harness.App{RunID: "r1"}) {
		t.Error("an app without a stack name takes objects by prefix")
	}
}

func TestReadWithinStaysInside(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "shadow")
	for path, text := range map[string]string{filepath.Join(dir, "ok"): "fine", outside: "secret"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"ok", filepath.Join(dir, "ok")} {
		if data, err := readWithin(dir, path); string(data) != "fine" {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	for _, path := range []string{"link", filepath.Join(dir, "link"), outside, "../x", ".", "none"} {
		if data, err := readWithin(dir, path); err == nil {
			t.Errorf("%s: %q", path, data)
		}
	}
}

// A port that a waiver lifts is published by the container itself where cc-ci, for want of IPVS,
// chooses dnsrr: swarm takes no other there. What the recipe chose itself stays.
func TestA24_PortsUnderDNSRR(t *testing.T) {
	for _, c := range []struct {
		dnsrr        bool
		deploy, port string
		mode         swarm.PortConfigPublishMode
		said         bool
	}{
		{true, "", `"2222:22"`, swarm.PortConfigPublishModeHost, true},
		{true, "", `{target: 22, published: 2222, mode: host}`, swarm.PortConfigPublishModeHost, false},
		{true, "    deploy: {endpoint_mode: dnsrr}\n", `"2222:22"`, swarm.PortConfigPublishModeIngress, false},
		{false, "", `"2222:22"`, swarm.PortConfigPublishModeIngress, false},
	} {
		compose := "version: '3.8'\nservices:\n  app:\n    image: x:1\n    ports: [" + c.port + "]\n" + c.deploy
		m, err := convert(deploytest.Stack(t, "ports_ci_test", "/recipe", compose), nil, "260102-030405-abcdef", c.dnsrr, "proxy", smallMachine())
		if err != nil {
			t.Fatal(err)
		}
		if got := m.services[0].spec.EndpointSpec.Ports[0].PublishMode; got != c.mode {
			t.Errorf("%s %s: mode %s, want %s", c.port, c.deploy, got, c.mode)
		}
		if said := strings.Contains(strings.Join(m.lowered.notes, "\n"), "published in mode host"); said != c.said {
			t.Errorf("%s %s: %q", c.port, c.deploy, m.lowered.notes)
		}
	}
}
