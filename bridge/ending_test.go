package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Every way in which a build can end, and what people are told about it.
func TestN7_Endings(t *testing.T) {
	exited := func(code int) ccci.Build { return ccci.Build{Ending: ccci.EndExited, ExitCode: code} }
	spoil := func(edit func(*ccci.Result)) func(ccci.Job) any {
		return func(job ccci.Job) any {
			r := resultOf(job, ccci.StatusPassed)
			edit(r)
			return r
		}
	}
	for name, c := range map[string]struct {
		build  ccci.Build
		result any // a status, or func(Job) any
		want   ccci.Status
		cause  string
		state  ccci.StatusState
	}{
		"passed":                 {exited(0), ccci.StatusPassed, ccci.StatusPassed, "", ccci.StateSuccess},
		"failed":                 {exited(1), ccci.StatusFailed, ccci.StatusFailed, "upgrade/converged: swarm rolled app back", ccci.StateFailure},
		"refused by admission":   {exited(4), ccci.StatusRefused, ccci.StatusRefused, "", ccci.StateFailure},
		"errored":                {exited(3), ccci.StatusErrored, ccci.StatusErrored, "", ccci.StateError},
		"failed, exit code lies": {exited(0), ccci.StatusFailed, ccci.StatusFailed, "swarm rolled", ccci.StateFailure},
		"passed, exit code 3":    {exited(3), ccci.StatusPassed, ccci.StatusErrored, "exit code 3", ccci.StateError},
		"no result":              {exited(0), nil, ccci.StatusErrored, "left no result", ccci.StateError},
		"no result, killed":      {exited(137), nil, ccci.StatusErrored, "exit code 137", ccci.StateError},
		"garbage":                {exited(0), "garbage", ccci.StatusErrored, "does not parse", ccci.StateError},
		"unfinished result":      {exited(0), ccci.StatusRunning, ccci.StatusErrored, `says "running"`, ccci.StateError},
		"interrupted":            {exited(143), ccci.StatusCancelled, ccci.StatusErrored, "interrupted", ccci.StateError},
		"deadline":               {ccci.Build{Ending: ccci.EndDeadline}, ccci.StatusErrored, ccci.StatusInconclusive, "longer than 1 h 0 min", ccci.StateError},
		"deadline beats passed":  {ccci.Build{Ending: ccci.EndDeadline}, ccci.StatusPassed, ccci.StatusInconclusive, "longer than", ccci.StateError},
		"lost":                   {ccci.Build{Ending: ccci.EndLost}, nil, ccci.StatusErrored, "failed during the run", ccci.StateError},
		"cancelled elsewhere":    {ccci.Build{Ending: ccci.EndCancelled}, ccci.StatusCancelled, ccci.StatusCancelled, "", ccci.StateError},
		"an unknown ending":      {ccci.Build{Ending: "vanished"}, ccci.StatusPassed, ccci.StatusErrored, "vanished", ccci.StateError},
		"another run's result":   {exited(0), spoil(func(r *ccci.Result) { r.RunID = "260101-000000-000000" }), ccci.StatusErrored, "is about run", ccci.StateError},
		"another commit":         {exited(0), spoil(func(r *ccci.Result) { r.Commit = commitN(5) }), ccci.StatusErrored, "is about run", ccci.StateError},
		"a newer schema":         {exited(0), spoil(func(r *ccci.Result) { r.Schema = 99 }), ccci.StatusErrored, "schema 99", ccci.StateError},
		"no teardown":            {exited(0), spoil(func(r *ccci.Result) { r.Teardown = nil }), ccci.StatusErrored, "no proof of teardown", ccci.StateError},
		"leftovers": {exited(0), spoil(func(r *ccci.Result) { r.Teardown.Leftovers = []string{"volume x"} }), ccci.StatusFailed, "left objects behind",
			ccci.StateFailure},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.script = func(job ccci.Job) (ccci.Build, any) {
					if make, ok := c.result.(func(ccci.Job) any); ok {
						return c.build, make(job)
					}
					return c.build, c.result
				}
				_, stop := w.start(w.config())
				defer stop()
				w.write(pr1, ada, "!testme")
				idle(3 * time.Minute)
				run := w.runs()[0]
				if run.Status != c.want || !strings.Contains(run.Cause, c.cause) || (c.cause == "") != (run.Cause == "") {
					t.Errorf("the run is %s because %q, want %s because %q", run.Status, run.Cause, c.want, c.cause)
				}
				if s := w.status(run.Commit, "cc-ci/testme"); s.State != c.state {
					t.Errorf("the status is %+v", s)
				}
				said := strings.Join(w.said("run/"), "")
				if green := strings.HasPrefix(said, "### ✅"); green != (c.want == ccci.StatusPassed) {
					t.Errorf("the comment says %.60q", said)
				}
				if c.want == ccci.StatusErrored && (!strings.Contains(said, "The recipe did not cause it") || !strings.Contains(said, "`!retest`")) {
					t.Errorf("an errored run's comment says %q", said)
				}
			})
		})
	}
}

// N14: the comment of a flaky run has the rate of its checks, this run included.
func TestN14_TheCommentHasTheRate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.script = func(job ccci.Job) (ccci.Build, any) {
			r := resultOf(job, ccci.StatusFlaky)
			r.Stages = []ccci.Stage{{Name: ccci.StageChecks, Status: ccci.Flaky, Checks: []ccci.Check{{Name: "checks/log-in", Status: ccci.Flaky}}}}
			r.Cause = &ccci.Cause{Check: "checks/log-in", Message: "it failed, and passed when it was repeated: no answer"}
			return ccci.Build{Ending: ccci.EndExited, ExitCode: 6}, r
		}
		_, stop := w.start(w.config())
		defer stop()
		for _, rate := range []string{"1 of 1 run", "2 of the last 2 runs"} {
			w.write(pr1, ada, "!testme")
			idle(3 * time.Minute)
			run := w.runs()[0]
			if s := w.status(run.Commit, "cc-ci/testme"); run.Status != ccci.StatusFlaky || s.State != ccci.StateError || !strings.HasPrefix(s.Description, "flaky: checks/log-in") {
				t.Errorf("%s, %+v", run.Status, s)
			}
			if said := strings.Join(w.said("run/"), ""); !strings.Contains(said, "- `checks/log-in` flaky: "+rate+"\n") {
				t.Errorf("no %q in %s", rate, said)
			}
		}
	})
}

func TestEnding_engineForgetsTheBuild(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		w.write(pr1, ada, "!testme")
		idle(20 * time.Second)
		stop()
		w.mu.Lock()
		clear(w.builds) // its disk was replaced
		w.mu.Unlock()
		idle(2 * time.Minute) // the orphaned worker of this model ends
		_, stop = w.start(w.config())
		defer stop()
		idle(2 * time.Minute)
		if run := w.runs()[0]; run.Status != ccci.StatusPassed || len(w.order) != 2 {
			t.Errorf("run %+v after %d starts", run, len(w.order))
		}
	})
}

func TestOutbox_forgeDownLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		w.write(pr1, ada, "!testme")
		idle(16 * time.Second)
		w.mu.Lock()
		w.forgeErr = func(string) error { return errors.New("503 service unavailable") }
		w.calls = map[string]int{}
		w.mu.Unlock()
		idle(time.Hour)
		w.mu.Lock()
		if n := w.calls["EditComment"]; n < 5 || n > 40 {
			t.Errorf("%d tries to edit in an hour", n)
		}
		w.mu.Unlock()
		stop()
		idle(time.Hour)
		_, stop = w.start(w.config())
		defer stop()
		idle(time.Minute)
		w.mu.Lock()
		w.forgeErr = nil
		w.mu.Unlock()
		idle(6 * time.Minute)
		if said := w.said(""); len(said) != 1 || !strings.Contains(said[0], "✅ passed") {
			t.Errorf("said %q", said)
		}
		if s := w.status(commitN(1000), "cc-ci/testme"); s.State != ccci.StateSuccess {
			t.Errorf("the status is %+v", s)
		}
	})
}

func TestOutbox_deletedCommentComesBackOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(16 * time.Second)
		remove := func(id ccci.CommentID) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.deleted[id] = true
		}
		remove("2")
		idle(30 * time.Second)
		if said := w.said("/again"); len(said) != 1 || !strings.Contains(said[0], "running") {
			t.Errorf("said %q", said)
		}
		remove("3")
		idle(10 * time.Minute)
		if n := len(w.said("")); n != 2 {
			t.Errorf("%d comments", n)
		}
		if pending, err := w.store.PendingMessages(t.Context(), time.Now(), 10); err != nil || len(pending) != 0 {
			t.Errorf("still pending: %+v, %v", pending, err)
		}
	})
}

func TestLog_markersInAFlood(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(16 * time.Second)
		id := w.runs()[0].ID
		w.mu.Lock()
		b := w.builds[id]
		w.mu.Unlock()
		w.logLine(b, strings.Repeat("x", 200_000)+"##[stage checks begin]")
		w.logLine(b, "  ##[stage checks end pass 1.000s]")
		idle(time.Second)
		for _, row := range w.runs()[0].Stages {
			if row.Name == ccci.StageChecks {
				t.Errorf("text within a line became a stage: %+v", row)
			}
		}
		w.logLine(b, ccci.Marker{Stage: ccci.StageInstall, Begin: true}.String()) // a second attempt
		idle(time.Second)
		if rows := w.runs()[0].Stages; len(rows) != 1 || !rows[0].Running {
			t.Errorf("a new attempt starts with %+v", rows)
		}
	})
}

func TestOutbox_lostAnswerToAPost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.postLost = true    // the forge has the comment and the bridge does not know
		var down atomic.Bool // and then nothing gets through until the run has ended
		w.forgeErr = func(call string) error {
			if call == "PostComment" && down.Load() {
				return errors.New("503 service unavailable")
			}
			if call == "PostComment" {
				down.Store(true)
			}
			return nil
		}
		w.write(pr1, ada, "!testme")
		_, stop := w.start(w.config())
		defer stop()
		idle(2 * time.Minute)
		w.mu.Lock()
		w.forgeErr = nil
		w.mu.Unlock()
		idle(6 * time.Minute)
		if said := w.said(""); len(said) != 1 || !strings.Contains(said[0], "✅ passed") {
			t.Errorf("said %q", said)
		}
	})
}

// N7: what is our fault is tried once more, under the same comment, and the pull
// request is not blamed meanwhile.
func TestN7_OurFaultIsTriedOnceMore(t *testing.T) {
	errored := func(job ccci.Job) any {
		r := resultOf(job, ccci.StatusErrored)
		r.Cause, r.Verdict = &ccci.Cause{Check: "install/images", Code: ccci.CodeInfra, Message: "the registry does not answer"}, ccci.VerdictErrored
		return r
	}
	timedOut := func(job ccci.Job) any {
		return resultOf(job, ccci.StatusInconclusive)
	}
	exited := func(code int) ccci.Build { return ccci.Build{Ending: ccci.EndExited, ExitCode: code} }
	for name, c := range map[string]struct {
		first, second       ccci.Build
		firstFound, thenHas func(ccci.Job) any
		want                ccci.Status
		attempts            int
		cause               string
	}{
		"then it works":         {exited(3), exited(0), errored, nil, ccci.StatusPassed, 2, ""},
		"and again":             {exited(3), exited(3), errored, errored, ccci.StatusErrored, 2, "registry does not answer"},
		"then it is the recipe": {exited(3), exited(1), errored, func(job ccci.Job) any { return resultOf(job, ccci.StatusFailed) }, ccci.StatusFailed, 2, "swarm rolled app back"},
		"killed without result": {exited(137), exited(0), func(ccci.Job) any { return nil }, nil, ccci.StatusPassed, 2, ""},
		// What the first attempt left is never taken for what the second one found.
		"no second result":    {exited(3), exited(137), errored, func(ccci.Job) any { return nil }, ccci.StatusErrored, 2, "its result is of attempt 1 and not of 2"},
		"too slow":            {exited(5), exited(0), timedOut, nil, ccci.StatusInconclusive, 1, ""},
		"wrong configuration": {exited(2), exited(0), func(ccci.Job) any { return nil }, nil, ccci.StatusErrored, 1, "exit code 2"},
		"past the deadline":   {ccci.Build{Ending: ccci.EndDeadline}, exited(0), errored, nil, ccci.StatusInconclusive, 1, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var attempts []int
				w.script = func(job ccci.Job) (ccci.Build, any) {
					attempts = append(attempts, job.Attempt)
					if len(attempts) == 1 {
						return c.first, c.firstFound(job)
					}
					if c.thenHas == nil {
						return c.second, ccci.StatusPassed
					}
					return c.second, c.thenHas(job)
				}
				_, stop := w.start(w.config())
				defer stop()
				w.write(pr1, ada, "!testme")
				idle(3 * time.Minute)
				run := w.runs()[0]
				if len(w.runs()) != 1 || run.Status != c.want || len(attempts) != c.attempts || run.Attempt != c.attempts {
					t.Errorf("%d runs, the first is %s in attempt %d, attempts %v", len(w.runs()), run.Status, run.Attempt, attempts)
				}
				if len(run.Earlier) != c.attempts-1 || run.Build == "" {
					t.Errorf("the builds of its attempts are %q and %q", run.Earlier, run.Build)
				}
				if !strings.Contains(run.Cause, c.cause) || c.want == ccci.StatusPassed && run.Cause != "" {
					t.Errorf("cause %q, want %q", run.Cause, c.cause)
				}
				if got := w.said("run/"); len(got) != 1 {
					t.Errorf("%d comments", len(got))
				}
				var told bool
				for _, bodies := range w.history {
					for _, body := range bodies {
						told = told || strings.Contains(body, "This is the last attempt")
					}
				}
				if told != (c.attempts == 2) {
					t.Errorf("the comment says that it is tried again: %t", told)
				}
			})
		})
	}
}

// A cancellation that is faster than the harness's start leaves no result, and nothing to tear down.
func TestA19_CancelledBeforeTheHarnessBegan(t *testing.T) {
	for code, want := range map[int]string{
		143: "**Teardown:** not needed. The run never started.",
		137: "**Teardown:** not confirmed.", // killed in its teardown
	} {
		inBubble(t, func(t *testing.T, w *world) {
			w.harness = 10 * time.Millisecond
			w.script = func(ccci.Job) (ccci.Build, any) {
				return ccci.Build{Ending: ccci.EndCancelled, ExitCode: code}, nil
			}
			_, stop := w.start(w.config())
			defer stop()
			w.write(pr1, ada, "!testme")
			idle(time.Minute)
			said := w.said("run/")
			if len(said) != 1 || !strings.Contains(said[0], want) || !strings.Contains(said[0], "cancelled") {
				t.Errorf("exit code %d: %q", code, said)
			}
		})
	}
}

func TestN5_CancelledRunIsNotTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.script = func(ccci.Job) (ccci.Build, any) { return ccci.Build{Ending: ccci.EndExited, ExitCode: 3}, nil }
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(2 * time.Second)
		w.write(pr1, ada, "!cancel")
		idle(3 * time.Minute)
		if run := w.runs()[0]; run.Status != ccci.StatusCancelled || run.Attempt != 1 {
			t.Errorf("%s in attempt %d: %s", run.Status, run.Attempt, run.Cause)
		}
	})
}

// flaky is an engine that does not answer now and then.
type flaky struct {
	*engine
	mu sync.Mutex
	n  int
}

func (e *flaky) Status(ctx context.Context, ref ccci.BuildRef) (ccci.Build, error) {
	e.mu.Lock()
	e.n++
	lost := e.n%3 == 0
	e.mu.Unlock()
	if lost {
		return ccci.Build{}, errors.New("connection reset by peer")
	}
	return e.engine.Status(ctx, ref)
}

// An engine that fails now and then during a long run does not make the bridge
// ever slower to look: the verdict is there soon after the end (A10).
func TestA10_TroubleNowAndThenDelaysNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.harness = 4 * time.Minute // each of five stages
		c := w.config()
		c.Engine = &flaky{engine: (*engine)(w)}
		_, stop := w.start(c)
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(20*time.Minute + 20*time.Second)
		if run := w.runs()[0]; run.Status != ccci.StatusPassed {
			t.Errorf("the run is %s soon after its harness ended", run.Status)
		}
	})
}

// homeless is an engine that does not find its own repository for a while, as Drone
// does when the forge is away.
type homeless struct {
	*engine
	until time.Time
}

func (e *homeless) Start(ctx context.Context, job ccci.Job) (ccci.BuildRef, error) {
	if time.Now().Before(e.until) {
		return "", fmt.Errorf("starting a build: %w", ccci.ErrNotFound)
	}
	return e.engine.Start(ctx, job)
}

func TestU14_EngineWithoutItsRepositoryIsAskedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.config()
		c.Engine = &homeless{engine: (*engine)(w), until: time.Now().Add(5 * time.Minute)}
		_, stop := w.start(c)
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(10 * time.Minute)
		if run := w.runs()[0]; run.Status != ccci.StatusPassed {
			t.Errorf("the run is %s: %s", run.Status, run.Cause)
		}
	})
}
