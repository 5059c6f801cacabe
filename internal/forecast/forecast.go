// Package forecast expects when runs that wait start, and when runs end, from how long past runs of
// their recipes took. Pages and terminal have the words for it from here.
package forecast

import (
	"context"
	"fmt"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Row is an unfinished run and what is expected of it.
type Row struct {
	Run      ccci.Run
	Position int // of a queued run, from 1; 0 for a running one
	Ahead    int // queued runs before it
	// Takes is how long runs of its recipe usually take; 0 when no whole run of it ended yet.
	Takes time.Duration
	// Start is when a queued run is expected to start, End when either is
	// expected to end; zero when nothing is known of that.
	Start, End time.Time
	// Late is that a running one is past the end that was expected of it. Behind one that is late
	// a queued run's Start is the earliest time and not the expected one.
	Late bool
	// Unknown is the recipe of the run ahead of which nothing is known, so that Start is not
	// known either.
	Unknown string
}

// Overdue reports that a queued run could have started already, but for a run that is late.
func (r Row) Overdue(now time.Time) bool { return r.Late && !r.Start.After(now) }

// slot is one of the places in which runs are at work, played forward.
type slot struct {
	free    time.Time
	late    bool   // its run is late: free is the earliest time
	unknown string // recipe of a run in it of which nothing is known: free means nothing
}

// Of orders unfinished runs, running ones first, then queued ones in
// the order in which engines take them, and plays the queue forward: each queued run starts on the
// slot that is free first. typical returns how long a run of a recipe takes, or 0.
func Of(unfinished []ccci.Run, capacity int, typical func(recipe string) time.Duration, now time.Time) []Row {
	runs := slices.Clone(unfinished)
	slices.SortStableFunc(runs, func(a, b ccci.Run) int {
		if rank(a) != rank(b) {
			return rank(a) - rank(b)
		}
		return ccci.QueueOrder(a, b)
	})
	slots := make([]slot, max(capacity, 1))
	for i := range slots {
		slots[i].free = now
	}
	rows := make([]Row, 0, len(runs))
	for _, run := range runs {
		row := Row{Run: run, Takes: typical(run.Recipe)}
		place := &slots[earliest(slots)]
		if run.Status == ccci.StatusRunning {
			row.work(now)
		} else {
			row.Ahead = queuedAhead(rows)
			row.Position = row.Ahead + 1
			row.wait(*place)
		}
		place.take(row)
		rows = append(rows, row)
	}
	return rows
}

// work expects the end of a running run.
func (r *Row) work(now time.Time) {
	if r.Takes <= 0 {
		return
	}
	r.End = r.Run.Started.Add(r.Takes)
	if r.End.Before(now) {
		r.Late, r.End = true, now
	}
}

// wait expects start and end of a run that takes the place next.
func (r *Row) wait(place slot) {
	if place.unknown != "" {
		r.Unknown = place.unknown
		return
	}
	r.Start, r.Late = place.free, place.late
	if r.Takes > 0 {
		r.End = r.Start.Add(r.Takes)
	}
}

// take puts a run into the place.
func (s *slot) take(r Row) {
	switch {
	case s.unknown != "":
	case r.End.IsZero():
		s.unknown = r.Run.Recipe
	default:
		s.free, s.late = r.End, r.Late
	}
}

func rank(r ccci.Run) int {
	if r.Status == ccci.StatusRunning {
		return 0
	}
	return 1
}

func queuedAhead(rows []Row) int {
	n := 0
	for _, r := range rows {
		if r.Position > 0 {
			n++
		}
	}
	return n
}

// earliest returns the place that is free first. One of which nothing is known comes last.
func earliest(slots []slot) int {
	at := 0
	for i, s := range slots {
		best := slots[at]
		if s.unknown == "" && (best.unknown != "" || s.free.Before(best.free)) {
			at = i
		}
	}
	return at
}

// Start is when a queued run is expected to start, in words. At is zero where the words stand alone;
// else they follow it.
type Start struct {
	At    time.Time
	Words string
}

// Held are the words for the start of every queued run while none starts.
const Held = "when runs start again"

// Expected says when a queued run is expected to start. held is that no run starts at the moment.
func (r Row) Expected(now time.Time, held bool) Start {
	switch {
	case held:
		return Start{Words: Held}
	case r.Unknown != "":
		return Start{Words: "unknown: how long " + r.Unknown + " takes is not known yet"}
	case r.Overdue(now):
		return Start{Words: "when the overdue run ends"}
	case r.Late:
		return Start{At: r.Start, Words: "at the earliest"}
	case !r.Start.After(now):
		return Start{Words: "now"}
	}
	return Start{At: r.Start}
}

// Runs finds runs, as [ccci.Store] does.
type Runs interface {
	FindRuns(ctx context.Context, filter ccci.RunFilter) ([]ccci.Run, error)
}

const (
	pastRuns    = 50 // that are read of a recipe: some may be partial
	typicalRuns = 10 // whole ones among them that say how long one takes
)

// Read plays the queue forward with what past runs of each recipe took.
func Read(ctx context.Context, runs Runs, unfinished []ccci.Run, capacity int, now time.Time) ([]Row, error) {
	typical := map[string]time.Duration{}
	for _, run := range unfinished {
		if _, ok := typical[run.Recipe]; ok {
			continue
		}
		past, err := runs.FindRuns(ctx, ccci.RunFilter{Recipe: run.Recipe, Limit: pastRuns,
			Statuses: []ccci.Status{ccci.StatusPassed, ccci.StatusFailed}})
		if err != nil {
			return nil, fmt.Errorf("reading past runs of %s: %w", run.Recipe, err)
		}
		took := Spans(past)
		typical[run.Recipe] = Median(took[:min(len(took), typicalRuns)])
	}
	return Of(unfinished, capacity, func(recipe string) time.Duration { return typical[recipe] }, now), nil
}

// Median returns the middle of durations, the upper one of two; 0 of none.
func Median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// Spans returns how long finished whole runs were at work.
func Spans(runs []ccci.Run) []time.Duration {
	var all []time.Duration
	for _, r := range runs {
		if r.Status.Terminal() && r.Status != ccci.StatusCancelled && r.Options.Whole() && r.Finished.After(r.Started) && !r.Started.IsZero() {
			all = append(all, r.Finished.Sub(r.Started))
		}
	}
	return all
}
