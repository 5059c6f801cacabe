package gitea

import (
	"os/exec"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	server "github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// A6: a comment that is changed within the second in which it was written has the
// times of one that nobody touched.
func TestA6_EditedWithinItsSecond(t *testing.T) {
	s := gitea(t)
	push := clean(t, s, repo)
	pull := openOne(t, s, push)
	f := connect(t, s)
	since := ccci.Cursor("")
	for range 20 {
		id := s.Comment(t, repo.String(), pull, server.Admin, "looks good")
		s.EditComment(t, repo.String(), id, server.Admin, "!testme")
		plain := s.Comment(t, repo.String(), pull, server.Admin, "!testme")
		row, err := f.comment(t.Context(), ccci.PRRef{Repo: repo, Number: pull}, commentID(id))
		if err != nil {
			t.Fatal(err)
		}
		comments, next, err := f.Comments(t.Context(), repo, since)
		if err != nil {
			t.Fatal(err)
		}
		since = next
		edited := map[ccci.CommentID]bool{}
		for _, c := range comments {
			edited[c.ID] = c.Edited
		}
		if !edited[commentID(id)] || edited[commentID(plain)] {
			t.Fatalf("edited %t, plain %t", edited[commentID(id)], edited[commentID(plain)])
		}
		if row.Created.Equal(row.Updated) {
			return // the case that the times do not tell of was seen
		}
		nextSecond()
	}
	t.Error("no comment was edited within its second")
}

// Where the page does not answer, the times decide.
func TestA6_EditedPageAway(t *testing.T) {
	s := gitea(t)
	push := clean(t, s, repo)
	pull := openOne(t, s, push)
	f := connect(t, s, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(3 * 24 * time.Hour) } })
	id := s.Comment(t, repo.String(), pull, server.Admin, "!testme")
	comments, _, err := f.Comments(t.Context(), repo, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range comments {
		if c.ID == commentID(id) && c.Edited {
			t.Error("a comment that nobody touched counts as edited")
		}
	}
	if got := f.editedUnseen(t.Context(), ccci.PRRef{Repo: ccci.RepoRef{Owner: "nobody", Name: "nothing"}, Number: 1}); got != nil {
		t.Errorf("a page that is not there told %v", got)
	}
}

// openOne pushes a branch and opens a pull request from it.
func openOne(t *testing.T, s *server.Server, push string) int {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"-c", "user.name=ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--allow-empty", "--message=First"},
		{"checkout", "--quiet", "-b", "change"},
		{"-c", "user.name=ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--allow-empty", "--message=Second"},
		{"push", "--quiet", push, "main", "change"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	return s.OpenPull(t, repo.String(), server.Admin, "Change", "change", "main")
}
