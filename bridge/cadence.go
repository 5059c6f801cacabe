package bridge

import (
	"math"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// hotFor is how long a repository stays hot after its last new comment.
const hotFor = 10 * time.Minute

// cadence says which repository is looked at next. Each has a slot within
// every period of normal, and the slots are spread evenly, so that however
// many repositories there are, the forge sees a steady trickle and none is
// looked at more seldom than that (A4). Where something happens there are looks in between.
type cadence struct {
	start  time.Time     // slots are counted from here
	normal time.Duration // between two looks at a quiet repository
	hot    time.Duration // between two looks at one where something happens
}

// watched is a repository as the schedule sees it. The patrol alone touches it.
type watched struct {
	repo  Repo
	since time.Time     // when it was first watched
	phase time.Duration // of its slots
	slot  time.Time     // the next one: the latest moment for the next look
	ended time.Time     // the end of the last look; zero: there was none

	busy     bool      // a look is under way
	hinted   bool      // somebody said that there is something to see
	open     bool      // it has an unfinished run
	hotUntil time.Time // from its last new comment
	newest   time.Time // when that was written, by the forge's clock

	once     bool // it is watched for one look only
	found    bool // by discovery, not by configuration
	failures int  // looks in a row that failed
	missing  bool // the forge does not know it, or does not show it to us
}

func (w *watched) hot(now time.Time) bool {
	return !w.missing && w.failures == 0 && !w.ended.IsZero() && (w.open || now.Before(w.hotUntil))
}

// phase places the n-th repository within the period. Multiples of the golden
// ratio lie evenly for every number of repositories, also when one is
// added later. shift from 0 to 1 moves all of them.
func (c cadence) phase(n int, shift float64) time.Duration {
	_, part := math.Modf(float64(n)*(math.Phi-1) + shift)
	return time.Duration(part * float64(c.normal))
}

// slotAfter returns the first slot of a phase after t.
func (c cadence) slotAfter(phase time.Duration, t time.Time) time.Time {
	first := c.start.Add(phase)
	if t.Before(first) {
		return first
	}
	return first.Add((t.Sub(first)/c.normal + 1) * c.normal)
}

// The order in which repositories that are due take their turn.
const (
	byHint = iota
	bySlot
	byHeat // first to wait when there is more to do than can be done
)

// when returns from when on a repository is due, and why.
func (c cadence) when(w *watched, now time.Time) (time.Time, int) {
	if w.hinted {
		return w.ended, byHint
	}
	if at := w.ended.Add(c.hot); w.hot(now) && at.Before(w.slot) {
		return at, byHeat
	}
	return w.slot, bySlot
}

// next returns the repository that is to be looked at now; or nil, and for how
// long none is. It changes nothing.
func (c cadence) next(now time.Time, all []*watched) (*watched, time.Duration) {
	var best *watched
	var bestAt time.Time
	bestWhy, wait := 0, c.normal
	for _, w := range all {
		if w.busy {
			continue
		}
		at, why := c.when(w, now)
		if at.After(now) {
			wait = min(wait, at.Sub(now))
			continue
		}
		if best == nil || why < bestWhy || (why == bestWhy && at.Before(bestAt)) {
			best, bestAt, bestWhy = w, at, why
		}
	}
	if best != nil {
		wait = 0
	}
	return best, wait
}

// saw notes the comments of a look.
func (w *watched) saw(newest, now time.Time) {
	if newest.After(w.newest) {
		w.newest = newest
		if newest.After(now) { // the forge's clock is not ours
			newest = now
		}
		w.hotUntil = newest.Add(hotFor)
	}
}

// notEnrolled is a repository that is looked at and starts nothing.
func notEnrolled(ref ccci.RepoRef) Repo { return Repo{Ref: ref} }
