package dashboard

import (
	"context"
	"net/http"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// healthFor is how long the store's answer holds for /healthz.
	healthFor = time.Second
	// healthLimit is how long the store may take to answer.
	healthLimit = 3 * time.Second
)

// storeHealth asks the store whether it answers: once at a time, and at most once in healthFor. /healthz
// has no places, so that readers who take all of them do not make the server unwell.
type storeHealth struct {
	ask func(context.Context) error
	now func() time.Time

	turn chan struct{} // its holder uses what follows
	at   time.Time     // of the last answer
	err  error
}

func newStoreHealth(ask func(context.Context) error, now func() time.Time) *storeHealth {
	return &storeHealth{ask: ask, now: now, turn: make(chan struct{}, 1)}
}

// check returns the last answer, or a new one where that is older than healthFor.
func (h *storeHealth) check(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if since := h.now().Sub(h.at); since >= 0 && since < healthFor {
		return h.err
	}
	// The answer is for others too: it does not end with who asked first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthLimit)
	defer cancel()
	h.err = h.ask(ctx)
	h.at = h.now()
	return h.err
}

// healthz says whether the store answers.
func (d *Dashboard) healthz(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := d.health.check(r.Context()); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"unavailable","problem":"the store does not answer"}` + "\n"))
		return nil
	}
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
	return nil
}

func (d *Dashboard) askStore(ctx context.Context) error {
	_, err := d.cfg.Store.FindRuns(ctx, ccci.RunFilter{Limit: 1})
	if err != nil {
		d.log.Error("asking the store for its health", "error", err)
	}
	return err
}
