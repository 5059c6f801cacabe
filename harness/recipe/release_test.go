package recipe_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
)

func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.net", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out))
}

// A17: the version tags of a clone are known, with what they point at and of which kind.
func TestA17_Releases(t *testing.T) {
	dir := unpack(t, "page")
	git(t, dir, "init", "-q")
	commit := func(name string) ccci.Commit {
		write(t, dir, "note", name)
		git(t, dir, "add", ".")
		git(t, dir, "commit", "-q", "-m", name)
		return ccci.Commit(git(t, dir, "rev-parse", "HEAD"))
	}
	first := commit("first")
	git(t, dir, "tag", "-a", "-m", "one", "0.9.0+1.26")
	second := commit("second")
	git(t, dir, "tag", "0.10.0+1.27") // lightweight
	git(t, dir, "tag", "not-a-version")
	git(t, dir, "tag", "-a", "-m", "of a blob", "0.11.0+1.27", git(t, dir, "hash-object", "-w", "note"))
	head := commit("head")

	clone := filepath.Join(t.TempDir(), "clone")
	git(t, dir, "clone", "-q", dir, clone)
	// What the repository configures must not be run by a look at its tags.
	marker := filepath.Join(t.TempDir(), "ran")
	git(t, clone, "config", "core.fsmonitor", "touch "+marker)

	releases, err := recipe.Releases(t.Context(), clone)
	if err != nil {
		t.Fatal(err)
	}
	want := []recipe.Release{
		{Tag: "0.10.0+1.27", Commit: second, Annotated: false},
		{Tag: "0.9.0+1.26", Commit: first, Annotated: true},
	}
	if len(releases) != 2 || releases[0] != want[0] || releases[1] != want[1] {
		t.Errorf("releases %v, want %v", releases, want)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the repository's own configuration was executed")
	}
	candidates, err := recipe.Candidates(t.Context(), clone, releases, head, "0.10.0+1.27")
	if err != nil {
		t.Fatal(err)
	}
	if base, reason, ok := recipe.ChooseBase(candidates, "0.10.0+1.27"); !ok || base.Commit != first {
		t.Errorf("base %v, %q", base, reason)
	}
}

// M2: a commit is laid out where no other user can put another file in its place, and what a killed
// process leaves is found by the next.
func TestM2_CommitsAreLaidOutWhereNobodyElseReaches(t *testing.T) {
	dir := unpack(t, "page")
	git(t, dir, "init", "-q")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "first")
	commit := ccci.Commit(git(t, dir, "rev-parse", "HEAD"))

	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	tree, remove, err := recipe.AtCommit(t.Context(), dir, commit)
	if err != nil || tree.Commit != commit {
		t.Fatalf("%+v, %v", tree, err)
	}
	if made, err := filepath.Glob(filepath.Join(temporary, "cc-ci-run-*")); err != nil || len(made) != 1 {
		t.Errorf("a sweep would not find %v, %v", made, err)
	}
	if swept, err := scratch.Sweep(); err != nil || len(swept) > 0 {
		t.Errorf("a sweep takes %v of a living process, %v", swept, err)
	}
	remove()
	remove()
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	if err := os.Chmod(temporary, 0o777); err != nil { // and not sticky
		t.Fatal(err)
	}
	_, remove, err = recipe.AtCommit(t.Context(), dir, commit)
	remove()
	if ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(err.Error(), "others may replace") {
		t.Errorf("where others may replace files: %v", err)
	}
}

func TestReleasesErrors(t *testing.T) {
	if _, err := recipe.Releases(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a git repository") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := recipe.Releases(ctx, t.TempDir()); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("error %v", err)
	}
}

// U4: what an upgrade can start from, as it is read before a run.
func TestU4_Bases(t *testing.T) {
	dir := unpack(t, "page")
	git(t, dir, "init", "-q")
	release := func(tag string) ccci.Commit {
		write(t, dir, "note", tag)
		git(t, dir, "add", ".")
		git(t, dir, "commit", "-q", "-m", tag)
		git(t, dir, "tag", tag)
		return ccci.Commit(git(t, dir, "rev-parse", "HEAD"))
	}
	tree, err := recipe.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	version := tree.Version()
	first := release("0.0.1+1.0")
	release(version)
	head := release("999.0.0+1.0")

	bases, err := recipe.Bases(t.Context(), dir, head)
	if err != nil || !slices.Equal(bases.Usable, []string{"0.0.1+1.0"}) || len(bases.Unusable) != 2 ||
		bases.Unusable["999.0.0+1.0"] != "it is the head itself" || bases.Unusable[version] != "its version "+version+" is not older than the head's "+version {
		t.Errorf("%+v, %v", bases, err)
	}
	if bases, err = recipe.Bases(t.Context(), dir, first); err != nil || bases.Unusable["0.0.1+1.0"] == "" || len(bases.Usable) != 0 {
		t.Errorf("of the oldest release: %+v, %v", bases, err)
	}
	// What states no version, as it is no recipe, compares with nothing.
	git(t, dir, "rm", "-q", "compose.yml")
	git(t, dir, "commit", "-q", "-m", "no recipe")
	if bases, err = recipe.Bases(t.Context(), dir, ccci.Commit(git(t, dir, "rev-parse", "HEAD"))); err != nil || len(bases.Usable) != 3 {
		t.Errorf("of what is no recipe: %+v, %v", bases, err)
	}
	if _, err := recipe.Bases(t.Context(), dir, ccci.Commit(strings.Repeat("1", 40))); err == nil {
		t.Error("of a commit that is not there")
	}
}
