package admission

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

const compose = `version: "3.8"
services:
  app:
    image: nginx:1.27.2
    ports: ["8080:80"]
  voice:
    image: voice:1
    ports: ["64738:64738/udp"]
`

// tree writes a recipe of a few files.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if _, ok := files[".env.sample"]; !ok {
		files[".env.sample"] = "TYPE=demo\nDOMAIN=demo.example.com\n"
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func waiver(change func(*ccci.Waiver)) ccci.Waiver {
	w := ccci.Waiver{Rule: "published-port", Service: "voice", Value: "64738:64738/udp", Reason: "voice has its own port", Owner: "ops", Expires: "2026-11-20"}
	if change != nil {
		change(&w)
	}
	return w
}

func TestN3_Waivers(t *testing.T) {
	const both = "voice publishes a port of the machine, 64738:64738/udp (rule published-port)"
	dir := tree(t, map[string]string{"compose.yml": compose})
	for name, c := range map[string]struct {
		waivers []ccci.Waiver
		now     string
		want    string // what the error must hold
		lacks   string
	}{
		"none":            {nil, "", both, ""},
		"exact":           {[]ccci.Waiver{waiver(nil)}, "", "service app publishes", "voice"},
		"no value":        {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Value = "" })}, "", "service app publishes", "voice"},
		"whole stack":     {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Service = "*" })}, "", "service app publishes", "voice"},
		"no value of two": {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Service, w.Value, w.Line = "*", "", 7 })}, "", both + "; the waiver in tests/demo/recipe.yml:7 states no value, and so lifts one finding and not 2", ""},
		"two without":     {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Value = "" }), waiver(func(w *ccci.Waiver) { w.Service, w.Value = "app", "" })}, "", "", ""},
		"the other has":   {[]ccci.Waiver{waiver(nil), waiver(func(w *ccci.Waiver) { w.Service, w.Value = "*", "" })}, "", "", ""},
		"other value":     {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Value = "64738:64738/tcp" })}, "", both, ""},
		"part of a value": {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Value = "64738" })}, "", both, ""},
		"other service":   {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Service = "app" })}, "", both, ""},
		"other rule":      {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Rule = "privileged" })}, "", both, ""},
		"last second":     {[]ccci.Waiver{waiver(nil)}, "2026-11-20T23:59:59Z", "service app publishes", "voice"},
		"expired":         {[]ccci.Waiver{waiver(nil)}, "2026-11-21T00:00:00Z", both + "; the waiver of ops for it expired on 2026-11-20", ""},
		"no owner":        {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Owner = " " })}, "", both + "; the waiver for it has no reason or no owner", ""},
		"no reason":       {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Reason = "" })}, "", both + "; the waiver for it has no reason or no owner", ""},
		"no date":         {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Expires = "never" })}, "", both + "; the waiver of ops for it has no date it expires on", ""},
		"renewed":         {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Expires = "2025-01-01" }), waiver(nil)}, "", "service app publishes", "voice"},
		"misspelt rule":   {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Rule = "publishd-port" })}, "", `tests/demo/recipe.yml: the stack has a waiver that lifts nothing: there is no rule "publishd-port" (rule waiver)`, ""},
		"not waivable":    {[]ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Rule = "reserved-label" })}, "", `has a waiver that lifts nothing: the rule "reserved-label" cannot be waived (rule waiver)`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := testPolicy()
			p.Waivers = c.waivers
			if c.now != "" {
				var err error
				if p.Now, err = time.Parse(time.RFC3339, c.now); err != nil {
					t.Fatal(err)
				}
			}
			_, err := admitDir(dir, p)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || c.lacks != "" && strings.Contains(err.Error(), c.lacks) {
				t.Fatalf("got %v\nwant %q without %q", err, c.want, c.lacks)
			}
			if ccci.CodeOf(err) != ccci.CodeRefused {
				t.Errorf("code %q", ccci.CodeOf(err))
			}
		})
	}
}

// Labels and namespaces of cc-ci itself cannot be waived: teardown goes by them.
func TestN3_WhatTeardownGoesByCannotBeWaived(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": "version: \"3.8\"\nservices:\n  app:\n    image: a:1\n    labels: [\"cc-ci.run=x\"]\n"})
	p := testPolicy()
	p.Waivers = []ccci.Waiver{waiver(func(w *ccci.Waiver) { w.Rule, w.Service, w.Value = "reserved-label", "*", "" })}
	if _, err := admitDir(dir, p); err == nil || !strings.Contains(err.Error(), "(rule reserved-label)") {
		t.Fatal(err)
	}
}

func TestErrorListsEverythingAndTheWayOut(t *testing.T) {
	if err := Error(nil); err != nil {
		t.Fatal(err)
	}
	one := Refusal{Rule: "privileged", File: "compose.yml", Line: 1, What: "service a asks", Waiver: "- {rule: privileged}", Hint: "do not"}
	err := Error([]Refusal{one})
	if err.Error() != one.Message()+"\n  "+one.Waiver || ccci.CodeOf(err) != ccci.CodeRefused || !strings.HasPrefix(ccci.HintOf(err), "do not; ") || !strings.Contains(ccci.HintOf(err), "waiver") {
		t.Errorf("%v, hint %q", err, ccci.HintOf(err))
	}
	err = Error([]Refusal{one, {Rule: "symlink", File: "b.yml", What: "second"}})
	if !strings.Contains(err.Error(), "2 things") || !strings.Contains(err.Error(), one.Message()+"\n  "+one.Waiver+"\nb.yml: second (rule symlink)") {
		t.Error(err)
	}
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Summary() != "the recipe asks for 2 settings that cc-ci does not allow: privileged (compose.yml:1), symlink (b.yml)" {
		t.Errorf("%v", err)
	} else if f := refused.Findings(); len(f) != 2 || f[0].Line != 1 || f[0].Waiver == "" || f[0].Hint != "do not" || !strings.Contains(f[1].Hint, "cannot be waived") {
		t.Errorf("findings %+v", f)
	}
	if hint := ccci.HintOf(Error([]Refusal{{Rule: "symlink", What: "x"}})); strings.Contains(hint, "waiver") {
		t.Errorf("a hint to a waiver that cannot lift it: %q", hint)
	}
}

// loaded builds a stack without the recipe package's own checks, so that Judge
// is seen to hold by itself.
func loaded(t *testing.T, dir string, files ...string) *recipe.Stack {
	t.Helper()
	s := &recipe.Stack{Name: testStack, Domain: testDomain, Recipe: "demo", Dir: dir, Files: files}
	s.Env.Set("STACK_NAME", testStack)
	s.Env.Set("DOMAIN", testDomain)
	details := types.ConfigDetails{WorkingDir: dir, Environment: s.Env.Map()}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		dict, err := loader.ParseYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: f, Config: dict})
	}
	var err error
	if s.Config, err = loader.Load(details); err != nil {
		t.Fatal(err)
	}
	return s
}

func rulesOf(refusals []Refusal) map[string]Refusal {
	m := map[string]Refusal{}
	for _, r := range refusals {
		m[r.Rule] = r
	}
	return m
}

func TestN3_JudgeHoldsByItself(t *testing.T) {
	dir := tree(t, map[string]string{
		"conf": "x", "sub/real": "x", "plain.env": "A=b\n",
		"compose.yml": `version: "3.8"
services:
  app:
    image: a:1
    env_file: [plain.env, env]
    networks: [nowhere]
    volumes: ["undeclared:/data"]
configs:
  inside: {file: conf}
  link: {file: link}
  folder: {file: linked/real}
  outside: {file: ../x}
  dir: {file: sub}
networks:
  proxy: {name: proxy}
`})
	for link, to := range map[string]string{"link": "conf", "linked": "sub", "env": "plain.env"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	var values []string
	for _, r := range Judge(loaded(t, dir, "compose.yml"), testPolicy()) {
		values = append(values, r.Rule+" "+r.Service+" "+r.Value)
		if r.File != "compose.yml" || !strings.HasPrefix(r.Message(), "compose.yml:") || strings.Contains(r.Message(), dir) {
			t.Errorf("%+v", r)
		}
	}
	want := []string{
		"file-outside  ../x", "file-outside  sub", "foreign-name  networks.proxy=proxy", "symlink  link", "symlink  linked/real",
		"foreign-network app nowhere", "foreign-volume app undeclared:rw", "symlink app env",
	}
	if got := strings.Join(values, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestN3_TheStackIsTheRunsOwn(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": "version: \"3.8\"\nservices:\n  app:\n    image: a:1\n"})
	for name, change := range map[string]func(*recipe.Stack){
		"stack of another": func(s *recipe.Stack) { s.Name = "ghost_example_org" },
		"another domain":   func(s *recipe.Stack) { s.Domain, s.Name = "ghost.example.org", "ghost_example_org" },
		"STACK_NAME":       func(s *recipe.Stack) { s.Env.Set("STACK_NAME", "ghost_example_org") },
		"DOMAIN":           func(s *recipe.Stack) { s.Env.Set("DOMAIN", "ghost.example.org") },
		"LD_PRELOAD":       func(s *recipe.Stack) { s.Env.Set("LD_PRELOAD", "/x.so") },
	} {
		s := loaded(t, dir, "compose.yml")
		if got := Judge(s, testPolicy()); len(got) != 0 {
			t.Fatalf("refused before: %v", got)
		}
		change(s)
		if _, ok := rulesOf(Judge(s, testPolicy()))[ruleControlVar]; !ok {
			t.Errorf("%s: admitted", name)
		}
	}
}

// A model that differs from its files is judged as a model, and the files too.
func TestN3_ModelAndFilesAreBothJudged(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": "version: \"3.8\"\nservices:\n  app:\n    image: a:1\n"})
	s := loaded(t, dir, "compose.yml")
	app := &s.Config.Services[0]
	app.Privileged, app.Pid, app.CapAdd = true, "host", []string{"ALL"}
	app.Deploy.Labels = types.Labels{"cc-ci.run": "260101-000000-ffffff"}
	got := rulesOf(Judge(s, testPolicy()))
	for _, rule := range []string{rulePrivileged, rulePID, ruleCapAdd, ruleReserved} {
		if _, ok := got[rule]; !ok {
			t.Errorf("%s in the model alone is admitted", rule)
		}
	}

	if err := os.WriteFile(filepath.Join(dir, "compose.yml"), []byte("version: \"3.8\"\nservices:\n  app:\n    image: a:1\n    userns_mode: host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := rulesOf(Judge(s, testPolicy()))[ruleUserNS]; !ok {
		t.Error("userns in the file alone is admitted")
	}
	if err := os.Remove(filepath.Join(dir, "compose.yml")); err != nil {
		t.Fatal(err)
	}
	if got := Judge(s, testPolicy()); len(got) == 0 {
		t.Error("files that are not there are admitted")
	}
}

func TestRulesAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.Name] {
			t.Errorf("%s stands twice in the table", r.Name)
		}
		seen[r.Name] = true
		if !strings.Contains(Doc(), "| `"+r.Name+"` | ") {
			t.Errorf("%s is not in the documentation", r.Name)
		}
	}
	Rules()[0].Name = "changed"
	if Rules()[0].Name == "changed" {
		t.Error("the table can be changed from outside")
	}
}

// N3: what a recipe calls proxy is the host's network, whatever it is called there; a network of
// the machine that is not the proxy's stays refused.
func TestN3_TheProxysNetworkUnderAnotherName(t *testing.T) {
	for name, want := range map[string]bool{"proxy": true, "backend": false} {
		dir := t.TempDir()
		compose := "version: \"3.8\"\nservices:\n  app:\n    image: nginx:1.27.2\n    networks: [n]\n    deploy:\n      labels:\n        - \"traefik.docker.network=" + name +
			"\"\nnetworks:\n  n:\n    name: " + name + "\n    external: true\n"
		for file, text := range map[string]string{"compose.yml": compose, ".env.sample": "TYPE=demo\nDOMAIN=demo.example.com\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		policy := testPolicy()
		policy.Network = "edge"
		stack, err := admitDir(dir, policy)
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && stack.Config.Networks["n"].Name != "edge" {
			t.Errorf("%s is %+v", name, stack.Config.Networks["n"])
		}
	}
}
