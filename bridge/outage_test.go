package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// loud keeps what a bridge logs at Warn and above.
type loud struct {
	mu    sync.Mutex
	lines []string
}

func (l *loud) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *loud) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *loud) WithGroup(string) slog.Handler                    { return l }
func (l *loud) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, r.Message)
	return nil
}

func (l *loud) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// breakForge makes calls to the forge fail; none of them: all.
func (w *world) breakForge(calls ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgeErr = func(call string) error {
		if len(calls) == 0 || slices.Contains(calls, call) {
			return errors.New("dial tcp: connection refused")
		}
		return nil
	}
}

func (w *world) mendForge() { w.mu.Lock(); defer w.mu.Unlock(); w.forgeErr = nil }

func (w *world) callsSoFar() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		n += c
	}
	return n
}

// A day without the forge: what ran goes on, what was asked for meanwhile is
// served afterwards, every comment says the verdict, and the forge is not hammered.
func TestU14_ForgeDownForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		log := &loud{}
		cfg := w.config()
		cfg.Logger = slog.New(log)
		for i := range 50 {
			cfg.Repos = append(cfg.Repos, bridge.Repo{Ref: ccci.RepoRef{Owner: "recipes", Name: fmt.Sprint("r", i)}, Recipe: "x", Org: "recipes"})
		}
		b, stop := w.start(cfg)
		defer func() { stop() }()
		idle(time.Second)
		w.write(pr1, ada, "!testme")
		idle(20 * time.Second) // it runs
		w.breakForge()
		before := w.callsSoFar()
		var asked []ccci.PRRef
		for hour := range 24 {
			ref := ccci.PRRef{Repo: repo, Number: 100 + hour}
			w.addPRLocked(ref)
			asked = append(asked, ref)
			w.write(ref, ada, "!testme")
			idle(time.Hour)
			h := b.Health()
			if h.Reachable || !strings.Contains(h.Error, "connection refused") || time.Since(h.Since) < time.Duration(hour%13)*time.Hour-time.Minute || time.Since(h.Turned) > time.Minute {
				t.Fatalf("in hour %d health is %+v", hour, h)
			}
			if hour == 12 { // a restart in the middle: nobody can be asked who we are
				stop()
				cfg.Logger = slog.New(log)
				b, stop = w.start(cfg)
			}
		}
		calls := w.callsSoFar() - before
		// One look and one message every 30 s at most, and a few more around each beginning.
		if calls > 2*2*24*60+100 {
			t.Errorf("%d calls in a day without the forge", calls)
		}
		lines := log.take()
		if len(lines) > 14 { // two processes, reading and writing, three failures each before it is known
			t.Errorf("%d lines in the log: %q", len(lines), lines)
		}
		t.Logf("a day without the forge: %d calls, %d lines", calls, len(lines))
		if runs := w.runs(); len(runs) != 1 || runs[0].Status != ccci.StatusPassed {
			t.Fatalf("meanwhile: %+v", runs)
		}

		w.mendForge()
		idle(31 * time.Second) // the longest wait
		if said := w.said("run/"); len(said) < 1 || !strings.Contains(said[0], "✅ passed") {
			t.Errorf("31 s after the forge is back the comment is %q", said)
		}
		if s := w.status(commitN(1000), "cc-ci/testme"); s.State != ccci.StateSuccess {
			t.Errorf("the status is %+v", s)
		}
		idle(31 * time.Second)
		runs := w.runs()
		if len(runs) != 25 {
			t.Errorf("%d runs a minute after the forge is back", len(runs))
		}
		idle(time.Hour)
		if said := w.said(""); len(said) != 25 {
			t.Errorf("%d comments for 25 runs", len(said))
		}
		for _, ref := range asked {
			if s := w.status(commitN(ref.Number*1000), "cc-ci/testme"); s.State != ccci.StateSuccess {
				t.Errorf("%s: %+v", ref, s)
			}
		}
		if h := b.Health(); !h.Reachable || h.Waiting != 0 || h.Error != "" {
			t.Errorf("afterwards health is %+v", h)
		}
	})
}

func TestU14_BootWithTheForgeDown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.breakForge()
		w.write(pr1, ada, "!testme")
		b, stop := w.start(w.config())
		defer stop()
		idle(6 * time.Hour)
		if h := b.Health(); h.Reachable || !h.Working || !strings.Contains(h.Error, "who we are") {
			t.Errorf("health: %+v", h)
		}
		w.mendForge()
		idle(3 * time.Minute)
		if runs := w.runs(); len(runs) != 1 || runs[0].Status != ccci.StatusPassed {
			t.Errorf("runs %+v", runs)
		}
	})
}

// The forge can be read and not written to, as under maintenance.
func TestU14_NothingCanBeSaidForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		log := &loud{}
		cfg := w.config()
		cfg.Logger = slog.New(log)
		b, stop := w.start(cfg)
		defer stop()
		idle(time.Second)
		w.breakForge("PostComment", "EditComment", "SetStatus")
		var refs []ccci.PRRef
		for i := range 40 {
			ref := ccci.PRRef{Repo: repo, Number: 100 + i}
			w.addPRLocked(ref)
			refs = append(refs, ref)
			w.write(ref, ada, "!testme")
		}
		idle(24 * time.Hour)
		w.mu.Lock()
		tries := w.calls["PostComment"] + w.calls["SetStatus"]
		w.mu.Unlock()
		if tries > 24*60*2+100 || tries < 1000 {
			t.Errorf("%d tries in a day", tries)
		}
		if lines := log.take(); len(lines) > 6 {
			t.Errorf("%d lines: %q", len(lines), lines)
		}
		if h := b.Health(); h.Reachable || h.Waiting != 80 || time.Since(h.Oldest) < 22*time.Hour {
			t.Errorf("health: %+v", h)
		}
		w.mendForge()
		idle(40 * time.Second)
		for _, ref := range refs {
			if s := w.status(commitN(ref.Number*1000), "cc-ci/testme"); s.State != ccci.StateSuccess {
				t.Fatalf("%s: %+v", ref, s)
			}
		}
		if said := w.said("run/"); len(said) != 40 || slices.ContainsFunc(said, func(s string) bool { return !strings.Contains(s, "✅ passed") }) {
			t.Errorf("%d comments", len(said))
		}
	})
}

// Repositories that keep failing say nothing about a forge that answers for another.
func TestA4_BrokenRepositoriesAreNoOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		log := &loud{}
		cfg := w.config()
		cfg.Logger = slog.New(log)
		for i := range 6 {
			cfg.Repos = append(cfg.Repos, bridge.Repo{Ref: ccci.RepoRef{Owner: "broken", Name: fmt.Sprint("r", i)}, Recipe: "x", Org: "recipes"})
		}
		cfg.Forge = partly{cfg.Forge}
		b, stop := w.start(cfg)
		defer stop()
		idle(24 * time.Hour)
		if lines := log.take(); len(lines) > 8 {
			t.Errorf("%d lines: %q", len(lines), lines[:9])
		}
		w.write(pr1, ada, "!testme")
		idle(2 * time.Minute)
		if h := b.Health(); !h.Reachable || len(w.said("run/")) != 1 {
			t.Errorf("health %+v, said %q", h, w.said(""))
		}
	})
}

type partly struct{ ccci.Forge }

func (f partly) Comments(ctx context.Context, r ccci.RepoRef, c ccci.Cursor) ([]ccci.Comment, ccci.Cursor, error) {
	if r.Owner == "broken" {
		return nil, "", errors.New("500 internal server error")
	}
	return f.Forge.Comments(ctx, r, c)
}

// One message that the forge refuses for ever does not keep the others waiting.
func TestA10_OneBadMessageStandsInNobodysWay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		bad := ccci.PRRef{Repo: repo, Number: 2}
		w.addPR(bad)
		cfg := w.config()
		cfg.Forge = refusing{cfg.Forge, bad}
		_, stop := w.start(cfg)
		defer stop()
		w.write(bad, ada, "!testme")
		idle(20 * time.Minute)
		for i := range 5 {
			ref := ccci.PRRef{Repo: repo, Number: 10 + i}
			w.addPRLocked(ref)
			w.write(ref, ada, "!testme")
			idle(2 * time.Minute)
			if s := w.status(commitN(ref.Number*1000), "cc-ci/testme"); s.State != ccci.StateSuccess || len(w.said("run/")) != i+1 {
				t.Fatalf("%s: %+v, %d comments", ref, s, len(w.said("run/")))
			}
		}
	})
}

type refusing struct {
	ccci.Forge
	bad ccci.PRRef
}

func (f refusing) PostComment(ctx context.Context, pr ccci.PRRef, key, body string) (ccci.CommentID, error) {
	if pr == f.bad {
		return "", errors.New("422 the conversation is locked")
	}
	return f.Forge.PostComment(ctx, pr, key, body)
}

// The status stands on the commit that was tested, whatever is pushed meanwhile.
func TestU13_A8_StatusOnExactlyTheTestedCommit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		idle(time.Second)
		w.write(pr1, ada, "!testme")
		idle(20 * time.Second)
		pushed := w.push(pr1)
		idle(2 * time.Minute)
		if s := w.status(commitN(1000), "cc-ci/testme"); s.State != ccci.StateSuccess {
			t.Errorf("on the tested commit: %+v", s)
		}
		if s := w.status(pushed, "cc-ci/testme"); s.State != "" {
			t.Errorf("on the commit that was pushed: %+v", s)
		}
	})
}
