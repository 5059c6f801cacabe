package github

import (
	"errors"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// What was seen before a restart proves the head of a comment that was written while
// cc-ci was down; a restart in between makes nothing provable that was not.
func TestN1_HeadsOutliveARestart(t *testing.T) {
	const minute = time.Minute
	read := func(t *testing.T, f *Forge, since ccci.Cursor) ccci.Cursor {
		t.Helper()
		_, next, err := f.Comments(t.Context(), repo, since)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	for name, test := range map[string]struct {
		down func(st *stage) // what happens while it is down
		err  error           // nil: the first head is proven
	}{
		"a comment":                              {func(st *stage) { st.comment() }, nil},
		"a comment, and a push after it":         {func(st *stage) { st.comment(); st.s.Advance(minute); st.push("evil") }, ccci.ErrHeadUnknown},
		"a push, and a comment after it":         {func(st *stage) { st.push("second"); st.s.Advance(minute); st.comment() }, ccci.ErrHeadUnknown},
		"away and back again around the comment": {func(st *stage) { st.push("benign"); st.comment(); st.force(st.head) }, ccci.ErrHeadUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t, true)
			st.s.HideActivity(st.from)
			cursor := read(t, st.f, "")
			st.s.Advance(minute)
			cursor = read(t, st.f, cursor) // open pull requests are listed from the second look on
			st.s.Advance(10 * minute)
			if again := read(t, st.f, cursor); again != cursor {
				t.Errorf("nothing happened, and the cursor went from %q to %q", cursor, again)
			}
			test.down(st)
			st.s.Advance(10 * minute)

			after := adapter(t, st.s, func(o *Options) { o.LedgerEvery = time.Nanosecond })
			read(t, after, cursor)
			head, err := after.HeadAt(t.Context(), st.pr, st.said)
			if test.err == nil && (err != nil || head != st.head) || !errors.Is(err, test.err) {
				t.Errorf("with the cursor: %q, %v", head, err)
			}
			if test.err != nil {
				return
			}
			forgetful := adapter(t, st.s, func(o *Options) { o.LedgerEvery = time.Nanosecond })
			mark, _, _ := strings.Cut(string(cursor), " ")
			read(t, forgetful, ccci.Cursor(mark)) // one of an older cc-ci
			if _, err := forgetful.HeadAt(t.Context(), st.pr, st.said); !errors.Is(err, ccci.ErrHeadUnknown) {
				t.Errorf("without what was seen: %v", err)
			}
		})
	}
}

func TestN1_Positions(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	a, b := ccci.Commit(strings.Repeat("a", 40)), ccci.Commit(strings.Repeat("b", 64))
	p := position{mark: at, heads: map[int]Sighting{12: {Head: b, First: at.Add(time.Millisecond), Last: at.Add(time.Hour)}, 7: {Head: a, First: at}}}
	text := p.cursor()
	if want := ccci.Cursor("2026-05-04T03:02:01Z 7:" + string(a) + ":1777863721 12:" + string(b) + ":1777863722"); text != want {
		t.Errorf("the cursor is %q, want %q", text, want)
	}
	got, err := parsePosition(text)
	if err != nil || got.cursor() != text || !got.mark.Equal(at) || len(got.heads) != 2 {
		t.Errorf("it reads %+v, %v", got, err)
	}
	if s := got.heads[12]; !s.First.Equal(at.Add(time.Second)) || !s.Last.Equal(s.First) {
		t.Errorf("the head was seen at %s: it must not look earlier", s.First)
	}
	for _, bad := range []ccci.Cursor{"x", "2026-05-04", text + " 1", text + " 0:" + ccci.Cursor(a) + ":1", text + " 1:abc:1", text + " 1:" + ccci.Cursor(a) + ":x", text + " x:" + ccci.Cursor(a) + ":1"} {
		if _, err := parsePosition(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if p, err := parsePosition(""); err != nil || !p.mark.IsZero() {
		t.Errorf("the beginning is %+v, %v", p, err)
	}
}
