package dashboard

import (
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// forecastRow is an unfinished run and what is expected of it.
type forecastRow struct {
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
func (r forecastRow) Overdue(now time.Time) bool { return r.Late && !r.Start.After(now) }

// slot is one of the places in which runs are at work, played forward.
type slot struct {
	free    time.Time
	late    bool   // its run is late: free is the earliest time
	unknown string // recipe of a run in it of which nothing is known: free means nothing
}

// forecast orders unfinished runs, running ones first, then queued ones in
// the order in which engines take them, and plays the queue forward: each queued run starts on the
// slot that is free first. typical returns how long a run of a recipe takes, or 0.
func forecast(unfinished []ccci.Run, capacity int, typical func(recipe string) time.Duration, now time.Time) []forecastRow {
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
	rows := make([]forecastRow, 0, len(runs))
	for _, run := range runs {
		row := forecastRow{Run: run, Takes: typical(run.Recipe)}
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
func (r *forecastRow) work(now time.Time) {
	if r.Takes <= 0 {
		return
	}
	r.End = r.Run.Started.Add(r.Takes)
	if r.End.Before(now) {
		r.Late, r.End = true, now
	}
}

// wait expects start and end of a run that takes the place next.
func (r *forecastRow) wait(place slot) {
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
func (s *slot) take(r forecastRow) {
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

func queuedAhead(rows []forecastRow) int {
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

// median returns the middle of durations, the upper one of two; 0 of none.
func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// spans returns how long finished whole runs were at work.
func spans(runs []ccci.Run) []time.Duration {
	var all []time.Duration
	for _, r := range runs {
		if r.Status.Terminal() && r.Status != ccci.StatusCancelled && r.Options.Whole() && r.Finished.After(r.Started) && !r.Started.IsZero() {
			all = append(all, r.Finished.Sub(r.Started))
		}
	}
	return all
}
