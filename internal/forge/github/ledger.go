package github

import (
	"context"
	"slices"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Sighting says that a pull request was seen with a head at First and again at
// Last, and with no other one by us in between. Times are GitHub's.
type Sighting struct {
	Head        ccci.Commit
	First, Last time.Time
}

// Ledger remembers the heads that pull requests were seen with. It is a second
// proof, for where GitHub's own record of pushes cannot be read; losing it costs
// a person a second comment, never a wrong answer.
type Ledger interface {
	// Observe notes a head. Observations may come out of order; those older than
	// what is known are dropped.
	Observe(ctx context.Context, pr ccci.PRRef, head ccci.Commit, at time.Time) error
	// Sightings returns what is known, oldest first.
	Sightings(ctx context.Context, pr ccci.PRRef) ([]Sighting, error)
}

const (
	ledgerPulls     = 20_000 // pull requests of a [MemoryLedger]
	ledgerSightings = 32     // of each of them
)

// MemoryLedger is a [Ledger] that ends with the process. What it knew of open pull
// requests comes back with the cursor.
type MemoryLedger struct {
	mu    sync.Mutex
	pulls map[ccci.PRRef][]Sighting
}

// NewMemoryLedger makes an empty one.
func NewMemoryLedger() *MemoryLedger { return &MemoryLedger{pulls: map[ccci.PRRef][]Sighting{}} }

// Observe implements [Ledger].
func (l *MemoryLedger) Observe(_ context.Context, pr ccci.PRRef, head ccci.Commit, at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen, known := l.pulls[pr]
	if !known && len(l.pulls) >= ledgerPulls {
		l.forgetHalf()
	}
	n := len(seen)
	switch {
	case n > 0 && !at.After(seen[n-1].Last):
		return nil
	case n > 0 && seen[n-1].Head == head:
		seen[n-1].Last = at
	default:
		seen = append(seen, Sighting{Head: head, First: at, Last: at})
	}
	l.pulls[pr] = seen[max(0, len(seen)-ledgerSightings):]
	return nil
}

// forgetHalf drops the pull requests that were not seen for longest.
func (l *MemoryLedger) forgetHalf() {
	var times []time.Time
	for _, seen := range l.pulls {
		times = append(times, seen[len(seen)-1].Last)
	}
	slices.SortFunc(times, time.Time.Compare)
	middle := times[len(times)/2]
	for pr, seen := range l.pulls {
		if !seen[len(seen)-1].Last.After(middle) {
			delete(l.pulls, pr)
		}
	}
}

// Sightings implements [Ledger].
func (l *MemoryLedger) Sightings(_ context.Context, pr ccci.PRRef) ([]Sighting, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pulls[pr]), nil
}
