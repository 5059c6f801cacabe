package gitea

import (
	"errors"
	"net/http"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
)

// A10: the author of a pull request blocks cc-ci's account. That is final for what is said
// there, and nothing else: the status and another pull request are written to.
func TestA10_BlockedByTheAuthor(t *testing.T) {
	s := gitea(t)
	f := connect(t, s)
	push := clean(t, s, repo)
	other := ccci.PRRef{Repo: repo, Number: openOne(t, s, push)} // of an account that has no block
	work := forgetest.NewWork(t, push)
	work.Commit("base", "compose.yml", "a")
	work.Commit("theirs", "compose.yml", "b")
	s.Collaborator(t, repo.String(), "eve", "read")
	pr := ccci.PRRef{Repo: repo, Number: s.OpenPull(t, repo.String(), "eve", "Another", "theirs", "base")}
	id, err := f.PostComment(t.Context(), pr, "before", "hello")
	if err != nil {
		t.Fatal(err)
	}
	if code, err := s.Do("eve", http.MethodPut, "/user/blocks/"+bot, nil, nil); err != nil {
		t.Fatalf("blocking: %d, %v", code, err)
	}
	t.Cleanup(func() {
		if _, err := s.Do("eve", http.MethodDelete, "/user/blocks/"+bot, nil, nil); err != nil {
			t.Error(err)
		}
	})
	_, post := f.PostComment(t.Context(), pr, "after", "hello")
	for what, err := range map[string]error{"a new comment": post, "an edit": f.EditComment(t.Context(), pr, id, "hello again")} {
		if !errors.Is(err, ccci.ErrLocked) || !errors.Is(err, ccci.ErrRefused) || ccci.HintOf(err) == "" {
			t.Errorf("%s: %v, want ErrLocked and a hint", what, err)
		}
	}
	pull, err := f.PullRequest(t.Context(), pr)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetStatus(t.Context(), repo, pull.Head, ccci.CommitStatus{Context: "cc-ci/testme", State: ccci.StatePending}); err != nil {
		t.Errorf("the status: %v", err)
	}
	if _, err := f.PostComment(t.Context(), other, "after", "hello"); err != nil {
		t.Errorf("on another pull request: %v", err)
	}
}

// What the forge refuses for one pull request is kept apart from what concerns the account and
// from trouble of its own or of what stands before it.
func TestA10_WhatTheForgeRefuses(t *testing.T) {
	for _, test := range []struct {
		status  int
		message string
		want    error // nil: it may be the whole forge
	}{
		{403, "user is blocked", ccci.ErrLocked},
		{403, "user should have permission to write", ccci.ErrRefused},
		{422, "too long", ccci.ErrRefused},
		{413, "too long", ccci.ErrRefused},
		{403, "token does not have at least one of required scope(s)", nil},
		{403, "", nil}, // not the forge's own
		{401, "user does not exist", nil},
		{429, "slow down", nil},
		{500, "database is locked", nil},
	} {
		err := explain(&refusal{test.status, test.message})
		if got := errors.Is(err, ccci.ErrRefused); got != (test.want != nil) || test.want != nil && !errors.Is(err, test.want) || errors.Is(err, ccci.ErrLocked) != (test.want == ccci.ErrLocked) {
			t.Errorf("%d %q: %v; want %v", test.status, test.message, err, test.want)
		}
	}
}
