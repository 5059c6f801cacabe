package dashboard

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// However often /healthz is asked, the store is once at a time and at most once a second, also when it hangs.
func TestN3_HealthCostsTheSameForEveryNumberOfReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, busy := 0, false
		var answer func(context.Context) error
		h := newStoreHealth(func(ctx context.Context) error {
			if busy {
				t.Error("it is asked twice at a time")
			}
			asked, busy = asked+1, true
			defer func() { busy = false }()
			return answer(ctx)
		}, time.Now)
		many := func() (well int, took time.Duration) {
			begun := time.Now()
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					err := h.check(ctx)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						well++
					}
				})
			}
			all.Wait()
			return well, time.Since(begun)
		}
		answer = func(context.Context) error { time.Sleep(100 * time.Millisecond); return nil }
		if well, took := many(); well != 100 || asked != 1 || took != 100*time.Millisecond {
			t.Errorf("%d of 100 are told that it is well, after %s and %d questions", well, took, asked)
		}
		answer = func(ctx context.Context) error { <-ctx.Done(); return errors.New("it hangs") }
		if well, _ := many(); well != 100 || asked != 1 {
			t.Errorf("within a second: %d, %d questions", well, asked)
		}
		time.Sleep(healthFor)
		if well, took := many(); well != 0 || asked != 2 || took != healthLimit {
			t.Errorf("of one that hangs %d say that it is well, after %s and %d questions", well, took, asked)
		}
		answer = func(context.Context) error { return nil }
		time.Sleep(healthFor)
		if well, _ := many(); well != 100 || asked != 3 {
			t.Errorf("when it is back: %d, %d questions", well, asked)
		}
	})
}
