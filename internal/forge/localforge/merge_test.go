package localforge

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestA28_MergesByGit(t *testing.T) {
	begun := time.Now().Truncate(time.Second)
	f, work, pr := scene(t)
	repo := pr.Repo
	head := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), pr)).Head
	merge := func(tested ccci.Commit) ccci.Merge {
		t.Helper()
		return must[ccci.Merge](t)(f.Merge(t.Context(), pr, tested))
	}
	if got := merge(head); !got.IsZero() {
		t.Errorf("before the merge: %+v", got)
	}
	if got := merge(ccci.Commit(work.Git("rev-parse", "update^{tree}"))); !got.IsZero() {
		t.Errorf("what is no commit: %+v", got)
	}
	// By fast forward, and later commits of main, one of them a merge, are on it.
	work.Git("push", "--quiet", f.path(repo), "update:main")
	at := merge(head).At
	if got, want := merge(head), (ccci.Merge{Branch: "main", Default: true, Commit: head, Same: true, At: at}); got != want || at.Before(begun) || at.After(time.Now()) {
		t.Errorf("a fast forward: %+v, want %+v", got, want)
	}
	work.Git("checkout", "--quiet", "-B", "main", "update")
	work.Git("checkout", "--quiet", "-b", "side")
	work.Commit("side", "side.yml", "x: 1\n")
	work.Git("checkout", "--quiet", "main")
	for i := range 3 {
		work.Commit("main", "later.yml", fmt.Sprintf("x: %d\n", i))
	}
	work.Git("merge", "--quiet", "--no-ff", "--message", "Merge", "side")
	work.Push("main")
	if got, want := merge(head), (ccci.Merge{Branch: "main", Default: true, Commit: head, Same: true, At: at}); got != want {
		t.Errorf("after later commits: %+v, want %+v", got, want)
	}
	// Of a branch that was deleted after it was merged.
	other := work.Commit("other", "other.yml", "y: 1\n")
	second := must[ccci.PullRequest](t)(f.OpenPullRequest(t.Context(), repo, "Other", "other", "main", "ada")).Ref
	work.Git("checkout", "--quiet", "main")
	work.Git("merge", "--quiet", "--no-ff", "--message", "Merge other", "other")
	work.Push("main")
	work.Git("push", "--quiet", f.path(repo), ":other")
	got := must[ccci.Merge](t)(f.Merge(t.Context(), second, other))
	if !got.Same || string(got.Commit) != work.Git("rev-parse", "main") || got.At.IsZero() {
		t.Errorf("a deleted branch: %+v", got)
	}
}

// A28: what was pushed with another commit on top never was the branch, and where git noted
// nothing, only the branch as it is counts, at the commit's own time.
func TestA28_FastForwardsThatAreNone(t *testing.T) {
	f, work, lower := scene(t)
	repo := lower.Repo
	x := must[ccci.PullRequest](t)(f.PullRequest(t.Context(), lower)).Head
	work.Git("checkout", "--quiet", "update")
	y := work.Commit("upper", "compose.yml", "c")
	upper := must[ccci.PullRequest](t)(f.OpenPullRequest(t.Context(), repo, "Upper", "upper", "main", "ada")).Ref
	work.Git("push", "--quiet", f.path(repo), "upper:main")
	if got := must[ccci.Merge](t)(f.Merge(t.Context(), lower, x)); !got.IsZero() {
		t.Errorf("passed by: %+v", got)
	}
	if got := must[ccci.Merge](t)(f.Merge(t.Context(), upper, y)); got.Commit != y || !got.Same {
		t.Errorf("what was pushed: %+v", got)
	}
	work.Git("-C", f.path(repo), "reflog", "expire", "--expire=all", "--all")
	seconds, err := strconv.ParseInt(work.Git("log", "-1", "--format=%ct", string(y)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if got := must[ccci.Merge](t)(f.Merge(t.Context(), upper, y)); got.Commit != y || !got.At.Equal(time.Unix(seconds, 0)) {
		t.Errorf("without notes: %+v, want it at %d", got, seconds)
	}
	work.Git("checkout", "--quiet", "upper")
	work.Git("push", "--quiet", f.path(repo), string(work.Commit("later", "compose.yml", "d"))+":main")
	work.Git("-C", f.path(repo), "reflog", "expire", "--expire=all", "--all")
	if got := must[ccci.Merge](t)(f.Merge(t.Context(), upper, y)); !got.IsZero() {
		t.Errorf("without notes, and the branch is elsewhere: %+v", got)
	}
}
