package harness

import (
	"image"
	"image/color"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/compose/types"
	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func TestN6_Leftovers(t *testing.T) {
	const run, stack = ccci.RunID("261121-030405-abcdef"), "wiki-abc_ci_example_org"
	const left, unclear, neither = "left", "unclear", "neither"
	before := Snapshot{{Kind: "volume", ID: "1", Name: "old"}, {Kind: "network", ID: "2", Name: "proxy"}}
	for name, c := range map[string]struct {
		after Object
		want  string // left, unclear or neither
	}{
		"was there before":            {Object{Kind: "volume", ID: "1", Name: "old"}, neither},
		"same id of another kind":     {Object{Kind: "secret", ID: "1", Name: "old"}, unclear},
		"ours by label":               {Object{Kind: "container", ID: "9", Name: "x", Run: string(run)}, left},
		"ours by stack":               {Object{Kind: "service", ID: "9", Name: "x", Stack: stack}, left},
		"ours by name":                {Object{Kind: "volume", ID: "9", Name: stack + "_data"}, left},
		"ours though labelled theirs": {Object{Kind: "volume", ID: "9", Name: stack + "_data", Stack: "other"}, left},
		"another run's":               {Object{Kind: "container", ID: "9", Name: "x", Run: "261121-030405-000000"}, neither},
		"another stack's":             {Object{Kind: "service", ID: "9", Name: "blog_app", Stack: "blog"}, neither},
		"a stack of a longer name":    {Object{Kind: "service", ID: "9", Name: stack + "2_app", Stack: stack + "2"}, neither},
		"nobody's":                    {Object{Kind: "volume", ID: "9", Name: "stray-data"}, unclear},
		"nobody's, of our name":       {Object{Kind: "volume", ID: "9", Name: "stray-" + string(run)}, left},
		"theirs, of our name":         {Object{Kind: "volume", ID: "9", Name: "x-" + string(run), Run: "261121-030405-000000"}, neither},
	} {
		t.Run(name, func(t *testing.T) {
			wantLeft, wantUnclear := []string(nil), []string(nil)
			switch c.want {
			case left:
				wantLeft = []string{c.after.Kind + " " + c.after.Name}
			case unclear:
				wantUnclear = []string{c.after.Kind + " " + c.after.Name}
			}
			if got, open := Leftovers(before, Snapshot{c.after}, run, stack); !slices.Equal(got, wantLeft) || !slices.Equal(open, wantUnclear) {
				t.Errorf("left %q, unclear %q; want %q, %q", got, open, wantLeft, wantUnclear)
			}
		})
	}
	got, _ := Leftovers(nil, Snapshot{{Kind: "volume", ID: "1", Name: "b", Run: string(run)}, {Kind: "network", ID: "2", Name: "a", Run: string(run)}}, run, stack)
	if !slices.Equal(got, []string{"network a", "volume b"}) {
		t.Errorf("not in order: %q", got)
	}
}

const testEvents = `{"Time":"2026-11-21T03:00:00Z","Action":"start","Package":"wiki"}
{"Time":"2026-11-21T03:00:00Z","Action":"run","Package":"wiki","Test":"TestLogIn"}
{"Time":"2026-11-21T03:00:00Z","Action":"output","Package":"wiki","Test":"TestLogIn","Output":"=== RUN   TestLogIn\n"}
{"Time":"2026-11-21T03:00:02Z","Action":"pass","Package":"wiki","Test":"TestLogIn","Elapsed":1.5}
not an event
{"Time":"2026-11-21T03:00:03Z","Action":"fail","Package":"wiki","Test":"TestFeed/sub","Elapsed":0.1}
{"Time":"2026-11-21T03:00:03Z","Action":"fail","Package":"wiki","Test":"TestFeed","Elapsed":0.2}
{"Time":"2026-11-21T03:00:03Z","Action":"skip","Package":"wiki","Test":"TestMail","Elapsed":0}
{"Time":"2026-11-21T03:00:03Z","Action":"fail","Package":"wiki","Elapsed":3}
`

func TestU23_EachGoTestIsARow(t *testing.T) {
	end := time.Date(2026, 11, 21, 3, 0, 3, 0, time.UTC)
	want := []ccci.Check{
		{Name: "checks/go-testlogin", Status: ccci.Pass, Started: end.Add(-2500 * time.Millisecond), Duration: 1500 * time.Millisecond},
		{Name: "checks/go-testfeed", Status: ccci.Fail, Code: ccci.CodeRecipe, Message: "TestFeed failed", Started: end.Add(-200 * time.Millisecond), Duration: 200 * time.Millisecond},
		{Name: "checks/go-testmail", Status: ccci.Unverified, Message: "TestMail skipped itself", Started: end},
	}
	if diff := cmp.Diff(want, testRows([]byte(testEvents))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if rows := testRows(nil); rows != nil {
		t.Errorf("rows out of nothing: %+v", rows)
	}
	if got := string(plainOutput([]byte(testEvents))); got != "=== RUN   TestLogIn\nnot an event\n" {
		t.Errorf("%q", got)
	}
}

func TestSafeName(t *testing.T) {
	if got := safeName("../a b/ü_1.log"); got != "..-a-b---_1.log" && got != "..-a-b--_1.log" {
		t.Errorf("%q", got)
	}
	if strings.ContainsAny(safeName("a/b\\c\x00d"), "/\\\x00") {
		t.Error("a separator is left")
	}
}

func TestBlank(t *testing.T) {
	if !blank(picture(true)) {
		t.Error("one colour is not blank")
	}
	if blank(picture(false)) {
		t.Error("two colours are blank")
	}
	// The browser's have 1280 by 800 pixels. A larger one is not decoded: it may take gigabytes.
	if spot := map[image.Rectangle]color.Color{image.Rect(0, 0, 9, 9): color.Black}; !blank(drawnPicture(t, 4097, 1025, spot)) || blank(drawnPicture(t, 4096, 1024, spot)) {
		t.Error("a picture that is too large was read, or one that is not was not")
	}
	if !blank([]byte("no picture")) || !blank(nil) {
		t.Error("what is no picture is not blank")
	}
}

func TestTail(t *testing.T) {
	if got := tail([]byte("a\nb\nc\n\n"), 2); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("%q", got)
	}
	if got := tail([]byte("a"), 5); !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q", got)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"": 0, " ": 0, "512M": 512 << 20, "2G": 2 << 30, "10K": 10 << 10, "7": 7} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"much", "-1G", "5X"} {
		if _, err := parseSize(in); ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "" {
			t.Errorf("parseSize(%q): %v", in, err)
		}
	}
}

func TestLimitMemoryLowersAndNeverRaises(t *testing.T) {
	limited := func(bytes types.UnitBytes) types.ServiceConfig {
		return types.ServiceConfig{Deploy: types.DeployConfig{Resources: types.Resources{Limits: &types.ResourceLimit{MemoryBytes: bytes}}}}
	}
	stack := func() *recipe.Stack {
		return &recipe.Stack{Config: &types.Config{Services: []types.ServiceConfig{{}, limited(0), limited(256 << 20), limited(4 << 30)}}}
	}
	s := stack()
	if err := limitMemory(s, "1G"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []types.UnitBytes{1 << 30, 1 << 30, 256 << 20, 1 << 30} {
		if got := s.Config.Services[i].Deploy.Resources.Limits.MemoryBytes; got != want {
			t.Errorf("service %d may use %d, want %d", i, got, want)
		}
	}
	s = stack()
	if err := limitMemory(s, ""); err != nil || s.Config.Services[0].Deploy.Resources.Limits != nil {
		t.Errorf("limited without a limit: %v", err)
	}
	if err := limitMemory(s, "much"); err == nil {
		t.Error("no size is no error")
	}
}

func TestU1_CanariesGoWhereAServiceWrites(t *testing.T) {
	none := uint64(0)
	volume := func(source, target string, readOnly bool) types.ServiceVolumeConfig {
		return types.ServiceVolumeConfig{Type: "volume", Source: source, Target: target, ReadOnly: readOnly}
	}
	stack := &recipe.Stack{Config: &types.Config{Services: []types.ServiceConfig{
		{Name: "job", Deploy: types.DeployConfig{Replicas: &none}, Volumes: []types.ServiceVolumeConfig{volume("data", "/job", false)}},
		{Name: "web", Volumes: []types.ServiceVolumeConfig{volume("data", "/srv", true), {Type: "bind", Source: "data", Target: "/bind"}}},
		{Name: "app", Volumes: []types.ServiceVolumeConfig{volume("data", "/var/data/", false), volume("uploads", "/up", false)}},
	}}}
	for name, want := range map[string][3]string{"data": {"app", "/var/data/", "true"}, "uploads": {"app", "/up", "true"}, "cache": {"", "", "false"}} {
		service, target, ok := mountOf(stack, name, true)
		if service != want[0] || target != want[1] || ok != (want[2] == "true") {
			t.Errorf("mountOf(%s) = %q, %q, %v", name, service, target, ok)
		}
	}
	list := canariesOf(stack, BackupPlan{Volumes: []BackupVolume{{Key: "data"}, {Key: "cache"}}})
	if len(list) != 1 || list[0].volume != "data" {
		t.Fatalf("%+v", list)
	}
	if service, file, ok := list[0].in(stack, true); service != "app" || file != "/var/data/.cc-ci-canary" || !ok {
		t.Errorf("%s %s", service, file)
	}
	// Of another version: the volume has another key and the same name, and is only read.
	stack.Config.Services = []types.ServiceConfig{{Name: "web", Volumes: []types.ServiceVolumeConfig{volume("store", "/srv", true)}}}
	stack.Config.Volumes = map[string]types.VolumeConfig{"store": {Name: "x_data"}}
	renamed := canary{volume: "data", name: "x_data"}
	if service, file, ok := renamed.in(stack, false); service != "web" || file != "/srv/.cc-ci-canary" || !ok {
		t.Errorf("%s %s", service, file)
	}
	if _, _, ok := renamed.in(stack, true); ok {
		t.Error("a volume that is only read can be written to")
	}
}

func TestMarkersDiffer(t *testing.T) {
	l := aLife(t)
	a, b := l.marker("A"), l.marker("B")
	if a == b || a != l.marker("A") || !strings.HasPrefix(a, "ccci-a-") || !strings.HasPrefix(b, "ccci-b-") {
		t.Errorf("%q, %q", a, b)
	}
}

// U1: what a proxy may answer by itself, and whom it would ask otherwise, is in the labels.
func TestU1_BackendsAreReadFromTheLabels(t *testing.T) {
	none := uint64(0)
	service := func(name string, labels ...string) types.ServiceConfig {
		s := types.ServiceConfig{Name: name, Deploy: types.DeployConfig{Labels: types.Labels{}}}
		for _, l := range labels {
			key, value, _ := strings.Cut(l, "=")
			s.Deploy.Labels[key] = value
		}
		return s
	}
	off := service("off", "traefik.enable=true", "traefik.http.services.o.loadbalancer.server.port=1")
	off.Deploy.Replicas = &none
	stack := &recipe.Stack{Config: &types.Config{Services: []types.ServiceConfig{
		service("app", "traefik.enable=true", "Traefik.HTTP.Services.a.LoadBalancer.Server.Port= 80", "traefik.http.services.b.loadbalancer.server.port=443", "traefik.http.services.b.loadbalancer.server.scheme=https"),
		service("hidden", "traefik.enable=false", "traefik.http.services.h.loadbalancer.server.port=2"),
		service("tcp", "traefik.enable=1", "traefik.tcp.services.t.loadbalancer.server.port=22"),
		service("db"), off,
	}}}
	backends, pretends := backendsOf(stack)
	if diff := cmp.Diff([]backend{{"app", 80, true}, {"app", 443, false}}, backends, cmp.AllowUnexported(backend{})); diff != "" || pretends {
		t.Errorf("pretends %v, -want +got:\n%s", pretends, diff)
	}
	for _, label := range []string{"traefik.http.middlewares.x.ipAllowList.rejectStatusCode=200", "traefik.http.middlewares.x.circuitbreaker.responsecode=200", "traefik.http.middlewares.x.errors.statusrewrites.500-599=200"} {
		stack.Config.Services[0] = service("app", "traefik.enable=true", label)
		if _, pretends := backendsOf(stack); !pretends {
			t.Errorf("%s lets the proxy answer for the app", label)
		}
	}
}
