package admission

import (
	"fmt"
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
		w.Rule, w.Service, w.Value = "traefik-label", "app", "traefik.http.services.${STACK_NAME}-web.loadbalancer.serverstransport=x"
	})
	rule := waiver(func(w *ccci.Waiver) {
		w.Rule, w.Service, w.Value = "foreign-host", "app", "Host(`${DOMAIN}`) || Path(`/x`)"
	})
	quoted := rule
	quoted.Value = "Host(`{{.Domain}}`) || Path(`/x`)"
	spaced := rule
	spaced.Value = "Host(`{{ .Domain }}`) || Path(`/x`)"
	unknown := rule
	unknown.Value = "Host(`{{.App}}`) || Path(`/x`)"
	other := rule
	other.Value = "Host(`${DOMAIN}`) || ${OTHER}(`/x`)"
	for _, c := range []struct {
		waivers []ccci.Waiver
		refused []string
	}{
		{nil, []string{"serverstransport", "rule foreign-host", "redis.password"}},
		{[]ccci.Waiver{transport}, []string{"rule foreign-host", "redis.password"}},
		{[]ccci.Waiver{transport, rule}, []string{"redis.password"}},
		{[]ccci.Waiver{transport, quoted}, []string{"redis.password"}},
		{[]ccci.Waiver{transport, spaced}, []string{"redis.password"}},
		{[]ccci.Waiver{transport, unknown}, []string{"rule foreign-host", "redis.password"}},
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
  more: {name: other, external: true}
`})
	_, err := admitDir(dir, testPolicy())
	if err == nil {
		t.Fatal("admitted")
	}
	for _, want := range []string{
		`(rule bind-mount)
  - {rule: bind-mount, service: app, value: "/srv/wiki:/usr/share/nginx/html:rw", reason: "", owner: "", expires: ""}`,
		`  - {rule: traefik-label, service: app, value: "traefik.http.services.${STACK_NAME}.loadbalancer.serverstransport=x", `,
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

// A refused host names the way to a further one.
func TestN3_ARefusedHostNamesTheWayToAFurtherOne(t *testing.T) {
	for _, label := range []string{"rule=Host(`${DOMAIN}`) || Host(`wiki.example.org`)", "tls.domains[0].main=wiki.example.org"} {
		dir := tree(t, map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    deploy:\n      labels:\n" +
			"        - traefik.http.routers.${STACK_NAME}.priority=1\n        - \"traefik.http.routers.${STACK_NAME}." + label + "\"\n"})
		_, err := admitDir(dir, testPolicy())
		if err == nil || !strings.Contains(err.Error(), "(rule foreign-host)") || !strings.Contains(ccci.HintOf(err), "domains: in recipe.yml") {
			t.Errorf("%s: %v, hint %q", label, err, ccci.HintOf(err))
		}
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

// What is too large names the label or variable that makes it so, and hides nothing of the rest.
func TestN3_SizeNamesWhatIsTooLarge(t *testing.T) {
	big := plainSample + "BIG=" + strings.Repeat("x", 7<<10) + "\n"
	text := "services:\n  app:\n    image: a:1\n    deploy:\n      labels:\n        - a=1\n"
	for range 10 {
		text += "        - l" + strings.Repeat("x", 1+strings.Count(text, "BIG")) + "=${BIG}\n"
	}
	text += "        - longest=${BIG}${BIG}\n" + `    privileged: true
  other:
    image: a:1
    ports: ["8080:80"]
    environment:
      A: x
`
	for range 20 {
		text += "      B" + strings.Repeat("B", strings.Count(text, "BIG")) + ": ${BIG}\n"
	}
	text += "      LONGEST: ${BIG}${BIG}\nvolumes:\n  v: {driver: rexray}\n"
	line := func(what string) string {
		before, _, _ := strings.Cut(text, what)
		return fmt.Sprintf("compose.yml:%d: ", 1+strings.Count(before, "\n"))
	}
	_, err := admitDir(tree(t, map[string]string{"compose.yml": text, ".env.sample": big}), testPolicy())
	if err == nil {
		t.Fatal("admitted")
	}
	for _, want := range []string{
		line("- longest=") + `service app has labels of 84 KiB, and may have 64 KiB; the largest is "longest" with 14 KiB (rule stack-size)`,
		line("LONGEST:") + `service other has environment of 154 KiB, and may have 128 KiB; the largest is "LONGEST" with 14 KiB (rule stack-size)`,
		"service app asks for privileged mode (rule privileged)",
		"keeps the volume v with the driver rexray (rule volume-driver)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%.3000v\nlacks %s", err, want)
		}
	}
	for _, want := range []string{"nothing else of a service that is too large is judged", "the rule stack-size cannot be waived"} {
		if !strings.Contains(ccci.HintOf(err), want) {
			t.Errorf("hint %q lacks %q", ccci.HintOf(err), want)
		}
	}

	_, err = admitDir(tree(t, map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    labels:\n      a: b\n    deploy:\n      labels:\n" + repeat(301, "        l%d: x\n")}), testPolicy())
	if want := "compose.yml:8: service app has 307 labels, and may have 300 (rule stack-size)"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = admitDir(tree(t, map[string]string{"compose.yml": "services:\n  app:\n    image: a:1\n    command:\n" + repeat(1001, "      - a%d\n")}), testPolicy())
	if want := "compose.yml:5: service app has commands of 1001 words, and may have 1000 (rule stack-size)"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = admitDir(tree(t, map[string]string{"compose.yml": "services:\n" + repeat(51, "  s%d: {image: 'a:1'}\n")}), testPolicy())
	if !strings.Contains(ccci.HintOf(err), "; the rule stack-size cannot be waived") {
		t.Errorf("%v: hint %q", err, ccci.HintOf(err))
	}
}

// A list of users says what is wrong with it and the way out, and shows no hash. Without users
// the proxy fails for every app, so that no waiver lifts it.
func TestN3_ListsOfUsers(t *testing.T) {
	label := func(option string) string {
		return "services:\n  app:\n    image: a:1\n    labels:\n      - traefik.http.middlewares.${STACK_NAME}-pw." + option + "\n"
	}
	const name = `"traefik.http.middlewares.demo-0a1b2c_ci_example_org-pw.`
	for option, c := range map[string]struct{ want, hint string }{
		"basicauth.realm=x": {
			name + `basicauth.realm" without users, and the proxy then applies no further change of any app until it is restarted (rule proxy-users)`,
			"list them in traefik.http.middlewares.${STACK_NAME}-pw.basicauth.users, or remove the middleware; the rule proxy-users cannot be waived",
		},
		"digestauth.users=": {
			name + `digestauth.users" without users, and the proxy then applies no further change of any app until it is restarted (rule proxy-users)`,
			"list them in traefik.http.middlewares.${STACK_NAME}-pw.digestauth.users, or remove the middleware; the rule proxy-users cannot be waived",
		},
		"basicauth.users=a:$$2y$$12$$abcdefghijklmnopqrstuv": {
			name + `basicauth.users", which has a password with a cost above 6 (rule traefik-label)`, "make it with htpasswd -nB, whose cost is 5; ",
		},
		"basicauth.users=a:$$6$$abcdefghijklmnopqrstuv$$x": {
			name + `basicauth.users", which has a password that is hashed in an unknown way (rule traefik-label)`, "make it with htpasswd -nB, whose cost is 5; ",
		},
	} {
		dir := tree(t, map[string]string{"compose.yml": label(option)})
		p := testPolicy()
		for _, never := range []bool{false, true} {
			_, err := admitDir(dir, p)
			if never && !strings.Contains(c.want, "proxy-users") {
				if err != nil {
					t.Errorf("%s: no waiver lifts it: %v", option, err)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(ccci.HintOf(err), c.hint) || strings.Contains(err.Error(), "abcdef") {
				t.Errorf("%s: %v, hint %q", option, err, ccci.HintOf(err))
			}
			if strings.Contains(c.want, "proxy-users") && err != nil && strings.Contains(err.Error()+ccci.HintOf(err), "waivers") {
				t.Errorf("%s: a waiver is offered: %v", option, err)
			}
			p.Waivers = []ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Rule, w.Service, w.Value = "traefik-label", "*", "" })}
		}
	}
}

func TestN3_ForwardAuthNamesTheMissingService(t *testing.T) {
	for address, want := range map[string][2]string{
		"http://${STACK_NAME}_auth:9000/":             {`and there is no service "auth" (rule foreign-middleware)`, "the services are app, login"},
		"http://${STACK_NAME}_logn:9000/":             {`and there is no service "logn" (rule foreign-middleware)`, `did you mean "login"?`},
		"http://${STACK_NAME}_auth.example.org:9000/": {"which is not its own (rule foreign-middleware)", "name a service as http://${STACK_NAME}_<service>:<port>/"},
		"file://${STACK_NAME}_auth:9000/":             {"which is not its own (rule foreign-middleware)", "name a service as http://${STACK_NAME}_<service>:<port>/"},
		"http://${STACK_NAME}_login:9000/":            {},
	} {
		dir := tree(t, map[string]string{"compose.yml": "services:\n  login:\n    image: a:1\n  app:\n    image: a:1\n    labels:\n" +
			"      - traefik.http.middlewares.${STACK_NAME}.forwardauth.address=" + address + "\n"})
		_, err := admitDir(dir, testPolicy())
		if want[0] == "" {
			if err != nil {
				t.Errorf("%s: %v", address, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want[0]) || !strings.HasPrefix(ccci.HintOf(err), want[1]) {
			t.Errorf("%s: %v, hint %q\nwant %s", address, err, ccci.HintOf(err), want)
		}
	}
}
