// Package forgetest is the conformance suite of [ccci.Forge]. Each sentence of the
// port's contract is a sub-test. It works on a real forge with real git: a new
// adapter says in a [World] how people act on its forge (open a pull request,
// comment), and calls
//
//	forgetest.Run(t, forgetest.Options{Open: func(t *testing.T) forgetest.World { … }})
//
// What a forge cannot do is data in [Options], never a check of its name.
package forgetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Options say what the suite needs to know about an adapter.
type Options struct {
	// Open makes a forge, or an empty corner of one.
	Open func(t *testing.T) World
	// CannotProveHeads is set where the forge keeps no record of a pull request's
	// earlier heads; HeadAt may then be ErrHeadUnknown after a push.
	CannotProveHeads bool
	// Huge is as long a comment as the forge takes, of what its answers make longer still;
	// default 1.4 MB. Many is how many of them the suite writes; default 21.
	Huge string
	Many int
}

// World is a forge with people on it. Its functions fail the test by themselves.
type World struct {
	Forge  ccci.Forge        // the adapter under test
	Reopen func() ccci.Forge // another instance of the adapter on the same forge, as after a restart

	CreateRepo      func(repo ccci.RepoRef) (pushURL string)
	OpenPullRequest func(repo ccci.RepoRef, title, branch, base, author string) ccci.PRRef
	ClosePull       func(pr ccci.PRRef)
	// MergePull merges a pull request, "merge" or "squash", and returns the head of its base
	// then. A forge whose people merge with git calls push, which does it so.
	MergePull       func(pr ccci.PRRef, style string, push func() ccci.Commit) ccci.Commit
	User            func(name string) ccci.User // made where absent
	AddMember       func(org, user string)
	Comment         func(pr ccci.PRRef, author, body string) ccci.CommentID
	EditUserComment func(pr ccci.PRRef, id ccci.CommentID, body string)
	Thread          func(pr ccci.PRRef) []ccci.Comment // all comments as readers see them, oldest first
	Statuses        func(repo ccci.RepoRef, commit ccci.Commit) []ccci.CommitStatus
}

// Run runs the whole suite.
func Run(t *testing.T, opts Options) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Options)
	}{
		{"NameAndSelf", testSelf},
		{"A4_CommentsInOrder", testComments},
		{"U14_CommentsAcrossARestart", testCommentsRestart},
		{"U14_CommentsUnderLoadMissNone", testCommentsLoad},
		{"U14_HugeCommentsHideNothing", testHuge},
		{"CommentsMarkEdits", testEdited},
		{"PullRequest", testPullRequest},
		{"A28_MergeAsTested", testMerge},
		{"A28_MergeOfOtherFiles", testMergeOther},
		{"A28_MergeElsewhere", testMergeElsewhere},
		{"A8_CommitCanBeFetched", testFetch},
		{"N1_HeadAt", testHeadAt},
		{"N1_HeadAtUnknown", testHeadUnknown},
		{"A7_Member", testMember},
		{"A10_PostAndEdit", testPostEdit},
		{"N2_PostIsIdempotent", testPostIdempotent},
		{"EditRefusesOthersComments", testEditOthers},
		{"U13_Statuses", testStatuses},
		{"WhatIsNotThere", testNotFound},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, opts) })
	}
}

var repo = ccci.RepoRef{Owner: "recipes", Name: "pocketbase"}

// scene is a world with one repository and one pull request on it.
type scene struct {
	World
	t    *testing.T
	work *Work
	pr   ccci.PRRef
	base ccci.Commit // the head of main
	head ccci.Commit // the head of the pull request
}

func newScene(t *testing.T, o Options) *scene {
	t.Helper()
	s := &scene{World: o.Open(t), t: t}
	s.work = NewWork(t, s.CreateRepo(repo))
	s.base = s.work.Commit("main", "compose.yml", "version: '3.8'\n")
	s.head = s.work.Commit("update", "compose.yml", "version: '3.9'\n")
	s.pr = s.OpenPullRequest(repo, "Update to 3.9", "update", "main", "ada")
	return s
}

func (s *scene) comments(since ccci.Cursor) ([]ccci.Comment, ccci.Cursor) {
	s.t.Helper()
	comments, cursor, err := s.Forge.Comments(s.t.Context(), repo, since)
	if err != nil {
		s.t.Fatalf("Comments(%q): %v", since, err)
	}
	return comments, cursor
}

// comment writes a comment and returns it as the adapter reports it.
func (s *scene) comment(author, body string) ccci.Comment {
	s.t.Helper()
	id := s.Comment(s.pr, author, body)
	comments, _ := s.comments("")
	i := slices.IndexFunc(comments, func(c ccci.Comment) bool { return c.ID == id })
	if i < 0 {
		s.t.Fatalf("the comment %s is not among %v", id, comments)
	}
	return comments[i]
}

func bodies(comments []ccci.Comment) []string {
	var out []string
	for _, c := range comments {
		out = append(out, c.Body)
	}
	return out
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func testSelf(t *testing.T, o Options) {
	w := o.Open(t)
	self, err := w.Forge.Self(t.Context())
	if err != nil || self.ID == "" || self.Name == "" {
		t.Errorf("Self = %+v, %v", self, err)
	}
	again := w.Reopen()
	other, err := again.Self(t.Context())
	if err != nil || other != self || w.Forge.Name() == "" || again.Name() != w.Forge.Name() {
		t.Errorf("after a restart: %q and %+v, %v; before: %q and %+v", again.Name(), other, err, w.Forge.Name(), self)
	}
}

func testComments(t *testing.T, o Options) {
	s := newScene(t, o)
	none, start := s.comments("")
	if len(none) != 0 {
		t.Errorf("before any comment: %v", none)
	}
	s.Comment(s.pr, "ada", "first")
	s.Comment(s.pr, "bob", "!testme")
	got, cursor := s.comments(start)
	if same(t, "new comments", bodies(got), []string{"first", "!testme"}); t.Failed() {
		return
	}
	bob := s.User("bob")
	if c := got[1]; c.ID == "" || c.PR != s.pr || c.Author != bob || c.Created.IsZero() || c.Edited {
		t.Errorf("a comment of %+v on %s came as %+v", bob, s.pr, c)
	}
	if got[0].ID == got[1].ID {
		t.Errorf("two comments share the id %s", got[0].ID)
	}
	odd := "  !testme\r\n\tünïcödé <b>&amp; 'quotes' \\ `code`\n\n"
	s.Comment(s.pr, "bob", odd)
	rest, _ := s.comments(cursor)
	if i := slices.Index(bodies(rest), odd); i < 0 || i != len(rest)-1 {
		t.Errorf("since the cursor: %q; want %q last", bodies(rest), odd)
	}
	all, _ := s.comments("")
	same(t, "from the beginning", bodies(all), []string{"first", "!testme", odd})
}

func testCommentsRestart(t *testing.T, o Options) {
	s := newScene(t, o)
	s.Comment(s.pr, "ada", "before")
	_, cursor := s.comments("")
	s.Comment(s.pr, "ada", "while it was down")
	got, _, err := s.Reopen().Comments(t.Context(), repo, cursor)
	if err != nil || !slices.Contains(bodies(got), "while it was down") {
		t.Errorf("after a restart: %q, %v", bodies(got), err)
	}
}

func testCommentsLoad(t *testing.T, o Options) {
	s := newScene(t, o)
	const writers, each = 4, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				s.Comment(s.pr, fmt.Sprintf("writer%d", w), fmt.Sprintf("%d/%d", w, i))
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	seen := map[string]bool{}
	var cursor ccci.Cursor
	for last := false; ; {
		comments, next, err := s.Forge.Comments(t.Context(), repo, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range comments {
			seen[c.Body] = true
		}
		cursor = next
		if last {
			break
		}
		select {
		case <-written:
			last = true // once more, for what was written meanwhile
		default:
		}
	}
	if len(seen) != writers*each {
		t.Errorf("polling saw %d of %d comments", len(seen), writers*each)
	}
}

// A thread of huge comments, which anybody can write, is read to its end: commands there and
// elsewhere are seen, and answered.
func testHuge(t *testing.T, o Options) {
	s := newScene(t, o)
	s.work.Git("checkout", "--quiet", "main")
	s.work.Commit("other", "x", "y")
	other := s.OpenPullRequest(repo, "Another", "other", "main", "eve")
	s.Comment(s.pr, "ada", "hello")
	_, cursor := s.comments("")
	huge := cmp.Or(o.Huge, strings.Repeat(strings.Repeat("<", 99)+"\n", 14_500))
	for range cmp.Or(o.Many, 21) {
		s.Comment(other, "eve", huge)
	}
	wanted := map[ccci.PRRef]ccci.CommentID{other: s.Comment(other, "ada", "!testme"), s.pr: s.Comment(s.pr, "ada", "!testme")}
	var commands []ccci.Comment
	for polls := 0; len(commands) < len(wanted); polls++ {
		got, next := s.comments(cursor)
		for _, c := range got {
			if wanted[c.PR] == c.ID && c.Body == "!testme" {
				commands = append(commands, c)
			}
		}
		if next == cursor {
			t.Fatalf("after %d polls the cursor stands still, %d of %d commands were seen", polls, len(commands), len(wanted))
		}
		cursor = next
	}
	for _, c := range commands {
		if head, err := s.Forge.HeadAt(t.Context(), c.PR, c); err != nil && !errors.Is(err, ccci.ErrHeadUnknown) || err != nil && c.PR == s.pr {
			t.Errorf("HeadAt on %s = %s, %v", c.PR, head, err)
		}
		for _, forge := range []ccci.Forge{s.Forge, s.Reopen()} { // the second finds what the first wrote
			if _, err := forge.PostComment(t.Context(), c.PR, "run/1", "passed"); err != nil && !errors.Is(err, ccci.ErrRefused) || err != nil && c.PR == s.pr {
				t.Errorf("PostComment on %s: %v", c.PR, err)
			}
		}
	}
}

func testEdited(t *testing.T, o Options) {
	s := newScene(t, o)
	id := s.Comment(s.pr, "ada", "nice work")
	s.EditUserComment(s.pr, id, "!testme")
	got, _ := s.comments("")
	if len(got) != 1 || got[0].ID != id || got[0].Body != "!testme" || !got[0].Edited {
		t.Errorf("after an edit: %+v; want it marked as edited", got)
	}
}

func testPullRequest(t *testing.T, o Options) {
	s := newScene(t, o)
	get := func() ccci.PullRequest {
		t.Helper()
		pr, err := s.Forge.PullRequest(t.Context(), s.pr)
		if err != nil {
			t.Fatal(err)
		}
		return pr
	}
	got := get()
	if got.CloneURL == "" {
		t.Error("it has no clone URL")
	}
	want := ccci.PullRequest{Ref: s.pr, Title: "Update to 3.9", Author: s.User("ada"), Open: true, Head: s.head,
		Branch: "update", Base: "main", CloneURL: got.CloneURL, URL: got.URL}
	same(t, "the pull request", got, want)
	want.Head = s.work.Commit("update", "abra.sh", "export X=1\n")
	same(t, "after a push", get(), want)
	s.ClosePull(s.pr)
	want.Open = false
	same(t, "after it was closed", get(), want)
}

func testFetch(t *testing.T, o Options) {
	s := newScene(t, o)
	s.work.Git("tag", "--annotate", "--message", "a release", "1.0.0+3.8", "main")
	s.work.Git("push", "--quiet", s.work.remote, "--tags")
	s.work.Git("reset", "--quiet", "--hard", "main")
	moved := s.work.Commit("update", "other.yml", "x: 1\n") // no longer a descendant
	pr, err := s.Forge.PullRequest(t.Context(), s.pr)
	if err != nil || pr.Head != moved {
		t.Fatalf("the head is %s, %v; want %s", pr.Head, err, moved)
	}
	checkout := NewWork(t, pr.CloneURL)
	for _, commit := range []ccci.Commit{s.head, moved} { // the approved one, though it is on no branch any more
		checkout.Git("fetch", "--quiet", pr.CloneURL, string(commit))
		if got := checkout.Git("rev-parse", "FETCH_HEAD"); got != string(commit) {
			t.Errorf("fetched %s, want %s", got, commit)
		}
	}
	checkout.Git("fetch", "--quiet", "--tags", pr.CloneURL)
	if tags := checkout.Git("tag", "--list"); tags != "1.0.0+3.8" {
		t.Errorf("the tags are %q", tags)
	}
}

func testHeadAt(t *testing.T, o Options) {
	s := newScene(t, o)
	first := s.comment("ada", "!testme")
	if head, err := s.Forge.HeadAt(t.Context(), s.pr, first); err != nil || head != s.head {
		t.Fatalf("HeadAt = %s, %v; want %s", head, err, s.head)
	}
	pushed := s.work.Commit("update", "evil.sh", "curl evil\n")
	head, err := s.Forge.HeadAt(t.Context(), s.pr, first)
	switch {
	case o.CannotProveHeads && errors.Is(err, ccci.ErrHeadUnknown) && head == "":
	case errors.Is(err, ccci.ErrHeadMoved) && head == s.head:
	default:
		t.Errorf("after a push HeadAt = %s, %v; want %s and ErrHeadMoved", head, err, s.head)
	}
	second := s.comment("ada", "!testme again")
	if head, err := s.Forge.HeadAt(t.Context(), s.pr, second); err != nil || head != pushed {
		t.Errorf("for a comment after the push HeadAt = %s, %v; want %s", head, err, pushed)
	}
	s.work.Git("reset", "--quiet", "--hard", string(s.base))
	s.work.Commit("update", "third", "x")
	if head, err := s.Forge.HeadAt(t.Context(), s.pr, second); err == nil || head == "" != errors.Is(err, ccci.ErrHeadUnknown) {
		t.Errorf("after a forced push HeadAt = %s, %v; want an error", head, err)
	}
	if head, err := s.Reopen().HeadAt(t.Context(), s.pr, second); err == nil {
		t.Errorf("after a restart HeadAt = %s, nil; want an error", head)
	}
}

func testHeadUnknown(t *testing.T, o Options) {
	s := newScene(t, o)
	made := ccci.Comment{ID: "999999", PR: s.pr, Author: s.User("ada"), Body: "!testme"}
	if head, err := s.Forge.HeadAt(t.Context(), s.pr, made); !errors.Is(err, ccci.ErrHeadUnknown) || head != "" {
		t.Errorf("for a comment that nobody wrote HeadAt = %q, %v; want ErrHeadUnknown", head, err)
	}
	s.work.Git("checkout", "--quiet", "main")
	s.work.Commit("other", "x", "y")
	other := s.OpenPullRequest(repo, "Another", "other", "main", "ada")
	c := s.comment("ada", "!testme")
	if head, err := s.Forge.HeadAt(t.Context(), other, c); err == nil {
		t.Errorf("for a comment of another pull request HeadAt = %s, nil; want an error", head)
	}
}

func testMember(t *testing.T, o Options) {
	s := newScene(t, o)
	s.AddMember("coop", "ada")
	ada, eve := s.User("ada"), s.User("eve")
	for _, test := range []struct {
		name string
		org  string
		user ccci.User
		want bool
	}{
		{"a member", "coop", ada, true},
		{"a member by her id, renamed", "coop", ccci.User{ID: ada.ID, Name: "lovelace"}, true},
		{"a stranger", "coop", eve, false},
		{"a stranger who took the member's name", "coop", ccci.User{ID: eve.ID, Name: "ada"}, false},
		{"nobody", "coop", ccci.User{Name: "ada"}, false},
		{"the same number written otherwise", "coop", ccci.User{ID: "+" + ada.ID, Name: "ada"}, false},
		{"another organisation", "other", ada, false},
		{"an organisation that does not exist", "unheard-of", ada, false},
	} {
		got, err := s.Forge.Member(t.Context(), test.org, test.user)
		if got != test.want || test.want && err != nil {
			t.Errorf("%s: %t, %v; want %t", test.name, got, err, test.want)
		}
	}
}

func testNotFound(t *testing.T, o Options) {
	s := newScene(t, o)
	nowhere := ccci.RepoRef{Owner: "recipes", Name: "unheard-of"}
	for what, err := range map[string]error{
		"Comments of a repository": func() error { _, _, err := s.Forge.Comments(t.Context(), nowhere, ""); return err }(),
		"PullRequest by number": func() error {
			_, err := s.Forge.PullRequest(t.Context(), ccci.PRRef{Repo: repo, Number: 99})
			return err
		}(),
		"PullRequest of a repository": func() error {
			_, err := s.Forge.PullRequest(t.Context(), ccci.PRRef{Repo: nowhere, Number: 1})
			return err
		}(),
		"PostComment": func() error {
			_, err := s.Forge.PostComment(t.Context(), ccci.PRRef{Repo: repo, Number: 99}, "k", "x")
			return err
		}(),
	} {
		if !errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
}
