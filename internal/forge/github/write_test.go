package github

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

func TestN2_CommentInDoubtIsWrittenOnce(t *testing.T) {
	for name, fault := range map[string]githubfake.Fault{
		"the answer was lost":      {Method: "POST", Hangup: true, After: true},
		"it timed out, and was in": {Method: "POST", Status: 502, Body: "<html>", After: true},
		"it was not carried out":   {Method: "POST", Status: 502, Body: "<html>"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, githubfake.Options{})
			f := adapter(t, s, nil)
			create(t, s, repo)
			pr := pullOn(t, s, repo)
			s.Inject(fault)
			if id, err := f.PostComment(t.Context(), pr, "k", "hello"); err == nil || errors.Is(err, ccci.ErrNotFound) {
				t.Fatalf("the first attempt = %s, %v", id, err)
			}
			// GitHub may not show yet what it has: at once it is not tried again.
			if id, err := f.PostComment(t.Context(), pr, "k", "hello"); err == nil || ccci.CodeOf(err) != ccci.CodeInfra {
				t.Errorf("at once = %s, %v; want an error that can be retried", id, err)
			}
			if _, err := f.PostComment(t.Context(), pr, "another", "hello"); err != nil {
				t.Errorf("another comment: %v", err)
			}
			s.Advance(unsureFor)
			id, err := f.PostComment(t.Context(), pr, "k", "hello")
			if err != nil || id == "" {
				t.Errorf("later = %s, %v", id, err)
			}
			if thread := s.Thread(pr); len(thread) != 2 {
				t.Errorf("readers see %+v", thread)
			}
		})
	}
}

// A tag that somebody copied into a comment of theirs is nothing to us.
func TestN2_TagOfOthersDoesNotCount(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	forged := s.Comment(pr, "eve", ccci.TagOfKey("k").AppendTo("all is green"))
	id, err := f.PostComment(t.Context(), pr, "k", "⏳ queued")
	if err != nil || id == forged {
		t.Errorf("PostComment = %s, %v; eve's comment is %s", id, err, forged)
	}
	if err := adapter(t, s, nil).EditComment(t.Context(), pr, forged, "x"); ccci.CodeOf(err) != ccci.CodeRefused {
		t.Errorf("editing eve's comment: %v, want CodeRefused", err)
	}
	// What cc-ci's account wrote by hand is not ours to edit either.
	byHand := s.Comment(pr, "cc-ci", "hello")
	if err := f.EditComment(t.Context(), pr, byHand, "x"); ccci.CodeOf(err) != ccci.CodeRefused {
		t.Errorf("editing a comment without a tag: %v, want CodeRefused", err)
	}
	for range 120 {
		s.Comment(pr, "ada", "chatter")
	}
	if again, err := adapter(t, s, nil).PostComment(t.Context(), pr, "k", "x"); err != nil || again != id {
		t.Errorf("among many: %s, %v; want %s", again, err, id)
	}
	second := pullOn(t, s, repo)
	if err := f.EditComment(t.Context(), second, id, "x"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("by another pull request: %v, want ErrNotFound", err)
	}
}

func TestA10_LongCommentsAreCut(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	for name, body := range map[string]string{
		"letters":      strings.Repeat("x", 200_000),
		"astral ones":  strings.Repeat("🦀", 70_000),
		"lines":        strings.Repeat("a line of text\n", 10_000),
		"a code block": "text\n```\n" + strings.Repeat("log line\n", 20_000) + "```\n",
	} {
		id, err := f.PostComment(t.Context(), pr, name, body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		thread := s.Thread(pr)
		got := thread[len(thread)-1].Body
		if !strings.Contains(got, "The rest was cut") || units(got) > githubfake.BodyLimit || strings.Count(got, "```")%2 != 0 {
			t.Errorf("%s: %d characters, ending in %q", name, units(got), got[max(0, len(got)-200):])
		}
		if err := f.EditComment(t.Context(), pr, id, body+"y"); err != nil {
			t.Errorf("editing %s: %v", name, err)
		}
	}
	whole := strings.Repeat("é", bodyLimit)
	if shorten(whole, bodyLimit) != whole {
		t.Error("a body that fits was cut")
	}
}

func TestA10_GoneAndLocked(t *testing.T) {
	s := newFake(t, githubfake.Options{})
	f := adapter(t, s, nil)
	create(t, s, repo)
	pr := pullOn(t, s, repo)
	id, err := f.PostComment(t.Context(), pr, "k", "hello")
	if err != nil {
		t.Fatal(err)
	}
	s.DeleteComment(repo, id)
	if err := f.EditComment(t.Context(), pr, id, "x"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("a comment that was deleted: %v, want ErrNotFound", err)
	}
	s.Lock(pr)
	if _, err := f.PostComment(t.Context(), pr, "k2", "x"); ccci.CodeOf(err) != ccci.CodeRefused || !errors.Is(err, ccci.ErrLocked) || ccci.HintOf(err) == "" {
		t.Errorf("a locked conversation: %v, hint %q", err, ccci.HintOf(err))
	}
	s.DeleteIssue(pr)
	if _, err := f.PostComment(t.Context(), pr, "k3", "x"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("a pull request that was deleted (410): %v, want ErrNotFound", err)
	}
}

// What GitHub refuses for one pull request is kept apart from what concerns the token and from
// trouble of its own.
func TestA10_WhatGitHubRefuses(t *testing.T) {
	for _, test := range []struct {
		status  int
		message string
		want    error // nil: it may be the whole forge
	}{
		{403, "Unable to create comment because issue is locked.", ccci.ErrLocked},
		{403, "User is blocked", ccci.ErrLocked},
		{422, "Commenting is disabled on issues with more than 2500 comments", ccci.ErrRefused},
		{403, "Repository was archived so is read-only.", ccci.ErrRefused},
		{403, "Resource not accessible by personal access token", nil},
		{401, "Bad credentials", nil},
		{500, "Server Error", nil},
		{502, "", nil},
	} {
		err := (&Forge{}).fail("commenting", &gh.ErrorResponse{Response: &http.Response{StatusCode: test.status, Request: &http.Request{URL: &url.URL{}}}, Message: test.message})
		if got := errors.Is(err, ccci.ErrRefused); got != (test.want != nil) || test.want != nil && !errors.Is(err, test.want) || errors.Is(err, ccci.ErrLocked) != (test.want == ccci.ErrLocked) {
			t.Errorf("%d %q: %v; want %v", test.status, test.message, err, test.want)
		}
	}
}

func TestU13_CheckRunsAsApp(t *testing.T) {
	st := newStage(t, false)
	open := func() *Forge { return adapter(t, st.s, newApp(t, st.s)) }
	f := open()
	set := func(f *Forge, state ccci.StatusState, text string) {
		t.Helper()
		status := ccci.CommitStatus{Context: "cc-ci/testme", State: state, Description: text, URL: "https://ci.example.org/runs/1"}
		if err := f.SetStatus(t.Context(), repo, st.head, status); err != nil {
			t.Fatal(err)
		}
		if got := st.s.Statuses(repo, st.head); len(got) != 1 || got[0] != status {
			t.Errorf("the status is %+v, want %+v", got, status)
		}
	}
	set(f, ccci.StatePending, "installing")
	set(f, ccci.StatePending, "upgrading")
	set(f, ccci.StateFailure, "upgrade failed")
	set(f, ccci.StatePending, "again")
	set(f, ccci.StateError, "our disk is full")
	set(f, ccci.StatePending, "once more")
	want := []githubfake.CheckRun{
		{Name: "cc-ci/testme", Status: "completed", Conclusion: "failure", Title: "upgrade failed"},
		{Name: "cc-ci/testme", Status: "completed", Conclusion: "cancelled", Title: "our disk is full"},
		{Name: "cc-ci/testme", Status: "in_progress", Title: "once more"},
	}
	if got := st.s.CheckRuns(repo, st.head); !slices.Equal(got, want) {
		t.Errorf("check runs: %+v\nwant %+v", got, want)
	}
	// Another process goes on with the same one.
	again, err := New(f.opts)
	if err != nil {
		t.Fatal(err)
	}
	set(again, ccci.StateSuccess, "passed at level 5")
	want[2] = githubfake.CheckRun{Name: "cc-ci/testme", Status: "completed", Conclusion: "success", Title: "passed at level 5"}
	if got := st.s.CheckRuns(repo, st.head); !slices.Equal(got, want) {
		t.Errorf("after a restart: %+v\nwant %+v", got, want)
	}
	if missing := ccci.Commit(strings.Repeat("f", 40)); !errors.Is(f.SetStatus(t.Context(), repo, missing, ccci.CommitStatus{Context: "c", State: ccci.StateSuccess}), ccci.ErrNotFound) {
		t.Error("a commit that is not there got a status")
	}
}
