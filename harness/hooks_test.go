package harness

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// enrolled gives a life an enrolment folder with files; scripts are executable.
func enrolled(t *testing.T, l *life, files map[string]string) {
	t.Helper()
	l.settings.Dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(l.settings.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHookSeesTheRunAndNothingOfThisProcess(t *testing.T) {
	t.Setenv("FORGE_TOKEN", "hunter2")
	l := aLife(t)
	l.Job.RunID, l.Job.Recipe = "261121-030405-abcdef", "wiki"
	l.Env = []string{"PATH=" + os.Getenv("PATH"), "ONLY=this"}
	enrolled(t, l, map[string]string{"hooks/pre-install": "#!/bin/sh\nenv > seen\npwd >> seen\n"})
	var s = ccci.Stage{Name: ccci.StageInstall}
	if !l.hook(t.Context(), &s, "pre-install") {
		t.Fatalf("%+v", s.Checks)
	}
	text, err := os.ReadFile(filepath.Join(l.settings.Dir, "seen"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, want := range []string{
		"CCCI_DOMAIN=app.ci.example.org", "CCCI_STACK=app_ci_example_org", "CCCI_RUN_ID=261121-030405-abcdef",
		"CCCI_RECIPE=wiki", "CCCI_MARKER=" + l.marker("A"), "ONLY=this", l.settings.Dir,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the hook does not see %s in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "hunter2") {
		t.Error("the hook sees the environment of cc-ci")
	}
	if s.Checks[0].Name != "install/hook-pre-install" {
		t.Errorf("%+v", s.Checks)
	}
}

func TestHookThatCannotOrDoesNotSucceed(t *testing.T) {
	l := aLife(t)
	l.Env = []string{"PATH=" + os.Getenv("PATH")}
	enrolled(t, l, map[string]string{
		"hooks/plain": "touch should-not-run\n",
		"hooks/fails": "#!/bin/sh\necho begun\necho no luck >&2\nexit 3\n",
		"hooks/hangs": "#!/bin/sh\nsleep 600\n",
	})
	for _, c := range []struct {
		name, message string
		code          ccci.Code
	}{
		{"plain", "is not executable", ccci.CodeInvalid},
		{"fails", "hook fails: exit status 3: no luck", ccci.CodeRecipe},
		{"hangs", "hook hangs: it did not end in time", ccci.CodeRecipe},
	} {
		if c.name == "hangs" {
			l.settings.Timeouts.Hook = 200 * time.Millisecond
		}
		s := ccci.Stage{Name: ccci.StageUpgrade}
		if l.hook(t.Context(), &s, c.name) {
			t.Errorf("%s: the stage goes on", c.name)
			continue
		}
		got := s.Checks[0]
		if got.Status != ccci.Fail || got.Code != c.code || !strings.Contains(got.Message, c.message) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if c.name == "fails" && !slices.Equal(got.Detail, []string{"begun", "no luck"}) {
			t.Errorf("what it said: %q", got.Detail)
		}
	}
	s := ccci.Stage{Name: ccci.StageUpgrade}
	if !l.hook(t.Context(), &s, "absent") || len(s.Checks) != 0 {
		t.Errorf("a hook that is not there: %+v", s.Checks)
	}
}

func TestU23_GoTestsThatRanNothingFail(t *testing.T) {
	const mod = "module wiki\n\ngo 1.26\n"
	for name, c := range map[string]struct {
		test   string
		status ccci.CheckStatus // of the stage
		row    string
	}{
		"nothing ran": {"package wiki\n", ccci.Fail, "checks/go-tests"},
		"skips itself": {"package wiki\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Skip(\"no luck\") }\n\nfunc TestB(*testing.T) {}\n",
			ccci.Unverified, "checks/go-testa"},
		"does not compile": {"package wiki\n\nfunc TestA() int {}\n", ccci.Fail, "checks/go-tests"},
		"fails":            {"package wiki\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Error(\"no\") }\n", ccci.Fail, "checks/go-testa"},
		"passes":           {"package wiki\n\nimport \"testing\"\n\nfunc TestA(*testing.T) {}\n", ccci.Pass, "checks/go-testa"},
	} {
		t.Run(name, func(t *testing.T) {
			l := aLife(t)
			l.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off")
			enrolled(t, l, map[string]string{"go.mod": mod, "wiki_test.go": c.test})
			s := ccci.Stage{Name: ccci.StageChecks}
			l.goTests(t.Context(), &s)
			s.Settle()
			if s.Status != c.status {
				t.Errorf("%s, want %s: %+v", s.Status, c.status, s.Checks)
			}
			if i := slices.IndexFunc(s.Checks, func(k ccci.Check) bool { return k.Name == c.row }); i < 0 || s.Checks[i].Status != c.status {
				t.Errorf("no row %s that is %s: %+v", c.row, c.status, s.Checks)
			}
		})
	}
}
