package bridge_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// choosy is an engine that takes no job for a while.
type choosy struct {
	*engine
	down atomic.Bool
}

func (e *choosy) Start(ctx context.Context, job ccci.Job) (ccci.BuildRef, error) {
	if e.down.Load() {
		return "", errors.New("connection refused")
	}
	return e.engine.Start(ctx, job)
}

// A15: runs reach the engine in the order of their comments, also when the engine was away
// and each run asks again by itself.
func TestA15_QueueOrderIsCommentOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cfg := w.config()
		away := &choosy{engine: (*engine)(w)}
		away.down.Store(true)
		cfg.Engine = away
		_, stop := w.start(cfg)
		defer stop()
		var want []ccci.RunID
		var comments []ccci.Comment
		for i := range 8 {
			pr := ccci.PRRef{Repo: repo, Number: 10 + i}
			w.addPRLocked(pr)
			comments = append(comments, w.write(pr, ada, "!testme"))
			// Two are read at a time; the later ones ask again sooner than the first.
			idle(time.Second)
			if i%2 == 1 {
				idle(29 * time.Second)
			}
		}
		idle(20 * time.Second)
		away.down.Store(false)
		idle(20 * time.Minute)
		for _, c := range comments {
			want = append(want, w.runFor(c).ID)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.order, want) {
			t.Errorf("the order is %q, want %q", w.order, want)
		}
	})
}
