package dashboard

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// N3: a client with many requests has one place at a time; another one comes next, whoever asked before.
func TestN3_OneClientDoesNotTakeAllTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2)
		greedy, other := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("198.51.100.7/32")
		for range 60 {
			go func() {
				if leave, err := turns.take(t.Context(), greedy); err == nil {
					time.Sleep(time.Second)
					leave()
				}
			}()
		}
		synctest.Wait()
		begun := time.Now()
		leave, err := turns.take(t.Context(), other)
		if err != nil || time.Since(begun) > 0 {
			t.Errorf("another client has its turn after %s: %v", time.Since(begun), err)
		}
		leave()
		if _, err := turns.take(t.Context(), greedy); !errors.Is(err, errBusy) || time.Since(begun) != turnLimit {
			t.Errorf("one of too many: %v after %s", err, time.Since(begun))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		leave, err = turns.take(ended, greedy)
		if err == nil { // its place was free at the same moment
			leave()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(turns.clients) != 0 || len(turns.places) != 0 {
			t.Errorf("%d clients and %d places are left", len(turns.clients), len(turns.places))
		}
	})
}
