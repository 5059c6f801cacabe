package examples

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/demoimages"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

func gitOut(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestMaterialiseMakesReleasesAndAPullRequest(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			repo, err := Materialise(t.TempDir(), name)
			if err != nil {
				t.Fatal(err)
			}
			versions := Versions(name)
			head := versions[len(versions)-1]
			for _, v := range versions[:len(versions)-1] {
				if kind := gitOut(t, repo, "cat-file", "-t", v); kind != "tag" {
					t.Errorf("%s is a %s, want an annotated tag (R014)", v, kind)
				}
				if !strings.Contains(gitOut(t, repo, "show", v+":compose.yml"), ".version="+v) {
					t.Errorf("%s: the version label is not the tag", v)
				}
			}
			if tags := gitOut(t, repo, "tag", "--list", head); tags != "" {
				t.Errorf("the head %s is released", head)
			}
			if !strings.Contains(gitOut(t, repo, "show", branchOf(versions)+":compose.yml"), ".version="+head) {
				t.Errorf("%s: the version label of the head is not %s", branchOf(versions), head)
			}
			if branch := gitOut(t, repo, "branch", "--show-current"); branch != "main" {
				t.Errorf("%s is checked out, want main", branch)
			}
			if status := gitOut(t, repo, "status", "--porcelain"); status != "" {
				t.Errorf("the work tree is not clean: %s", status)
			}
		})
	}
}

func TestMaterialiseIsTheSameEverywhere(t *testing.T) {
	t.Setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z") // must not matter
	var heads []string
	for range 2 {
		repo, err := Materialise(t.TempDir(), "pocketbase")
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, gitOut(t, repo, "rev-parse", branchOf(Versions("pocketbase")), "0.1.0+0.28.2"))
	}
	if heads[0] != heads[1] {
		t.Errorf("two repositories of one recipe differ:\n%s\n%s", heads[0], heads[1])
	}
}

func TestMaterialiseReplacesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if _, err := Materialise(dir, "canary-good"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnknownRecipe(t *testing.T) {
	for _, name := range []string{"", "no-such", "..", "pocketbase/0.1.0+0.28.2"} {
		_, err := Materialise(t.TempDir(), name)
		if ccci.CodeOf(err) != ccci.CodeNotFound {
			t.Errorf("Materialise(%q) = %v, want an Error with CodeNotFound", name, err)
		}
		if _, err := UpgradeBranch(name); ccci.CodeOf(err) != ccci.CodeNotFound {
			t.Errorf("UpgradeBranch(%q) = %v, want an Error with CodeNotFound", name, err)
		}
	}
}

// Level 5 asks for a lint without errors; the examples ask for one without warnings
// that a repository on this machine can avoid.
func TestU7_ExamplesAreLintClean(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			repo, err := Materialise(t.TempDir(), name)
			if err != nil {
				t.Fatal(err)
			}
			base, err := recipe.Open(repo, commitOf(t, repo, "main"))
			if err != nil {
				t.Fatal(err)
			}
			gitOut(t, repo, "checkout", "--quiet", branchOf(Versions(name)))
			findings, err := recipe.LintDir(t.Context(), repo, commitOf(t, repo, "HEAD"), base, recipe.LintOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				t.Errorf("%s %s %s:%d: %s (%s)", f.Severity, f.Rule, f.File, f.Line, f.Message, f.Hint)
			}
		})
	}
}

func commitOf(t *testing.T, repo, ref string) ccci.Commit {
	return ccci.Commit(gitOut(t, repo, "rev-parse", ref+"^{commit}"))
}

func TestEveryImageCanBeBuilt(t *testing.T) {
	for _, name := range Names() {
		for _, version := range Versions(name) {
			text, err := content.ReadFile("recipes/" + name + "/" + version + "/compose.yml")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if ref, ok := strings.CutPrefix(strings.TrimSpace(line), "image: "); ok && !slices.Contains(demoimages.References(), ref) {
					t.Errorf("%s %s wants %s, which nobody builds", name, version, ref)
				}
			}
		}
	}
}

func TestA36_EveryExampleIsEnrolled(t *testing.T) {
	testsDir, err := filepath.Abs("../tests")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		r, err := enrol.Read(testsDir, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(r.Seed) == 0 || len(r.Verify) == 0 || len(r.Checks) == 0 || len(r.Backup.Expect) == 0 {
			t.Errorf("%s: an example shows all of seed, verify, checks and backup.expect", name)
		}
	}
}

func TestU21_EveryCanarySaysWhatMustComeOut(t *testing.T) {
	stages := make(map[ccci.StageName]bool)
	for _, name := range Names() {
		e, err := Expected(name)
		if !strings.HasPrefix(name, Canary) {
			if ccci.CodeOf(err) != ccci.CodeNotFound {
				t.Errorf("%s is no canary and has an expectation (%v)", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		stages[e.Stage] = true
		if (e.Status == ccci.StatusPassed) != (e.Check == "") {
			t.Errorf("%s: a red canary names the failing check, a green one none: %+v", name, e)
		}
		// The search for secrets is one of the stage checks, under a name of its own.
		if e.Stage != "" && !strings.HasPrefix(e.Check, string(e.Stage)+"/") && e.Check != "secrets/not-in-logs" {
			t.Errorf("%s: check %q is not of stage %q", name, e.Check, e.Stage)
		}
	}
	for _, stage := range ccci.StageNames {
		if !stages[stage] {
			t.Errorf("no canary is red at %s", stage)
		}
	}
}
