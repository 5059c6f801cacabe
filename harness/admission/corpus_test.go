package admission

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

var update = flag.Bool("update", false, "rewrite the expected refusals")

const (
	testDomain  = "demo-0a1b2c.ci.example.org"
	testSandbox = "sandbox-demo-0a1b2c.ci.example.org"
	testStack   = "demo-0a1b2c_ci_example_org"
	testRun     = ccci.RunID("261120-101500-0a1b2c")
)

func testPolicy() Policy {
	return Policy{
		RunID: testRun, Domains: []string{testDomain, testSandbox}, Network: "proxy", Entrypoints: []string{"gitea-ssh"},
		Now: time.Date(2026, 11, 20, 10, 15, 0, 0, time.UTC),
	}
}

func testRender() recipe.RenderOptions {
	return recipe.RenderOptions{
		Domain: testDomain, ExtraDomains: map[string]string{"SANDBOX_DOMAIN": testSandbox},
		ChaosVersion: "0123abcd", Labels: map[string]string{"cc-ci.run": string(testRun)},
	}
}

// admitDir takes a folder the way a run does.
func admitDir(dir string, p Policy) (*recipe.Stack, error) {
	return admitWith(dir, testRender(), p)
}

func admitWith(dir string, r recipe.RenderOptions, p Policy) (*recipe.Stack, error) {
	tree, err := recipe.Open(dir, "")
	if err != nil {
		return nil, err
	}
	return Admit(tree, r, Limits{}, p)
}

func folders(t *testing.T, pattern string, atLeast int) []string {
	t.Helper()
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) < atLeast {
		t.Fatalf("%d cases under %s, want at least %d", len(dirs), pattern, atLeast)
	}
	return dirs
}

// Every folder of testdata/hostile is a recipe that must be refused; want.txt
// holds the sentences. A folder is named NN-rule, and that rule must be among those that refuse it.
func TestN3_HostileRecipesAreRefused(t *testing.T) {
	for _, dir := range folders(t, "testdata/hostile/[0-9]*", 40) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			stack, err := admitDir(dir, testPolicy())
			if err == nil {
				t.Fatalf("admitted as %s", stack.Name)
			}
			var e *ccci.Error
			if !errors.As(err, &e) || e.Code == ccci.CodeInfra {
				t.Errorf("not a classified error: %v", err)
			}
			got := e.Message + "\n"
			if strings.Contains(got, "/testdata/") {
				t.Errorf("the message names a path of this machine: %s", got)
			}
			_, rule, _ := strings.Cut(filepath.Base(dir), "-")
			rule, _, _ = strings.Cut(rule, ".")
			if !strings.Contains(got, "(rule "+rule+")") {
				t.Errorf("the rule %s does not refuse it: %s", rule, got)
			}
			golden := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestN3_HarmlessRecipesAreAdmitted(t *testing.T) {
	for _, dir := range folders(t, "testdata/harmless/[0-9]*", 10) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			stack, err := admitDir(dir, testPolicy())
			if err != nil {
				t.Fatal(err)
			}
			if stack.Name != testStack || len(stack.Config.Services) == 0 {
				t.Errorf("stack %q with %d services", stack.Name, len(stack.Config.Services))
			}
		})
	}
}

// Every rule of the table refuses something in the corpus: a rule without a
// case would be a rule that nobody has seen work.
func TestN3_EveryRuleHasACase(t *testing.T) {
	var all strings.Builder
	for _, file := range folders(t, "testdata/hostile/*/want.txt", 40) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, file := range folders(t, "testdata/hostile/*.txtar", 150) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`refused: ([a-z-]+)`).FindAllStringSubmatch(string(text), -1) {
			all.WriteString("(rule " + m[1] + ")")
		}
	}
	for _, r := range Rules() {
		if r.What == "" || r.Why == "" {
			t.Errorf("rule %s is not documented", r.Name)
		}
		if r.Name == ruleWaiver {
			continue // about our own files, see judge_test.go
		}
		if !strings.Contains(all.String(), "(rule "+r.Name+")") {
			t.Errorf("no case shows the rule %s", r.Name)
		}
	}
}
