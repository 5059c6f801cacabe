package bridge

import (
	"context"
	"log/slog"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Health is how a bridge does.
type Health struct {
	Forge        string         `json:"forge"`
	Working      bool           `json:"working"`          // it holds the lease; otherwise another one works
	Reachable    bool           `json:"reachable"`        // the forge answers, as far as is known
	Since        time.Time      `json:"since,omitzero"`   // when it ceased to
	Error        string         `json:"error,omitempty"`  // of its last try
	Reached      time.Time      `json:"reached,omitzero"` // when it last answered
	Turned       time.Time      `json:"turned,omitzero"`  // when the bridge last had a look round; more than a minute ago means that it hangs
	Repositories int            `json:"repositories"`
	Missing      []ccci.RepoRef `json:"missing,omitempty"` // configured, and not there or not visible
	Waiting      int            `json:"waiting"`           // messages that are not delivered yet
	Oldest       time.Time      `json:"oldest,omitzero"`   // when the oldest of them was written
}

// Health returns how the bridge does. It asks nobody and returns at once.
func (b *Bridge) Health() Health {
	since, err, down := b.reads.state()
	if !down {
		since, err, down = b.writes.state()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.view
	h.Forge, h.Working, h.Reachable = b.name(), b.spawn != nil, !down
	if down {
		h.Since, h.Error = since, err.Error()
	}
	return h
}

func (b *Bridge) noteReached(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.view.Reached = now
}

// measureEvery is how often the outbox is counted.
const measureEvery = 15 * time.Second

// measure counts what waits to be said.
func (b *Bridge) measure(ctx context.Context) {
	now := b.cfg.Now()
	pending, err := b.pending(ctx, now.Add(refusedLimit))
	if err != nil {
		return // flush speaks of it
	}
	var oldest time.Time
	for _, msg := range pending {
		if oldest.IsZero() || msg.Updated.Before(oldest) {
			oldest = msg.Updated
		}
	}
	age := time.Duration(0)
	if !oldest.IsZero() {
		age = max(now.Sub(oldest), 0)
	}
	b.cfg.Observer.Waiting(b.name(), len(pending), age)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.view.Waiting, b.view.Oldest = len(pending), oldest
}

// once is the level at which a failure is logged that repeats itself: loud the first time.
func once(try int) slog.Level {
	if try == 0 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
