// Package bustest holds the conformance suites of [ccci.Bus] and [ccci.Locker].
// Each sentence of the ports' contracts is a sub-test. A new adapter proves itself
// with two tests of a few lines, one that calls [RunBus] and one that calls
// [RunLocker]; see the test of inproc.
package bustest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// BusOptions say what the suite needs to know about an adapter.
type BusOptions struct {
	// Open opens a bus that no other sub-test uses.
	Open func(t *testing.T) ccci.Bus
}

// RunBus runs the suite of [ccci.Bus].
func RunBus(t *testing.T, opts BusOptions) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, ccci.Bus)
	}{
		{"DeliversToAllInOrder", testDelivers},
		{"TopicsAreSeparate", testTopics},
		{"NothingFromBefore", testFromNow},
		{"PublishNeverBlocks", testSlow},
		{"ContextClosesTheChannel", testUnsubscribe},
		{"PublishRacesUnsubscribe", testBusRaces},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, opts.Open(t)) })
	}
}

func subscribe(t *testing.T, b ccci.Bus, ctx context.Context, topic string) <-chan string {
	t.Helper()
	ch, err := b.Subscribe(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func publish(t *testing.T, b ccci.Bus, topic, message string) {
	t.Helper()
	if err := b.Publish(t.Context(), topic, message); err != nil {
		t.Error(err)
	}
}

func wantMessage(t *testing.T, ch <-chan string, want string) {
	t.Helper()
	select {
	case got, open := <-ch:
		if !open || got != want {
			t.Errorf("received %q (open %t), want %q", got, open, want)
		}
	case <-time.After(patience):
		t.Fatalf("%q was not delivered", want)
	}
}

func testDelivers(t *testing.T, b ccci.Bus) {
	one, two := subscribe(t, b, t.Context(), ccci.TopicRuns), subscribe(t, b, t.Context(), ccci.TopicRuns)
	for i := range 5 {
		publish(t, b, ccci.TopicRuns, fmt.Sprint(i))
	}
	for _, ch := range []<-chan string{one, two} {
		for i := range 5 {
			wantMessage(t, ch, fmt.Sprint(i))
		}
	}
}

func testTopics(t *testing.T, b ccci.Bus) {
	runs, forge := subscribe(t, b, t.Context(), ccci.TopicRuns), subscribe(t, b, t.Context(), ccci.TopicForge)
	publish(t, b, ccci.TopicRuns, "a run")
	publish(t, b, ccci.TopicForge, "a comment")
	wantMessage(t, forge, "a comment")
	wantMessage(t, runs, "a run")
}

func testFromNow(t *testing.T, b ccci.Bus) {
	publish(t, b, ccci.TopicRuns, "nobody hears this")
	ch := subscribe(t, b, t.Context(), ccci.TopicRuns)
	publish(t, b, ccci.TopicRuns, "this is heard")
	wantMessage(t, ch, "this is heard")
}

func testSlow(t *testing.T, b ccci.Bus) {
	slow := subscribe(t, b, t.Context(), ccci.TopicRuns)
	fast := subscribe(t, b, t.Context(), ccci.TopicRuns)
	for i := range 2000 { // without a look at slow
		publish(t, b, ccci.TopicRuns, fmt.Sprint(i))
		if i == 0 {
			wantMessage(t, fast, "0")
		}
	}
	wantMessage(t, slow, "0") // it got something, and lost the rest or not
}

func testUnsubscribe(t *testing.T, b ccci.Bus) {
	ctx, cancel := context.WithCancel(t.Context())
	ch := subscribe(t, b, ctx, ccci.TopicRuns)
	stays := subscribe(t, b, t.Context(), ccci.TopicRuns)
	cancel()
	select {
	case message, open := <-ch:
		if open {
			t.Errorf("received %q", message)
		}
	case <-time.After(patience):
		t.Fatal("the channel was not closed")
	}
	publish(t, b, ccci.TopicRuns, "still on")
	wantMessage(t, stays, "still on")
	if ch, err := b.Subscribe(ctx, ccci.TopicRuns); err == nil {
		select {
		case <-ch:
		case <-time.After(patience):
			t.Error("subscribing with a context that has ended gave a channel that stays open")
		}
	}
}

func testBusRaces(t *testing.T, b ccci.Bus) {
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 50 {
				if i%2 == 0 {
					publish(t, b, ccci.TopicRuns, "x")
					continue
				}
				ctx, cancel := context.WithCancel(t.Context())
				ch := subscribe(t, b, ctx, ccci.TopicRuns)
				cancel()
				for range ch {
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
}

// LockerOptions say what the suite needs to know about an adapter.
type LockerOptions struct {
	// Open opens a locker on keys that no other sub-test uses; each call within one
	// test is another process's view where the adapter serves several.
	Open func(t *testing.T) ccci.Locker
	// Lose makes the present holder of a key lose it, as when its machine was cut
	// off. nil: leases of this adapter cannot be lost.
	Lose func(t *testing.T, l ccci.Locker, key string)
}

// RunLocker runs the suite of [ccci.Locker].
func RunLocker(t *testing.T, opts LockerOptions) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, LockerOptions)
	}{
		{"OneHolderAtATime", testExclusive},
		{"ReleaseWakesTheNext", testRelease},
		{"WaitingEndsWithItsContext", testWaitContext},
		{"KeysAreIndependent", testKeys},
		{"FencesGrow", testFences},
		{"LeaseContext", testLeaseContext},
		{"LeaseOutlivesTheContextOfAcquire", testLeaseOutlives},
		{"LostLease", testLost},
		{"NamesAndTimesAreChecked", testLockInput},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, opts) })
	}
}

func acquire(t *testing.T, l ccci.Locker, key string) ccci.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lease, err := l.Acquire(ctx, key, time.Minute)
	if err != nil {
		t.Fatalf("Acquire(%s): %v", key, err)
	}
	return lease
}

func release(t *testing.T, lease ccci.Lease) {
	t.Helper()
	if err := lease.Release(); err != nil {
		t.Error(err)
	}
}

func testExclusive(t *testing.T, o LockerOptions) {
	l := o.Open(t)
	const rivals, rounds = 8, 20
	inside := make(chan struct{}, 1)
	done := make(chan error)
	counter := 0 // the race detector watches it
	for range rivals {
		go func() {
			for range rounds {
				lease, err := l.Acquire(context.Background(), "k", time.Minute)
				if err != nil {
					done <- err
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					err = fmt.Errorf("two holders at the same time")
				}
				counter++
				<-inside
				lease.Release()
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range rivals {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if counter != rivals*rounds {
		t.Errorf("the lease was held %d times, want %d", counter, rivals*rounds)
	}
}

func testRelease(t *testing.T, o LockerOptions) {
	l := o.Open(t)
	first := acquire(t, l, "k")
	next := make(chan ccci.Lease)
	go func() { next <- acquire(t, l, "k") }()
	select {
	case <-next:
		t.Fatal("a held lease was given out")
	case <-time.After(10 * time.Millisecond): // a wrong lease would usually be here by now
	}
	release(t, first)
	second := <-next
	release(t, first) // the second time must not free what somebody else holds
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := l.Acquire(ctx, "k", time.Minute); err == nil {
		t.Error("releasing twice freed the next holder's lease")
	}
	release(t, second)
	release(t, second)
}

func testWaitContext(t *testing.T, o LockerOptions) {
	l := o.Open(t)
	held := acquire(t, l, "k")
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := l.Acquire(ctx, "k", time.Minute)
		gaveUp <- err
	}()
	cancel()
	if err := <-gaveUp; err == nil {
		t.Error("it was acquired while somebody held it")
	}
	if _, err := l.Acquire(ctx, "other", time.Minute); err == nil {
		t.Error("it was acquired with a context that had ended")
	}
	release(t, held)
	release(t, acquire(t, l, "k")) // whoever gave up does not hold it
}

func testKeys(t *testing.T, o LockerOptions) {
	l := o.Open(t)
	a, b := acquire(t, l, "a"), acquire(t, l, "b")
	release(t, a)
	if err := b.Context().Err(); err != nil {
		t.Errorf("releasing a ended b: %v", err)
	}
	release(t, b)
}

func testFences(t *testing.T, o LockerOptions) {
	l := o.Open(t)
	var fences []uint64
	for range 5 {
		lease := acquire(t, l, "k")
		fences = append(fences, lease.Fence())
		release(t, lease)
	}
	if !slices.IsSorted(fences) || len(slices.Compact(slices.Clone(fences))) != 5 {
		t.Errorf("the fences are %v, want each above the one before", fences)
	}
}

func testLeaseContext(t *testing.T, o LockerOptions) {
	lease := acquire(t, o.Open(t), "k")
	if err := lease.Context().Err(); err != nil {
		t.Errorf("while it is held its context says %v", err)
	}
	release(t, lease)
	select {
	case <-lease.Context().Done():
	case <-time.After(patience):
		t.Fatal("the context of a released lease goes on")
	}
	if cause := context.Cause(lease.Context()); cause == ccci.ErrLeaseLost {
		t.Error("a released lease says that it was lost")
	}
}

func testLeaseOutlives(t *testing.T, o LockerOptions) {
	ctx, cancel := context.WithCancel(t.Context())
	lease, err := o.Open(t).Acquire(ctx, "k", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // it bounds the waiting only
	if err := lease.Context().Err(); err != nil {
		t.Errorf("the lease ended with the context of Acquire: %v", err)
	}
	release(t, lease)
}

func testLost(t *testing.T, o LockerOptions) {
	if o.Lose == nil {
		return
	}
	l := o.Open(t)
	lost := acquire(t, l, "k")
	next := make(chan ccci.Lease)
	go func() { next <- acquire(t, l, "k") }()
	o.Lose(t, l, "k")
	select {
	case <-lost.Context().Done():
	case <-time.After(patience):
		t.Fatal("the context of a lost lease goes on")
	}
	if cause := context.Cause(lost.Context()); cause != ccci.ErrLeaseLost {
		t.Errorf("it ended because of %v, want ErrLeaseLost", cause)
	}
	held := <-next
	if held.Fence() <= lost.Fence() {
		t.Errorf("the fence went from %d to %d", lost.Fence(), held.Fence())
	}
	release(t, lost) // legal, and nobody else's loss
	if err := held.Context().Err(); err != nil {
		t.Errorf("the next holder's lease ended: %v", err)
	}
	release(t, held)
}

func testLockInput(t *testing.T, o LockerOptions) {
	l := o.Open(t)
	if _, err := l.Acquire(t.Context(), "", time.Minute); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("no name: %v, want CodeInvalid", err)
	}
	if _, err := l.Acquire(t.Context(), "k", 0); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("no time: %v, want CodeInvalid", err)
	}
}
