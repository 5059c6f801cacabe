package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var repo = ccci.RepoRef{Owner: "recipes", Name: "pocketbase"}

func testCursor(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	read := func(forge string, repo ccci.RepoRef, want ccci.Cursor) {
		t.Helper()
		if got, err := s.Cursor(t.Context(), forge, repo); err != nil || got != want {
			t.Errorf("Cursor(%s, %s) = %q, %v; want %q", forge, repo, got, err, want)
		}
	}
	save := func(forge string, cursor ccci.Cursor) {
		t.Helper()
		if err := s.SaveCursor(t.Context(), forge, repo, cursor); err != nil {
			t.Fatal(err)
		}
	}
	read("gitea", repo, "")
	save("gitea", "41")
	save("gitea", "42|2026-01-01T00:00:00Z")
	save("github", "7")
	read("gitea", repo, "42|2026-01-01T00:00:00Z")
	read("github", repo, "7")
	read("gitea", ccci.RepoRef{Owner: "recipes", Name: "other"}, "")
	save("gitea", "")
	read("gitea", repo, "")
}

func testReopen(t *testing.T, o Options) {
	place := t.TempDir()
	run, msg := aRun(1), aMessage("run/1/comment", 0)
	t.Run("write", func(t *testing.T) { // its end closes the handle
		s := o.Open(t, place)
		claim(t, s, run)
		run.Status, run.Cause = ccci.StatusErrored, "power cut"
		update(t, s, run)
		save(t, s, msg)
		if err := s.SaveCursor(t.Context(), "forge", repo, "17"); err != nil {
			t.Fatal(err)
		}
	})
	s := o.Open(t, place)
	same(t, "the run", find(t, s, run.ID), run)
	if cursor, err := s.Cursor(t.Context(), "forge", repo); err != nil || cursor != "17" {
		t.Errorf("the cursor = %q, %v; want 17", cursor, err)
	}
	if got := pending(t, s, start.Add(time.Hour)); len(got) != 1 || got[0].Body != msg.Body {
		t.Errorf("the outbox holds %v", got)
	}
}

func aMessage(key string, n int) ccci.Message {
	return ccci.Message{
		Key: key, Kind: ccci.MessageComment, PR: ccci.PRRef{Repo: repo, Number: 7},
		Body: fmt.Sprintf("text %d of %s", n, key), Updated: start.Add(time.Duration(n) * time.Second),
	}
}

func save(t *testing.T, s ccci.Store, msg ccci.Message) {
	t.Helper()
	if err := s.SaveMessage(t.Context(), msg); err != nil {
		t.Fatalf("SaveMessage(%s): %v", msg.Key, err)
	}
}

func pending(t *testing.T, s ccci.Store, now time.Time) []ccci.Message {
	t.Helper()
	msgs, err := s.PendingMessages(t.Context(), now, 100)
	if err != nil {
		t.Fatalf("PendingMessages: %v", err)
	}
	return msgs
}

// the returns the one pending message.
func the(t *testing.T, s ccci.Store) ccci.Message {
	t.Helper()
	msgs := pending(t, s, start.Add(24*time.Hour))
	if len(msgs) != 1 {
		t.Fatalf("%d messages are pending, want 1: %v", len(msgs), msgs)
	}
	return msgs[0]
}

func testMessageVersions(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	msg := aMessage("m", 1)
	save(t, s, msg)
	want := msg
	want.Version = 1
	same(t, "a new message", the(t, s), want)

	if err := s.MarkFailed(t.Context(), "m", start.Add(time.Hour), "503"); err != nil {
		t.Fatal(err)
	}
	again := msg
	again.Updated = start.Add(time.Minute)
	save(t, s, again)
	got := the(t, s)
	if got.Version != 1 || got.Attempts != 1 || !got.NotBefore.Equal(start.Add(time.Hour)) || got.LastError != "503" {
		t.Errorf("saving the same content changed the message: %+v", got)
	}

	for i, change := range []func(*ccci.Message){
		func(m *ccci.Message) { m.Body = "another text" },
		func(m *ccci.Message) { m.Commit = "0123456789abcdef0123456789abcdef01234567" },
		func(m *ccci.Message) { m.Status = ccci.CommitStatus{Context: "cc-ci/testme", State: ccci.StateError} },
	} {
		if err := s.MarkFailed(t.Context(), "m", start.Add(time.Hour), "503"); err != nil {
			t.Fatal(err)
		}
		change(&msg)
		save(t, s, msg)
		got := the(t, s)
		if got.Version != i+2 || got.Attempts != 0 || !got.NotBefore.IsZero() {
			t.Errorf("change %d: version %d, attempts %d, not before %s; want version %d, 0 and none", i, got.Version, got.Attempts, got.NotBefore, i+2)
		}
		if got.Body != msg.Body || got.Commit != msg.Commit || got.Status != msg.Status {
			t.Errorf("change %d: content %+v", i, got)
		}
	}

	if err := s.MarkSent(t.Context(), "m", 4, "c9"); err != nil {
		t.Fatal(err)
	}
	msg.Body, msg.Posted, msg.Sent = "a last text", "", 0
	save(t, s, msg)
	if got := the(t, s); got.Posted != "c9" || got.Sent != 4 || got.Version != 5 {
		t.Errorf("after a save: posted %q, sent %d, version %d; want c9, 4, 5", got.Posted, got.Sent, got.Version)
	}
}

func testPending(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	for _, n := range []int{3, 1, 2} {
		save(t, s, aMessage(fmt.Sprintf("m%d", n), n))
	}
	keys := func(now time.Time, limit int) []string {
		t.Helper()
		msgs, err := s.PendingMessages(t.Context(), now, limit)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, m := range msgs {
			out = append(out, m.Key)
		}
		return out
	}
	same(t, "oldest first", keys(start, 100), []string{"m1", "m2", "m3"})
	same(t, "limited", keys(start, 2), []string{"m1", "m2"})
	if err := s.MarkFailed(t.Context(), "m1", start.Add(time.Minute), "503"); err != nil {
		t.Fatal(err)
	}
	same(t, "before NotBefore", keys(start.Add(time.Minute-1), 100), []string{"m2", "m3"})
	same(t, "at NotBefore, after those that did not fail", keys(start.Add(time.Minute), 100), []string{"m2", "m3", "m1"})
	save(t, s, aMessage("m1", 4))
	same(t, "with another content", keys(start.Add(time.Minute), 1), []string{"m2"})
	same(t, "with another content it did not fail", keys(start.Add(time.Minute), 100), []string{"m2", "m3", "m1"})
}

func testMarkSent(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	msg := aMessage("m", 1)
	save(t, s, msg)
	msg.Body = "a newer text"
	save(t, s, msg) // while version 1 is on its way
	if err := s.MarkSent(t.Context(), "m", 1, "c1"); err != nil {
		t.Fatal(err)
	}
	if got := the(t, s); got.Version != 2 || got.Sent != 1 || got.Posted != "c1" || got.Body != msg.Body {
		t.Errorf("the newer version: %+v", got)
	}
	if err := s.MarkSent(t.Context(), "m", 2, ""); err != nil {
		t.Fatal(err)
	}
	if got := pending(t, s, start.Add(time.Hour)); len(got) != 0 {
		t.Errorf("still pending: %+v", got)
	}
	if err := s.MarkSent(t.Context(), "m", 1, ""); err != nil { // a late answer
		t.Fatal(err)
	}
	if got := pending(t, s, start.Add(time.Hour)); len(got) != 0 {
		t.Errorf("a late MarkSent made it pending again: %+v", got)
	}
	if err := s.MarkSent(t.Context(), "unheard-of", 1, ""); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("an unknown key: %v, want ErrNotFound", err)
	}
}

func testMarkFailed(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	save(t, s, aMessage("m", 1))
	for i := 1; i <= 3; i++ {
		at := start.Add(time.Duration(i) * time.Minute)
		if err := s.MarkFailed(t.Context(), "m", at, fmt.Sprintf("cause %d", i)); err != nil {
			t.Fatal(err)
		}
		if got := the(t, s); got.Attempts != i || !got.NotBefore.Equal(at) || got.LastError != fmt.Sprintf("cause %d", i) {
			t.Errorf("failure %d: %+v", i, got)
		}
	}
	if err := s.MarkFailed(t.Context(), "unheard-of", start, "x"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("an unknown key: %v, want ErrNotFound", err)
	}
}

func testMessageRaces(t *testing.T, o Options) {
	place := t.TempDir()
	handles := []ccci.Store{o.Open(t, place), o.Open(t, place)}
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := handles[w%2].SaveMessage(t.Context(), aMessage("m", w*each+i)); err != nil {
					t.Errorf("saving: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := the(t, handles[0]); got.Version != writers*each {
		t.Errorf("after %d different contents the version is %d", writers*each, got.Version)
	}
}
