package forgetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func testPostEdit(t *testing.T, o Options) {
	s := newScene(t, o)
	id, err := s.Forge.PostComment(t.Context(), s.pr, "run/1/comment", "⏳ queued")
	if err != nil || id == "" {
		t.Fatalf("PostComment = %q, %v", id, err)
	}
	if err := s.Forge.EditComment(t.Context(), s.pr, id, "✅ passed"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reopen().EditComment(t.Context(), s.pr, id, "✅ passed at level 5"); err != nil {
		t.Fatal(err)
	}
	thread := s.Thread(s.pr)
	if len(thread) != 1 || thread[0].ID != id || strings.TrimSpace(thread[0].Body) == "" ||
		!strings.Contains(thread[0].Body, "✅ passed at level 5") || strings.Contains(thread[0].Body, "queued") {
		t.Errorf("readers see %+v", thread)
	}
	self, err := s.Forge.Self(t.Context())
	if err != nil || thread[0].Author.ID != self.ID {
		t.Errorf("it was written by %+v, want %+v (%v)", thread[0].Author, self, err)
	}
	if comments, _ := s.comments(""); len(comments) > 0 && comments[0].Author.ID != self.ID {
		t.Errorf("the poll reports it as %+v", comments[0])
	}
}

func testPostIdempotent(t *testing.T, o Options) {
	s := newScene(t, o)
	const key = "reply/42"
	first, err := s.Forge.PostComment(t.Context(), s.pr, key, "hello")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Reopen().PostComment(t.Context(), s.pr, key, "hello, differently")
	if err != nil || again != first {
		t.Errorf("the same key again = %s, %v; want %s", again, err, first)
	}
	other, err := s.Forge.PostComment(t.Context(), s.pr, "reply/43", "hello")
	if err != nil || other == first {
		t.Errorf("another key = %s, %v; want another comment than %s", other, err, first)
	}
	thread := s.Thread(s.pr)
	if len(thread) != 2 {
		t.Fatalf("readers see %d comments, want 2: %v", len(thread), bodies(thread))
	}
	for _, c := range thread {
		if strings.Contains(c.Body, "differently") {
			t.Errorf("a second post of a key changed the comment: %q", c.Body)
		}
	}
	ids := make([]ccci.CommentID, 6)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = s.Forge.PostComment(t.Context(), s.pr, "race", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(s.Thread(s.pr)); n != 3 || len(slices.Compact(ids)) != 1 {
		t.Errorf("rivals with one key got %v; readers see %d comments, want 3", ids, n)
	}
}

func testEditOthers(t *testing.T, o Options) {
	s := newScene(t, o)
	id := s.Comment(s.pr, "ada", "mine")
	if err := s.Forge.EditComment(t.Context(), s.pr, id, "yours"); err == nil {
		t.Error("somebody's comment could be edited")
	}
	same(t, "the thread", bodies(s.Thread(s.pr)), []string{"mine"})
	if err := s.Forge.EditComment(t.Context(), s.pr, "999999", "x"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("a comment that is not there: %v, want ErrNotFound", err)
	}
}

func testStatuses(t *testing.T, o Options) {
	s := newScene(t, o)
	set := func(status ccci.CommitStatus) {
		t.Helper()
		if err := s.Forge.SetStatus(t.Context(), repo, s.head, status); err != nil {
			t.Fatal(err)
		}
	}
	var want ccci.CommitStatus
	for _, state := range []ccci.StatusState{ccci.StatePending, ccci.StateFailure, ccci.StateError, ccci.StateSuccess} {
		want = ccci.CommitStatus{Context: "cc-ci/testme", State: state, Description: "is " + string(state), URL: "https://ci.example.org/runs/1"}
		set(want)
	}
	same(t, "the last one of a context counts", s.Statuses(repo, s.head), []ccci.CommitStatus{want})
	other := ccci.CommitStatus{Context: "cc-ci/lint", State: ccci.StateFailure, Description: strings.Repeat("é", 140)}
	set(other)
	same(t, "statuses by context", s.Statuses(repo, s.head), []ccci.CommitStatus{other, want})
	if got := s.Statuses(repo, s.base); len(got) != 0 {
		t.Errorf("another commit has %v", got)
	}
	if err := s.Forge.SetStatus(t.Context(), repo, "ffffffffffffffffffffffffffffffffffffffff", want); err == nil {
		t.Error("a commit that is not there got a status")
	}
}
