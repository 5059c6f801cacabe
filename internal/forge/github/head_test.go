package github

import (
	"errors"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/githubfake"
)

// stage is a pull request whose author pushes; from a fork where fork is set.
type stage struct {
	t    *testing.T
	s    *githubfake.Server
	f    *Forge
	work *forgetest.Work
	from ccci.RepoRef // where the head is
	pr   ccci.PRRef
	base ccci.Commit // of main
	head ccci.Commit // the first one
	said ccci.Comment
}

func newStage(t *testing.T, fork bool) *stage {
	t.Helper()
	s := newFake(t, githubfake.Options{})
	st := &stage{t: t, s: s, f: adapter(t, s, func(o *Options) { o.LedgerEvery = time.Nanosecond }), from: repo}
	remote, err := s.CreateRepo(repo, false)
	if err != nil {
		t.Fatal(err)
	}
	st.work = forgetest.NewWork(t, remote)
	st.base = st.work.Commit("main", "compose.yml", "version: '3.8'\n")
	if fork {
		if st.from, remote, err = s.Fork(repo, "eve"); err != nil {
			t.Fatal(err)
		}
		st.work = forgetest.NewWork(t, remote)
		st.work.Git("fetch", "--quiet", remote, "main")
		st.work.Git("reset", "--quiet", "--hard", "FETCH_HEAD")
	}
	st.head = st.push("first")
	st.pr = s.OpenPull(repo, st.from, "Update", "update", "main", "eve")
	return st
}

// push adds a commit to the branch.
func (st *stage) push(text string) ccci.Commit { return st.work.Commit("update", "abra.sh", text) }

// force sets the branch to a commit.
func (st *stage) force(to ccci.Commit) {
	st.work.Git("reset", "--quiet", "--hard", string(to))
	st.work.Push("update")
}

// see lets the adapter poll, a second or more after what was before.
func (st *stage) see() {
	st.t.Helper()
	for range 2 { // open pull requests are listed from the second look on
		st.s.Advance(time.Second)
		if _, _, err := st.f.Comments(st.t.Context(), repo, ""); err != nil {
			st.t.Fatal(err)
		}
	}
	st.s.Advance(time.Second)
}

func (st *stage) comment() {
	st.said = ccci.Comment{ID: st.s.Comment(st.pr, "ada", "!testme"), PR: st.pr}
}

func TestN1_HeadRule(t *testing.T) {
	const minute = time.Minute
	for name, test := range map[string]struct {
		fork bool
		play func(*stage) (want ccci.Commit)
		err  error
		says string
	}{
		// The record of pushes.
		"activity: nothing since":         {false, func(st *stage) ccci.Commit { st.comment(); return st.head }, nil, ""},
		"activity: a fork, nothing since": {true, func(st *stage) ccci.Commit { st.comment(); return st.head }, nil, ""},
		"activity: pushed since":          {true, func(st *stage) ccci.Commit { st.comment(); st.push("evil"); return st.head }, ccci.ErrHeadMoved, ""},
		"activity: pushed often since": {true, func(st *stage) ccci.Commit {
			second := st.push("second")
			st.comment()
			st.push("evil")
			st.push("more evil")
			return second
		}, ccci.ErrHeadMoved, ""},
		"activity: pushed within the same second": {true, func(st *stage) ccci.Commit {
			st.comment()
			st.s.SameSecond()
			st.push("evil")
			return st.head
		}, ccci.ErrHeadMoved, ""},
		"activity: away before the comment and back after it": {true, func(st *stage) ccci.Commit {
			benign := st.push("benign")
			st.comment()
			st.force(st.head)
			return benign
		}, ccci.ErrHeadMoved, ""},
		"activity: away and back again since": {true, func(st *stage) ccci.Commit {
			st.comment()
			st.push("evil")
			st.force(st.head)
			return st.head
		}, ccci.ErrHeadMoved, ""},
		"activity: away and back again since, the timeline is behind": {true, func(st *stage) ccci.Commit {
			st.comment()
			st.push("evil")
			st.force(st.head)
			st.s.DropForced(st.pr)
			return st.head
		}, ccci.ErrHeadMoved, ""},
		"activity: the record is behind for a moment": {true, func(st *stage) ccci.Commit {
			st.push("second")
			st.s.DropActivity(st.from, 1)
			st.comment()
			return ""
		}, nil, "do not agree yet"},
		"activity: the record stays behind": {true, func(st *stage) ccci.Commit {
			st.push("second")
			st.s.DropActivity(st.from, 1)
			st.comment()
			st.s.Advance(5 * minute)
			return ""
		}, ccci.ErrHeadUnknown, "record of pushes ends with"},
		"activity: behind by both pushes, the timeline tells": {true, func(st *stage) ccci.Commit {
			st.push("benign")
			st.comment()
			st.force(st.head)
			st.s.DropActivity(st.from, 2)
			return ""
		}, ccci.ErrHeadUnknown, "force-pushed since"},

		"activity: the record has a gap": {true, func(st *stage) ccci.Commit {
			st.comment()
			hidden := st.push("evil")
			st.push("more evil")
			st.s.ForgetPush(st.from, hidden)
			return ""
		}, ccci.ErrHeadUnknown, "has a gap"},

		// What we saw ourselves.
		"ledger: forced back before the comment, forward again after it": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			evil := st.push("evil")
			st.see()
			st.force(st.head)
			st.comment()
			st.force(evil) // a fast-forward
			return ""
		}, ccci.ErrHeadUnknown, "force-pushed around"},
		"ledger: the same, and seen once more": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			evil := st.push("evil")
			st.see()
			st.force(st.head)
			st.comment()
			st.force(evil)
			st.see()
			return ""
		}, ccci.ErrHeadUnknown, "force-pushed around"},
		"ledger: seen before, unchanged": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.see()
			st.comment()
			return st.head
		}, nil, ""},
		"ledger: the fork is gone": {true, func(st *stage) ccci.Commit {
			st.see()
			st.comment()
			st.s.DeleteFork(st.pr)
			return st.head
		}, nil, ""},
		"ledger: seen before and after, then pushed": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.see()
			st.comment()
			st.see()
			st.push("evil")
			return st.head
		}, ccci.ErrHeadMoved, ""},
		"ledger: pushed between two looks": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.see()
			st.push("benign")
			st.comment()
			st.push("evil")
			st.see()
			return ""
		}, ccci.ErrHeadUnknown, "pushed to around the time"},
		"ledger: away and back between two looks": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.see()
			st.push("benign")
			st.comment()
			st.force(st.head)
			st.see()
			return ""
		}, ccci.ErrHeadUnknown, "force-pushed around"},
		"ledger: first seen within the comment's second": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.comment()
			if _, err := st.f.PullRequest(st.t.Context(), st.pr); err != nil {
				st.t.Fatal(err)
			}
			return ""
		}, ccci.ErrHeadUnknown, "did not see it before"},

		// Check suites.
		"suites: the branch is ours, the commit was known": {false, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.s.AddSuite(repo, st.head, "update")
			st.s.Advance(minute)
			st.comment()
			return st.head
		}, nil, ""},
		"suites: the commit came after": {false, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.comment()
			st.s.AddSuite(repo, st.push("evil"), "update")
			return ""
		}, ccci.ErrHeadUnknown, "came after the comment"},
		"suites: known, and forced back to since": {false, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.s.AddSuite(repo, st.head, "update")
			st.push("benign")
			st.s.Advance(minute)
			st.comment()
			st.force(st.head)
			return ""
		}, ccci.ErrHeadUnknown, ""},
		"suites: there are none": {false, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.comment()
			return ""
		}, ccci.ErrHeadUnknown, "no check suite"},
		"suites: a fork's author can have made it known": {true, func(st *stage) ccci.Commit {
			st.s.HideActivity(st.from)
			st.s.AddSuite(repo, st.head, "update")
			st.s.Advance(minute)
			st.comment()
			return ""
		}, ccci.ErrHeadUnknown, "it comes from a fork"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := newStage(t, test.fork)
			want := test.play(st)
			head, err := st.f.HeadAt(t.Context(), st.pr, st.said)
			if head != want {
				t.Errorf("HeadAt = %q, want %q", head, want)
			}
			switch {
			case test.err != nil && !errors.Is(err, test.err), test.err == nil && want != "" && err != nil,
				test.err == nil && want == "" && (ccci.CodeOf(err) != ccci.CodeInfra || errors.Is(err, ccci.ErrHeadUnknown)):
				t.Errorf("the error is %v, want %v", err, test.err)
			case err != nil && !strings.Contains(err.Error(), test.says):
				t.Errorf("the error is %q, want %q in it", err, test.says)
			case errors.Is(err, ccci.ErrHeadUnknown) && !strings.Contains(ccci.HintOf(err), "!testme "):
				t.Errorf("its hint is %q, want the line to write", ccci.HintOf(err))
			}
		})
	}
}

func TestN1_LedgerIsBounded(t *testing.T) {
	l := NewMemoryLedger()
	at := time.Unix(1_000_000, 0)
	for i := range ledgerPulls + 10 {
		if err := l.Observe(t.Context(), ccci.PRRef{Repo: repo, Number: i + 1}, "a", at.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.pulls); n > ledgerPulls {
		t.Errorf("it holds %d pull requests", n)
	}
	last := ccci.PRRef{Repo: repo, Number: ledgerPulls + 10}
	for i := range 100 {
		l.Observe(t.Context(), last, ccci.Commit([]byte{byte('a' + i%2)}), at.Add(time.Duration(ledgerPulls+20+i)*time.Second))
	}
	l.Observe(t.Context(), last, "late", at) // out of order: dropped
	seen, err := l.Sightings(t.Context(), last)
	if err != nil || len(seen) != ledgerSightings || seen[len(seen)-1].Head != "b" {
		t.Errorf("it holds %d sightings, the last of %+v", len(seen), seen[len(seen)-1])
	}
}

// N1: a timeline that is too long to be read, which anybody can make it, leaves the head
// unknown: an error would be asked about again at every poll.
func TestN1_HeadOfATimelineTooLong(t *testing.T) {
	st := newStage(t, false)
	st.comment()
	too := githubfake.Fault{Method: "GET", Path: "/timeline", Status: 200, Body: `[{"event":"` + strings.Repeat("x", answerLimit) + `"}]`}
	for _, test := range []struct {
		times int
		want  error
	}{{2, nil}, {3, ccci.ErrHeadUnknown}} { // of three page sizes
		too.Times = test.times
		st.s.Inject(too)
		head, err := st.f.HeadAt(t.Context(), st.pr, st.said)
		if !errors.Is(err, test.want) || (head == st.head) != (test.want == nil) {
			t.Errorf("%d answers too long: %s, %v; want %v", test.times, head, err, test.want)
		}
	}
}
