package bridge

import (
	"sync"
	"time"
)

const (
	// troubleAfter is how many failures in a row, of whatever repository or message, mean
	// that it is the forge that fails. Its own refusal of one thing is no failure.
	troubleAfter = 3
	// troubleWait is the longest wait between two tries while it fails.
	troubleWait = 30 * time.Second
)

// trouble notices when a forge fails rather than one repository or message.
// From then on there is one try at a time, at growing distances, until one
// succeeds: an outage of a day costs a few thousand requests and two lines
// in the log. The zero value is ready.
type trouble struct {
	jitter func() float64 // from 0 to 1; nil: none

	mu    sync.Mutex
	fails int // in a row
	tries int // while down
	since time.Time
	next  time.Time // while down: not before this
	last  error
}

// failed notes a failure and reports whether the trouble begins with it.
func (t *trouble) failed(now time.Time, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fails == 0 {
		t.since = now
	}
	t.fails++
	t.last = err
	if t.fails < troubleAfter {
		return false
	}
	if now.Before(t.next) { // it began before the trouble was known
		return false
	}
	wait := min(backoff(t.tries), troubleWait)
	if t.jitter != nil {
		wait -= time.Duration(t.jitter() * 0.2 * float64(wait))
	}
	t.tries++
	t.next = now.Add(wait)
	return t.fails == troubleAfter
}

// passed notes a success and returns how long the trouble lasted that ends with
// it, or false when there was none.
func (t *trouble) passed(now time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lasted, was := now.Sub(t.since), t.fails >= troubleAfter
	t.fails, t.tries, t.next, t.last = 0, 0, time.Time{}, nil
	return lasted, was
}

// wait reports whether there is trouble, and how long nobody should try.
func (t *trouble) wait(now time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.next.Sub(now), 0), t.fails >= troubleAfter
}

// state returns since when there is trouble, and which; false when there is none.
func (t *trouble) state() (time.Time, error, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since, t.last, t.fails >= troubleAfter
}

// early lets the next try come now.
func (t *trouble) early() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = time.Time{}
}
