package main

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// A8: a name that means two commits is refused with both, whichever git would take.
func TestA8_AnAmbiguousHeadIsRefused(t *testing.T) {
	dir := t.TempDir()
	gitIn(t, dir, "init", "--quiet", "--initial-branch=main")
	commit := func(note string) string {
		gitIn(t, dir, "commit", "--quiet", "--allow-empty", "--message="+note)
		at, err := gitcmd.Run(t.Context(), dir, "rev-parse", "HEAD")
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	first, second := commit("one"), commit("two")
	gitIn(t, dir, "tag", "both", first)
	gitIn(t, dir, "branch", "both", second)
	gitIn(t, dir, "tag", "alike", second)
	gitIn(t, dir, "branch", "alike", second)
	gitIn(t, dir, "tag", first[:8], second)
	for name, want := range map[string]string{"main": second, "alike": second, "HEAD": second, first: first, second[:8]: second, "refs/tags/both": first} {
		if got, err := revision(t.Context(), dir, name); string(got) != want {
			t.Errorf("%s is %s, %v; want %s", name, got, err, want)
		}
	}
	for name, want := range map[string][]string{
		"both":    {"the branch both (" + second[:8] + ")", "the tag both (" + first[:8] + ")"},
		first[:8]: {"an abbreviated commit (" + first[:8] + ")", "the tag " + first[:8] + " (" + second[:8] + ")"},
	} {
		_, err := revision(t.Context(), dir, name)
		if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(err.Error(), "ambiguous: it is "+strings.Join(want, " and ")) || !strings.Contains(ccci.HintOf(err), "refs/tags/") {
			t.Errorf("%s: %v, hint %q", name, err, ccci.HintOf(err))
		}
	}
}
