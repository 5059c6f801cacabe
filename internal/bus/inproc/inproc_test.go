package inproc

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBus(t *testing.T) {
	bustest.RunBus(t, bustest.BusOptions{Open: func(*testing.T) ccci.Bus { return new(Bus) }})
}

func TestLocker(t *testing.T) {
	bustest.RunLocker(t, bustest.LockerOptions{
		Open: func(*testing.T) ccci.Locker { return new(Locker) },
		Lose: func(t *testing.T, l ccci.Locker, key string) {
			if !l.(*Locker).Revoke(key) {
				t.Error("nobody held it")
			}
		},
	})
}

func TestSlowSubscriberKeepsTheFirst(t *testing.T) {
	var b Bus
	ch, err := b.Subscribe(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	for range backlog + 10 {
		if err := b.Publish(t.Context(), "t", "x"); err != nil {
			t.Fatal(err)
		}
	}
	if len(ch) != backlog {
		t.Errorf("%d messages wait, want %d", len(ch), backlog)
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Locker
		held, err := l.Acquire(t.Context(), "k", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		for i := range 5 {
			go func() {
				lease, err := l.Acquire(t.Context(), "k", time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				lease.Release()
			}()
			synctest.Wait() // it stands in the queue
		}
		held.Release()
		synctest.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3, 4}) {
			t.Errorf("they were served in the order %v", order)
		}
	})
}

func TestNothingStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Locker
		var b Bus
		ctx, cancel := context.WithCancel(t.Context())
		held, err := l.Acquire(ctx, "k", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		go l.Acquire(ctx, "k", time.Minute)
		if _, err := b.Subscribe(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		held.Release()
		synctest.Wait()
		if len(l.keys) != 0 || len(b.topics) != 0 {
			t.Errorf("left over: keys %v, topics %v", l.keys, b.topics)
		}
	})
}
