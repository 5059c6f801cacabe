package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// poisoned is a forge that takes no comment on some pull requests.
type poisoned struct {
	ccci.Forge
	w     *world
	err   error
	prs   map[ccci.PRRef]bool
	tries map[ccci.PRRef]int
}

func (f poisoned) PostComment(ctx context.Context, pr ccci.PRRef, key, body string) (ccci.CommentID, error) {
	f.w.mu.Lock()
	bad := f.prs[pr]
	f.tries[pr]++
	f.w.mu.Unlock()
	if bad {
		return "", f.err
	}
	return f.Forge.PostComment(ctx, pr, key, body)
}

// The author of a pull request can make the forge refuse every comment there. With as many
// waiting as are answered, on several pull requests and for days, a run elsewhere gets
// its comments and its status as soon as ever, under each form of refusal.
func TestA10_RefusedCommentsDelayNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		delay time.Duration // of a verdict
		tries int           // in a week, for each pull request
		kept  int           // messages that wait after a day
	}{
		"final":        {fmt.Errorf("403 user is blocked: %w", ccci.ErrLocked), 0, 30, 0},
		"refused":      {fmt.Errorf("422 too many comments: %w", ccci.ErrRefused), 0, 250, 33},
		"unclassified": {errors.New("500 internal server error"), 2 * time.Minute, 30_000, 33},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				cfg := w.config()
				f := poisoned{Forge: cfg.Forge, w: w, err: c.err, prs: map[ccci.PRRef]bool{}, tries: map[ccci.PRRef]int{}}
				cfg.Forge = f
				b, stop := w.start(cfg)
				defer stop()
				idle(time.Second)
				for i := range 3 {
					ref := ccci.PRRef{Repo: repo, Number: 66 + i}
					w.addPRLocked(ref)
					w.mu.Lock()
					f.prs[ref] = true
					w.mu.Unlock()
					for range 10 { // three people, so that each is answered
						w.write(ref, ccci.User{ID: fmt.Sprint(600 + i), Name: "mallory"}, "!help")
					}
					w.write(ref, ada, "!testme") // its verdict is as important as any
				}
				idle(24 * time.Hour) // the waits have grown to their longest
				if h := b.Health(); h.Waiting != c.kept {
					t.Errorf("%d messages wait, want %d", h.Waiting, c.kept)
				}
				for hour := range 3 {
					ref := ccci.PRRef{Repo: repo, Number: 100 + hour}
					w.addPRLocked(ref)
					w.write(ref, ada, "!testme")
					idle(2*time.Minute + c.delay)
					said := w.said("run/") // those of pull requests that take comments
					if s := w.status(commitN(ref.Number*1000), "cc-ci/testme"); s.State != ccci.StateSuccess || len(said) != hour+1 || !strings.Contains(strings.Join(said, "\n"), "passed") {
						t.Fatalf("hour %d: status %+v, comments %q", hour, s, said)
					}
					idle(time.Hour)
				}
				if name != "unclassified" {
					if h := b.Health(); !h.Reachable {
						t.Errorf("the forge speaks and counts as away: %+v", h)
					}
				}
				if h := b.Health(); name == "refused" && h.Waiting != 3 {
					t.Errorf("after a day and some hours %d messages wait, want the 3 verdicts", h.Waiting)
				}
				idle(7 * 24 * time.Hour)
				for ref := range f.prs {
					w.mu.Lock()
					if n := f.tries[ref]; n > c.tries {
						t.Errorf("%s: %d tries within a week", ref, n)
					}
					w.mu.Unlock()
				}
				want := 0
				if name == "unclassified" { // like an outage, in which nothing is lost
					want = c.kept
				}
				if h := b.Health(); h.Waiting != want {
					t.Errorf("after a week %d messages wait, want %d", h.Waiting, want)
				}
			})
		})
	}
}

// What the forge refused for a while is said when it takes it, in the order of its importance.
func TestA10_RefusedForAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cfg := w.config()
		f := poisoned{Forge: cfg.Forge, w: w, err: ccci.ErrRefused, prs: map[ccci.PRRef]bool{pr1: true}, tries: map[ccci.PRRef]int{}}
		cfg.Forge = f
		_, stop := w.start(cfg)
		defer stop()
		idle(time.Second)
		w.write(pr1, mallory, "!help")
		w.write(pr1, ada, "!testme")
		idle(6 * time.Hour)
		w.mu.Lock()
		f.prs[pr1] = false
		w.mu.Unlock()
		idle(61 * time.Minute) // the longest wait
		if said := w.said(""); len(said) != 2 || !strings.Contains(strings.Join(w.said("run/"), ""), "passed") {
			t.Errorf("an hour after the forge takes comments again: %q", said)
		}
	})
}
