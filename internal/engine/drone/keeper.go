package drone

import (
	"context"
	"fmt"
	"time"

	"github.com/drone/drone-go/drone"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Run looks after the unfinished builds until ctx ends: it cancels what outlives
// its deadline (A16), what was lost, so that its slot on the server becomes free,
// and a run's second build. It returns ctx's error.
func (e *Engine) Run(ctx context.Context) error {
	tick := time.NewTicker(e.opts.Poll)
	defer tick.Stop()
	failing := false
	for {
		err := e.sweep(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				e.log.Warn("Drone's builds cannot be looked after", "err", err)
			} else {
				e.log.Info("Drone's builds are looked after again")
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (e *Engine) sweep(ctx context.Context) error {
	builds, err := e.unfinished(ctx)
	if err != nil {
		return err
	}
	type attempt struct {
		run    ccci.RunID
		number int
	}
	first := map[attempt]int64{}
	for _, b := range builds {
		run := ccci.RunID(b.Params[runParam])
		this := attempt{run, attemptOf(b.Params)}
		if number, twice := first[this]; twice {
			e.log.Warn("a run has two builds; the later one is cancelled", "run", run, "first", number, "later", b.Number)
			if err := e.kill(ctx, b.Number); err != nil {
				return err
			}
			continue
		}
		first[this] = b.Number
		if err := e.keep(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// keep ends one build if it must end.
func (e *Engine) keep(ctx context.Context, b *drone.Build) error {
	judged, err := e.judge(ctx, b)
	if err != nil {
		return err
	}
	switch {
	case judged.State == ccci.BuildRunning && e.now().Sub(judged.Started) >= e.deadline(b):
		e.log.Warn("a build is over its deadline and is ended", "build", b.Number, "run", judged.RunID)
		return e.end(ctx, b, ccci.EndDeadline)
	// Not at once: whoever follows the run first learns that it is lost.
	case judged.State == ccci.BuildDone && e.now().Sub(judged.Finished) >= 2*e.opts.LostAfter:
		e.log.Warn("a build is lost: Drone calls it running, and it has no harness", "build", b.Number, "run", judged.RunID)
		return e.end(ctx, b, ccci.EndLost)
	}
	return nil
}

// outlived looks at a build that is over in Drone and not settled: it is when its
// harness is gone. A harness that has not heard of the end is told on its machine:
// the runner waits for Drone's word, which a restart of Drone forgets. One whose
// teardown takes longer than the grace is killed.
func (e *Engine) outlived(ctx context.Context, b *drone.Build) error {
	judged, err := e.judge(ctx, b)
	if err != nil || judged.State == ccci.BuildDone || e.opts.End == nil {
		return err
	}
	over := e.now().Sub(moment(b.Finished))
	e.mu.Lock()
	t := e.trackOf(b.Number, judged.RunID)
	kill := over >= e.opts.Grace && !t.killed
	tell := over >= unheard && !t.told
	t.killed, t.told = t.killed || kill, t.told || tell
	e.mu.Unlock()
	switch {
	case kill:
		e.log.Warn("killed: the limit for the teardown is over", "build", b.Number, "run", judged.RunID, "limit", e.opts.Grace)
	case tell:
		e.log.Info("the harness of a cancelled build still works; its machine is told", "build", b.Number, "run", judged.RunID)
	default:
		return nil
	}
	return e.opts.End(ctx, judged.RunID, kill)
}

// unheard is how long Drone's word may take to the harness.
const unheard = 10 * time.Second

// end cancels a build and remembers why.
func (e *Engine) end(ctx context.Context, b *drone.Build, why ccci.Ending) error {
	e.mu.Lock()
	t := e.trackOf(b.Number, ccci.RunID(b.Params[runParam]))
	if t.asked == "" {
		t.asked = why
	}
	e.mu.Unlock()
	if err := e.kill(ctx, b.Number); err != nil {
		return fmt.Errorf("ending build %d (%s): %w", b.Number, why, err)
	}
	return nil
}
