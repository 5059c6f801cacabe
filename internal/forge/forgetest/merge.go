package forgetest

import (
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// merge asks the adapter, twice and after a restart.
func (s *scene) merge(tested ccci.Commit) ccci.Merge {
	s.t.Helper()
	got, err := s.Forge.Merge(s.t.Context(), s.pr, tested)
	if err != nil {
		s.t.Fatal(err)
	}
	again, err := s.Reopen().Merge(s.t.Context(), s.pr, tested)
	if err != nil {
		s.t.Fatal(err)
	}
	// Gitea rounds the time of a merge, before and after a restart to another second.
	if d := again.At.Sub(got.At).Abs(); d > 2*time.Second {
		s.t.Errorf("asked again, the merge was at %v, not %v", again.At, got.At)
	}
	got.At = again.At
	same(s.t, "asked again", again, got)
	return got
}

// mergePull merges the pull request of the scene from branch into base.
func (s *scene) mergePull(style, branch, base string) ccci.Commit {
	s.t.Helper()
	return s.MergePull(s.pr, style, func() ccci.Commit {
		s.work.Git("checkout", "--quiet", base)
		if style == "squash" {
			s.work.Git("merge", "--quiet", "--squash", branch)
			s.work.Git("commit", "--quiet", "--message", "Squashed")
		} else {
			s.work.Git("merge", "--quiet", "--no-ff", "--message", "Merge "+branch, branch)
		}
		s.work.Push(base)
		return ccci.Commit(s.work.Git("rev-parse", "HEAD"))
	})
}

func testMerge(t *testing.T, o Options) {
	for _, style := range []string{"merge", "squash"} {
		s := newScene(t, o)
		older := s.head
		s.head = s.work.Commit("update", "abra.sh", "export X=1\n")
		same(t, "before the merge", s.merge(s.head), ccci.Merge{})
		commit := s.mergePull(style, "update", "main")
		got := s.merge(s.head)
		want := ccci.Merge{Branch: "main", Default: true, Commit: commit, Same: true, At: got.At}
		same(t, style, got, want)
		if commit == s.head {
			t.Fatalf("%s made no commit", style)
		}
		if got := s.merge(older); got.Same {
			t.Errorf("%s: an older head counts as what was merged: %+v", style, got)
		}
		if got := s.merge("1234567890123456789012345678901234567890"); got.Same {
			t.Errorf("%s: a commit that nobody has counts as what was merged: %+v", style, got)
		}
	}
	s := newScene(t, o)
	s.ClosePull(s.pr)
	same(t, "closed", s.merge(s.head), ccci.Merge{})
}

// What nobody tested came in beside it.
func testMergeOther(t *testing.T, o Options) {
	s := newScene(t, o)
	s.work.Git("checkout", "--quiet", "main")
	s.work.Commit("main", "other.yml", "x: 1\n")
	commit := s.mergePull("merge", "update", "main")
	got := s.merge(s.head)
	same(t, "the merge", got, ccci.Merge{Branch: "main", Default: true, Commit: commit, At: got.At})
}

func testMergeElsewhere(t *testing.T, o Options) {
	s := newScene(t, o)
	s.work.Git("checkout", "--quiet", "main")
	s.work.Git("checkout", "--quiet", "-b", "stable")
	s.work.Push("stable")
	s.head = s.work.Commit("fix", "compose.yml", "version: '3.10'\n")
	s.pr = s.OpenPullRequest(repo, "Fix", "fix", "stable", "ada")
	commit := s.mergePull("merge", "fix", "stable")
	got := s.merge(s.head)
	same(t, "the merge", got, ccci.Merge{Branch: "stable", Commit: commit, Same: true, At: got.At})
}
