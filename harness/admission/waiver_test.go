package admission

import (
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A waiver names the run's own names as the recipe does: they differ from run to run.
func TestN3_WaiversNameTheRunsOwnNames(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": `services:
  app:
    image: a:1
    labels:
      - "traefik.http.services.${STACK_NAME}-web.loadbalancer.serverstransport=x"
      - "traefik.http.routers.${STACK_NAME}.rule=Host(` + "`${DOMAIN}`) || Path(`/x`)" + `"
      - "traefik.http.middlewares.${STACK_NAME}.ratelimit.redis.password=$${STACK_NAME}"
`, ".env.sample": plainSample + "OTHER=Path\n"})
	transport := waiver(func(w *ccci.Waiver) {
		w.Rule, w.Service, w.Value = "traefik-label", "app", "traefik.http.services.${STACK_NAME}-web.loadbalancer.serverstransport"
	})
	rule := waiver(func(w *ccci.Waiver) {
		w.Rule, w.Service, w.Value = "foreign-host", "app", "Host(`${DOMAIN}`) || Path(`/x`)"
	})
	other := rule
	other.Value = "Host(`${DOMAIN}`) || ${OTHER}(`/x`)"
	for _, c := range []struct {
		waivers []ccci.Waiver
		refused []string
	}{
		{nil, []string{"serverstransport", "rule foreign-host", "redis.password"}},
		{[]ccci.Waiver{transport}, []string{"rule foreign-host", "redis.password"}},
		{[]ccci.Waiver{transport, rule}, []string{"redis.password"}},
		{[]ccci.Waiver{transport, other}, []string{"rule foreign-host", "redis.password"}}, // the pull request sets OTHER
	} {
		p := testPolicy()
		p.Waivers = c.waivers
		_, err := admitDir(dir, p)
		for _, what := range []string{"serverstransport", "rule foreign-host", "redis.password"} {
			want := false
			for _, r := range c.refused {
				want = want || r == what
			}
			if got := err != nil && strings.Contains(err.Error(), what); got != want {
				t.Errorf("%v: %s refused: %v\n%v", c.waivers, what, got, err)
			}
		}
	}
}

// entries reads what stands below the refusals of a message, and fills in the rest.
func entries(t *testing.T, message string) []ccci.Waiver {
	t.Helper()
	var waivers []ccci.Waiver
	for line := range strings.Lines(message) {
		entry, ok := strings.CutPrefix(line, "  - {")
		if !ok {
			continue
		}
		var list []ccci.Waiver
		if err := yaml.Unmarshal([]byte("- {"+entry), &list); err != nil || len(list) != 1 {
			t.Fatalf("%s: %v", line, err)
		}
		w := list[0]
		if w.Rule == "" || w.Service == "" || w.Reason != "" || w.Owner != "" || w.Expires != "" {
			t.Errorf("%s reads as %+v", line, w)
		}
		w.Reason, w.Owner, w.Expires = "r", "o", "2026-12-31"
		waivers = append(waivers, w)
	}
	return waivers
}

// The entry below a refusal lifts it, in this run and in another one.
func TestN3_TheEntryOfARefusalLiftsIt(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": `services:
  app:
    image: a:1
    volumes: ["/srv/wiki:/usr/share/nginx/html"]
    labels: ["traefik.http.services.${STACK_NAME}.loadbalancer.serverstransport=x"]
networks:
  more: {name: other}
`})
	_, err := admitDir(dir, testPolicy())
	if err == nil {
		t.Fatal("admitted")
	}
	for _, want := range []string{
		`(rule bind-mount)
  - {rule: bind-mount, service: app, value: "/srv/wiki:/usr/share/nginx/html", reason: "", owner: "", expires: ""}`,
		`  - {rule: traefik-label, service: app, value: "traefik.http.services.${STACK_NAME}.loadbalancer.serverstransport", `,
		`  - {rule: foreign-network, service: "*", value: "other", `,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	p, r := testPolicy(), testRender()
	p.Waivers = entries(t, err.Error())
	r.Domain = "demo-ffffff.ci.example.org"
	p.Domains = []string{r.Domain}
	if _, err := admitWith(dir, r, p); err != nil {
		t.Error(err)
	}
}

// So does that of every refusal of the corpus.
func TestN3_EveryEntryLiftsItsRefusal(t *testing.T) {
	for _, dir := range folders(t, "testdata/hostile/*", 150) {
		if strings.HasSuffix(dir, ".txtar") {
			dir, _ = unpackCase(t, dir)
		}
		p := testPolicy()
		_, err := admitDir(dir, p)
		if err == nil {
			t.Fatalf("%s is admitted", dir)
		}
		p.Waivers = entries(t, err.Error())
		if _, err := admitDir(dir, p); len(p.Waivers) > 0 && err != nil {
			for _, w := range entries(t, err.Error()) {
				for _, old := range p.Waivers {
					if w == old {
						t.Errorf("%s: %+v does not lift its refusal", filepath.Base(dir), w)
					}
				}
			}
		}
	}
}

// A value that no entry can state has none, rather than a waiver of any value.
func TestN3_NoEntryForAValueThatItCannotState(t *testing.T) {
	for _, value := range []string{strings.Repeat("x", maxWaiverValue+1), "$${STACK_NAME}"} {
		dir := tree(t, map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    volumes: ['/srv/" + value + ":/x']\n"})
		_, err := admitDir(dir, testPolicy())
		if err == nil || !strings.Contains(err.Error(), "rule bind-mount") || strings.Contains(err.Error(), "- {") {
			t.Errorf("%.700v", err)
		}
	}
}

// A waiver that is for something else than what is refused is named, with what differs.
func TestN3_AWaiverThatLiftsNothingIsNamed(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": compose})
	const app = "app publishes a port of the machine, 8080:80/tcp (rule published-port)"
	const voice = "voice publishes a port of the machine, 64738:64738/udp (rule published-port)"
	const idle = "; the waiver in tests/demo/recipe.yml:7 lifts nothing: "
	for name, c := range map[string]struct {
		change func(*ccci.Waiver)
		want   string // "" when no waiver is named
	}{
		"lifts":                     {func(*ccci.Waiver) {}, ""},
		"any value":                 {func(w *ccci.Waiver) { w.Value = "" }, ""},
		"expired":                   {func(w *ccci.Waiver) { w.Expires = "2025-01-01" }, ""}, // it says so itself
		"other value":               {func(w *ccci.Waiver) { w.Value = "64738" }, voice + idle + `its value is "64738"`},
		"other service":             {func(w *ccci.Waiver) { w.Service = "web" }, voice + idle + `it is for the service "web"`},
		"other service, any value":  {func(w *ccci.Waiver) { w.Service, w.Value = "web", "" }, app + idle + `it is for the service "web"`},
		"other service and value":   {func(w *ccci.Waiver) { w.Service, w.Value = "web", "x" }, app + idle + `it is for the service "web" and the value "x"`},
		"service of another":        {func(w *ccci.Waiver) { w.Service = "app" }, app + idle + `its value is "64738:64738/udp"`},
		"rule that refuses nothing": {func(w *ccci.Waiver) { w.Rule = "privileged" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := testPolicy()
			w := waiver(c.change)
			w.Line = 7
			p.Waivers = []ccci.Waiver{w}
			_, err := admitDir(dir, p)
			if err == nil {
				t.Fatal("admitted")
			}
			if c.want == "" && strings.Contains(err.Error(), "lifts nothing") || !strings.Contains(err.Error(), c.want+"\n") {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}
