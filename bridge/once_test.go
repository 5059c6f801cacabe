package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// liveAndDie runs a bridge until it dies by itself or d is over, and reports
// whether it died and how many calls it made.
func (w *world) liveAndDie(at int, after bool, d time.Duration) (died bool, calls int) {
	w.t.Helper()
	ctx, kill := context.WithCancel(context.Background())
	l := &life{w: w, at: at, after: after, kill: kill}
	b, err := bridge.New(l.config())
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	select {
	case <-done:
	case <-time.After(d):
		kill()
		<-done
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead, l.calls
}

// The whole life of a run, with the bridge killed at each of its calls to the
// outside, before and after the call took effect (U14, A11).
func TestN2_KillAtEveryStep(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			reached := false
			inBubble(t, func(t *testing.T, w *world) {
				w.script = func(ccci.Job) (ccci.Build, any) {
					return ccci.Build{Ending: ccci.EndExited, ExitCode: 1}, ccci.StatusFailed
				}
				w.overlap = 2
				w.write(pr1, ada, "!testme")
				w.write(pr1, ada, "!testme stagse=install")
				reached, _ = w.liveAndDie(at, after, 3*time.Minute)
				idle(time.Second)
				_, stop := w.start(w.config())
				idle(10 * time.Minute)
				stop()

				runs := w.runs()
				if len(runs) != 1 || runs[0].Status != ccci.StatusFailed || runs[0].Cause != "upgrade/converged: swarm rolled app back" || len(w.builds) != 1 {
					t.Errorf("killed at call %d (after: %v): %d builds, runs %+v", at, after, len(w.builds), runs)
				}
				if said := w.said("run/"); len(said) != 1 || !strings.Contains(said[0], "❌ failed") || !strings.Contains(said[0], "swarm rolled app back") {
					t.Errorf("killed at call %d (after: %v): the comments are %q", at, after, said)
				}
				if said := w.said("reply/"); len(said) != 1 || len(w.said("")) != 2 {
					t.Errorf("killed at call %d (after: %v): said %q", at, after, w.said(""))
				}
				if s := w.status(commitN(1000), "cc-ci/testme"); s.State != ccci.StateFailure {
					t.Errorf("killed at call %d (after: %v): the status is %+v", at, after, s)
				}
			})
			if t.Failed() {
				return
			}
			if !reached {
				if at < 40 {
					t.Errorf("only %d calls were seen", at)
				}
				t.Logf("after=%v: killed at each of %d calls", after, at-1)
				break
			}
		}
	}
}

// 200 wishes, half of them written while nobody listens; every answer repeats
// old comments in a new order; bridges are killed all the time (U14).
func TestN2_ReplayGivesOneRunPerAcceptedComment(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rnd := rand.New(rand.NewPCG(1, 2))
		w.harness = 100 * time.Millisecond
		w.overlap = 60
		w.shuffle = func(c []ccci.Comment) { rnd.Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] }) }
		accepted := map[ccci.CommentID]bool{}
		for round := range 10 {
			for i := range 10 {
				ref := ccci.PRRef{Repo: repo, Number: round*10 + i + 10}
				w.addPRLocked(ref)
				accepted[w.write(ref, ada, "!testme").ID] = true
				accepted[w.write(ref, ada, "!testme stages=install").ID] = true
				w.write(ref, mallory, "!testme")
				w.write(ref, ada, "please !testme")
			}
			if round%2 == 0 { // otherwise all of it waits for the next one
				w.liveAndDie(20+rnd.IntN(300), rnd.IntN(2) == 0, time.Minute)
			}
		}
		_, stop := w.start(w.config())
		idle(30 * time.Minute)
		stop()
		runs := w.runs()
		if len(accepted) != 200 || len(runs) != 200 || len(w.builds) != 200 {
			t.Errorf("%d accepted comments, %d runs, %d builds", len(accepted), len(runs), len(w.builds))
		}
		passed := 0
		for _, run := range runs {
			switch newer, err := w.store.FindRun(t.Context(), run.Superseded.Run); {
			case accepted[run.Comment] && run.Status == ccci.StatusPassed:
				passed++
			case run.Status == ccci.StatusCancelled && err == nil && newer.PR == run.PR && newer.Status == ccci.StatusPassed && ccci.QueueOrder(run, newer) < 0:
			default:
				t.Errorf("run %+v", run)
			}
		}
		said := w.said("run/")
		green := 0
		for _, body := range said {
			if strings.Contains(body, "✅ passed") {
				green++
			} else if !strings.Contains(body, "🚫 superseded") {
				t.Errorf("a comment says %.80q", body)
			}
		}
		if green != passed || green < 100 {
			t.Errorf("%d runs passed, %d comments say so", passed, green)
		}
		if len(said) != 200 {
			t.Errorf("%d comments for 200 runs", len(said))
		}
	})
}

func (w *world) addPRLocked(ref ccci.PRRef) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addPR(ref)
}

// Pushes race against the way from the comment to the start, 500 times (A8).
func TestN1_NoCommitRunsThatNobodyAgreedTo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rnd := rand.New(rand.NewPCG(3, 4))
		delays := make(chan time.Duration, 100_000)
		for range cap(delays) {
			delays <- time.Duration(rnd.IntN(3000)) * time.Microsecond
		}
		w.delay = func() time.Duration { return <-delays }
		w.harness = time.Millisecond
		const tries = 500
		wish := map[ccci.PRRef]ccci.CommentID{}
		for i := range tries {
			ref := ccci.PRRef{Repo: repo, Number: i + 10}
			w.addPR(ref)
			wish[ref] = w.write(ref, ada, "!testme").ID
		}
		// Each push starts out from a random step of its comment's handling.
		type moment struct {
			call  string
			after time.Duration
		}
		moments := map[ccci.PRRef]moment{}
		for ref := range wish {
			moments[ref] = moment{[]string{"PullRequest", "HeadAt"}[rnd.IntN(2)], time.Duration(rnd.IntN(4000)) * time.Microsecond}
		}
		var pushed sync.Map
		w.onRead = func(call string, ref ccci.PRRef) {
			if m := moments[ref]; m.call == call {
				if _, twice := pushed.LoadOrStore(ref, true); !twice {
					time.AfterFunc(m.after, func() { w.push(ref) })
				}
			}
		}
		_, stop := w.start(w.config())
		idle(20 * time.Minute)
		stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, b := range w.builds {
			if agreed := w.headAt[wish[b.job.PR]]; b.job.Commit != agreed {
				t.Errorf("%s ran %s, agreed to was %s", b.job.PR, b.job.Commit, agreed)
			}
		}
		refused := 0
		for key := range w.posted {
			if strings.Contains(key, "reply/") {
				refused++
			}
		}
		if refused+len(w.builds) != tries || refused < 50 || len(w.builds) < 50 {
			t.Errorf("%d refused and %d run of %d: the race did not happen", refused, len(w.builds), tries)
		}
		t.Logf("%d refused, %d run", refused, len(w.builds))
	})
}

func TestN1_Pin(t *testing.T) {
	old, now := commitN(1000), commitN(1001)
	for name, c := range map[string]struct {
		command string
		unknown bool
		pushed  bool
		want    ccci.Commit // "" for a refusal
		reply   []string
	}{
		"head as it was":                {command: "!testme", want: old},
		"pushed to since":               {command: "!testme stages=install", pushed: true, reply: []string{"was pushed to", old.Short(), "!testme stages=install " + string(now)}},
		"cannot be proven":              {command: "!testme from=1.0.0", unknown: true, reply: []string{"cannot be proven", "!testme from=1.0.0 " + string(old)}},
		"named, is the head":            {command: "!testme " + string(old), want: old},
		"named, unproven":               {command: "!testme " + string(old), unknown: true, want: old},
		"named, was the head":           {command: "!testme " + string(old), pushed: true, want: old},
		"named before it was pushed":    {command: "!testme " + string(now), pushed: true, want: now},
		"named something else":          {command: "!testme " + string(commitN(77)), reply: []string{"is not the head", "!testme " + string(old)}},
		"named something else, pushed":  {command: "!testme " + string(commitN(77)), pushed: true, reply: []string{"is not the head", "!testme " + string(now)}},
		"named the old one, unproven":   {command: "!testme " + string(old), pushed: true, unknown: true, reply: []string{"is not the head", "!testme " + string(now)}},
		"abbreviated":                   {command: "!testme " + string(old[:12]), reply: []string{"in full", "!testme " + string(old)}},
		"abbreviated something else":    {command: "!testme abcdef1", reply: []string{"is not the head"}},
		"nothing to repeat, and pushed": {command: "!retest", pushed: true, reply: []string{"was pushed to", "!testme " + string(now)}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				comment := w.write(pr1, ada, c.command)
				if c.unknown {
					w.headAt[comment.ID] = ""
				}
				if c.pushed {
					w.push(pr1)
				}
				_, stop := w.start(w.config())
				idle(3 * time.Minute)
				stop()
				runs := w.runs()
				if c.want == "" {
					if len(runs) != 0 {
						t.Errorf("it ran: %+v", runs)
					}
				} else if len(runs) != 1 || runs[0].Commit != c.want {
					t.Errorf("runs %+v, want one of %s", runs, c.want)
				}
				said := fmt.Sprint(w.said("reply/"))
				for _, want := range c.reply {
					if !strings.Contains(said, want) {
						t.Errorf("the reply lacks %q: %s", want, said)
					}
				}
				// What is offered for copying is itself understood.
				if _, line, ok := strings.Cut(said, "```text\n"); ok {
					line, _, _ = strings.Cut(line, "\n")
					if p := bridge.Parse(line); p.Kind != bridge.IsCommand || !ccci.Commit(p.Command.SHA).Valid() {
						t.Errorf("the ready line %q is %+v", line, p)
					}
				} else if c.want == "" {
					t.Errorf("no ready line in %s", said)
				}
			})
		})
	}
}

func TestN1_TroubleIsNoAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.forgeErr = func(call string) error {
			if call == "HeadAt" {
				return errors.New("504 gateway timeout")
			}
			return nil
		}
		w.write(pr1, ada, "!testme")
		_, stop := w.start(w.config())
		defer stop()
		idle(5 * time.Minute)
		if len(w.runs()) != 0 || len(w.said("")) != 0 {
			t.Fatalf("with the forge in trouble: %d runs, said %q", len(w.runs()), w.said(""))
		}
		w.mu.Lock()
		w.forgeErr = nil
		w.mu.Unlock()
		idle(5 * time.Minute)
		if len(w.runs()) != 1 {
			t.Errorf("afterwards: %d runs", len(w.runs()))
		}
	})
}

func TestN2_ARunStaysThatRunWhateverChanged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 10
		_, stop := w.start(w.config())
		w.write(pr1, ada, "!testme")
		idle(20 * time.Second)
		w.push(pr1)
		w.mu.Lock()
		w.members = nil
		w.prs[pr1].Open = false
		w.mu.Unlock()
		idle(time.Minute)
		stop()
		_, stop = w.start(w.config())
		defer stop()
		idle(3 * time.Minute)
		if runs := w.runs(); len(runs) != 1 || runs[0].Status != ccci.StatusPassed || len(w.said("")) != 1 {
			t.Errorf("runs %+v, said %q", runs, w.said(""))
		}
	})
}

// A run that was read as unfinished, and has ended before it is followed, keeps its
// verdict: the comment and the status are not taken back (A10).
func TestA10_AVerdictIsNotTakenBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 2
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(3 * time.Minute)
		run := w.runs()[0]
		if run.Status != ccci.StatusPassed {
			t.Fatalf("the run is %s", run.Status)
		}
		before := run
		before.Status, before.Finished = ccci.StatusRunning, time.Time{}
		w.store.mu.Lock()
		w.store.late = map[ccci.RunID]ccci.Run{run.ID: before}
		w.store.mu.Unlock()
		w.write(pr1, ada, "thanks") // the forge tells the comment before it once more
		idle(3 * time.Minute)
		if said := strings.Join(w.said("run/"), ""); !strings.HasPrefix(said, "### ✅") {
			t.Errorf("the comment says %.60q", said)
		}
		if s := w.status(run.Commit, "cc-ci/testme"); s.State != ccci.StateSuccess {
			t.Errorf("the status is %+v", s)
		}
		if w.builds[run.ID].job.RunID != run.ID || len(w.order) != 1 {
			t.Errorf("%d builds", len(w.order))
		}
	})
}
