package bridge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// forecast says where every waiting run stands, and when it is expected to
// start if each run takes what is typical for its recipe. typical returns 0
// when nothing is known, and then no start is given for any.
func forecast(now time.Time, unfinished []ccci.Run, capacity int, typical func(recipe string) time.Duration) map[ccci.RunID]*report.Queue {
	var running, waiting []ccci.Run
	for _, run := range unfinished {
		if run.Status == ccci.StatusRunning {
			running = append(running, run)
		} else {
			waiting = append(waiting, run)
		}
	}
	slices.SortFunc(running, ccci.QueueOrder)
	slices.SortFunc(waiting, ccci.QueueOrder)

	known := true
	took := func(recipe string) time.Duration {
		d := typical(recipe)
		known = known && d > 0
		return d
	}
	var free []time.Time // when each slot is free
	var ahead []string
	for _, run := range running {
		end := run.Started.Add(took(run.Recipe))
		if end.Before(now) {
			end = now // overdue: any moment
		}
		free = append(free, end)
		ahead = append(ahead, wishOf(run)+" (running)")
	}
	for len(free) < capacity {
		free = append(free, now)
	}
	out := map[ccci.RunID]*report.Queue{}
	for i, run := range waiting {
		slices.SortFunc(free, time.Time.Compare)
		start := free[0]
		out[run.ID] = &report.Queue{Position: i + 1, Ahead: slices.Clone(ahead)}
		free[0] = start.Add(took(run.Recipe))
		if known || (i == 0 && len(running) < capacity) {
			out[run.ID].Start = start
		}
		ahead = append(ahead, wishOf(run)+" (queued)")
	}
	return out
}

// wishOf names a run for those who wait behind it.
func wishOf(run ccci.Run) string {
	if run.Trigger == ccci.TriggerSweep {
		return "the sweep of " + run.Recipe
	}
	return run.PR.String()
}

// unfinishedForecast reads the store and forecasts for everything unfinished.
func (b *Bridge) unfinishedForecast(ctx context.Context) ([]ccci.Run, map[ccci.RunID]*report.Queue, error) {
	runs, err := b.allRuns(ctx, ccci.RunFilter{Unfinished: true})
	if err != nil {
		return nil, nil, err
	}
	var failed error
	known := map[string]time.Duration{}
	typical := func(recipe string) time.Duration {
		d, ok := known[recipe]
		if !ok {
			if d, err = b.typical(ctx, recipe); err != nil {
				failed = err
			}
			known[recipe] = d
		}
		return d
	}
	slots := forecast(b.cfg.Now(), runs, b.cfg.Capacity, typical)
	return runs, slots, failed
}

// typical is the median duration of a recipe's last whole runs, or of
// everybody's when it has none; 0 when there is no history at all.
func (b *Bridge) typical(ctx context.Context, recipe string) (time.Duration, error) {
	for _, name := range []string{recipe, ""} {
		runs, err := b.cfg.Store.FindRuns(ctx, ccci.RunFilter{Recipe: name, Statuses: []ccci.Status{ccci.StatusPassed, ccci.StatusFailed}, Limit: 20})
		if err != nil {
			return 0, fmt.Errorf("reading past durations of %s: %w", recipe, err)
		}
		var took []time.Duration
		for _, r := range runs {
			if d := r.Finished.Sub(r.Started); r.Options.Whole() && !r.Started.IsZero() && d > 0 {
				took = append(took, d)
			}
		}
		if len(took) > 0 {
			slices.SortFunc(took, cmp.Compare)
			return took[len(took)/2], nil
		}
	}
	return 0, nil
}

// queueOf is where a waiting run stands; nil when it does not wait, or nothing
// is before it and a slot is free.
func (b *Bridge) queueOf(ctx context.Context, run ccci.Run) (*report.Queue, error) {
	if run.Status != ccci.StatusQueued {
		return nil, nil
	}
	runs, slots, err := b.unfinishedForecast(ctx)
	if err != nil {
		return nil, err
	}
	running := 0
	for _, r := range runs {
		if r.Status == ccci.StatusRunning {
			running++
		}
	}
	q := slots[run.ID]
	if q == nil || q.Position+running <= b.cfg.Capacity {
		return nil, nil
	}
	return q, nil
}

// shownPositions is how near the front a waiting run's comment follows the
// queue live. Behind that it stays as it was, so that a long queue does not spend the
// forge's limits on moving numbers; !status and the dashboard are always exact.
const shownPositions = 3

// moveUp says anew where the first waiting runs stand, after the queue moved.
// The bridges of all forges share the engine and so the queue.
func (b *Bridge) moveUp(ctx context.Context) {
	b.moveOwn(ctx)
	for _, other := range b.siblings {
		other.moveOwn(ctx)
	}
}

func (b *Bridge) moveOwn(ctx context.Context) {
	_, slots, err := b.unfinishedForecast(ctx)
	if err != nil {
		if ctx.Err() == nil {
			b.log.Warn("telling the queue that it moved", "error", err)
		}
		return
	}
	for id, slot := range slots {
		b.mu.Lock()
		t := b.runs[id]
		if b.spawn == nil { // it does not work now
			t = nil
		}
		b.mu.Unlock()
		if t == nil || slot.Position > shownPositions {
			continue
		}
		t.mu.Lock()
		stale := t.position > slot.Position
		t.mu.Unlock()
		if stale {
			if err := b.say(ctx, t); err != nil && ctx.Err() == nil {
				b.log.Warn("telling a run that it moved up", "run", id, "error", err)
			}
		}
	}
}
