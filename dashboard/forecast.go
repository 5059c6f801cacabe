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
	// Start is when a queued run is expected to start, End when either is
	// expected to end; zero when nothing is known of how long runs take.
	Start, End time.Time
	Late       bool // a running one is past the end that was expected of it
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
	slots := make([]time.Time, max(capacity, 1)) // when each is free; all are now
	for i := range slots {
		slots[i] = now
	}
	known := true
	rows := make([]forecastRow, 0, len(runs))
	for _, run := range runs {
		row := forecastRow{Run: run}
		takes := typical(run.Recipe)
		if run.Status == ccci.StatusRunning {
			if takes > 0 {
				row.End = run.Started.Add(takes)
				if row.End.Before(now) {
					row.Late, row.End = true, now
				}
			}
		} else {
			row.Ahead = queuedAhead(rows)
			row.Position = row.Ahead + 1
			if known {
				row.Start = slots[earliest(slots)]
			}
			if known && takes > 0 {
				row.End = row.Start.Add(takes)
			}
		}
		// Behind a run of unknown length with no other slot free, nothing is known.
		if i := earliest(slots); takes > 0 && known {
			slots[i] = row.End
		} else if len(slots) > 1 {
			slots = slices.Delete(slots, i, i+1)
		} else {
			known = false
		}
		rows = append(rows, row)
	}
	return rows
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

func earliest(slots []time.Time) int {
	at := 0
	for i, t := range slots {
		if t.Before(slots[at]) {
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
