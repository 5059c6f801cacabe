package gitea

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
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
	if got, err := f.editedUnseen(t.Context(), ccci.PRRef{Repo: ccci.RepoRef{Owner: "nobody", Name: "nothing"}, Number: 1}); got != nil || err != nil {
		t.Errorf("a page that is not there told %v, %v", got, err)
	}
}

// A poll that ends before the page could be asked has not read the comments: they come again.
func TestA6_EditedPageNotAskedInTime(t *testing.T) {
	l := &listing{cap: pageSize}
	l.add(1, t0, "!testme")
	l.add(2, t0, "!testme")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasSuffix(r.URL.Path, "/content-history/overview"):
			l.ServeHTTP(w, r)
		case answers:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"editedHistoryCountMap":{"1":2}}`)
		default:
			cancel()
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	f := forgeAt(t, server.URL)
	f.opts.Now = func() time.Time { return time.Unix(t0+60, 0) }
	if got, next, err := f.Comments(ctx, repo, "7"); !errors.Is(err, context.Canceled) || len(got) != 0 || next != "7" {
		t.Fatalf("%d comments, %q, %v; want an error and the same cursor", len(got), next, err)
	}
	answers = true
	if got, _, err := f.Comments(t.Context(), repo, "7"); err != nil || len(got) != 2 || !got[0].Edited || got[1].Edited {
		t.Errorf("the next poll brings %+v, %v", got, err)
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
