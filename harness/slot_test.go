package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/process"
)

func wantPresence(t *testing.T, dir string, run ccci.RunID, want Presence) {
	t.Helper()
	if got, err := LookForRun(dir, run); err != nil || got != want {
		t.Errorf("the process of %s: %v, %v; want %v", run, got, err, want)
	}
}

// A15: a run begins only after the former's process has ended, whatever the
// engine believes.
func TestA15_SlotsAreTakenOneByOne(t *testing.T) {
	dir := t.TempDir()
	wantPresence(t, dir, "one", Absent)
	one, err := LockSlot(t.Context(), dir, "one", 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantPresence(t, dir, "one", Working)
	type taken struct {
		*Slot
		error
	}
	second := make(chan taken, 1)
	go func() {
		s, err := LockSlot(t.Context(), dir, "two", 1, nil, nil)
		second <- taken{s, err}
	}()
	for p := Absent; p != Waiting; {
		if p, err = LookForRun(dir, "two"); err != nil || p == Working {
			t.Fatalf("the second run, beside the first: %v, %v", p, err)
		}
	}
	one.Release()
	two := <-second
	if two.error != nil {
		t.Fatal(two.error)
	}
	wantPresence(t, dir, "one", Absent)
	wantPresence(t, dir, "two", Working)
	two.Release()
	two.Release()
	wantPresence(t, dir, "two", Absent)
}

func TestA15_AsManySlotsAsTheCapacity(t *testing.T) {
	dir := t.TempDir()
	for _, run := range []ccci.RunID{"one", "two"} {
		s, err := LockSlot(t.Context(), dir, run, 2, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release()
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrCancelled)
	if _, err := LockSlot(ctx, dir, "three", 2, nil, nil); !errors.Is(err, ErrCancelled) {
		t.Errorf("a third run that is cancelled: %v, want why", err)
	}
}

func TestA15_AWaitingRunIsCancelled(t *testing.T) {
	dir := t.TempDir()
	one, err := LockSlot(t.Context(), dir, "one", 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Release()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := LockSlot(ctx, dir, "two", 1, nil, nil)
		ended <- err
	}()
	for p := Absent; p != Waiting; {
		p, _ = LookForRun(dir, "two")
	}
	cancel(ErrCancelled)
	if err := <-ended; !errors.Is(err, ErrCancelled) {
		t.Errorf("it ended with %v", err)
	}
	wantPresence(t, dir, "two", Absent)
}

// A second build of the same run waits for the first, and finds it done.
func TestN2_OneProcessPerRun(t *testing.T) {
	dir := t.TempDir()
	one, err := LockSlot(t.Context(), dir, "one", 2, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		s, err := LockSlot(ctx, dir, "one", 2, nil, nil)
		if err == nil {
			s.Release()
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Fatalf("a second process of a living run went on: %v", err)
	default:
	}
	wantPresence(t, dir, "one", Working)
	one.Release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	cancel(nil)
}

// N5: where a cancellation does not reach a harness, its machine can.
func TestN5_AProcessWithASlotIsAskedToEnd(t *testing.T) {
	dir := t.TempDir()
	told := make(chan os.Signal, 2)
	signal.Notify(told, syscall.SIGTERM)
	defer signal.Stop(told)
	if err := EndRun(dir, "one", false); err != nil {
		t.Errorf("where there is none: %v", err)
	}
	one, err := LockSlot(t.Context(), dir, "one", 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := EndRun(dir, "one", false); err != nil {
		t.Fatal(err)
	}
	<-told
	one.Release()
	if err := EndRun(dir, "one", false); err != nil || len(told) > 0 {
		t.Errorf("after its end: %v, and %d signals", err, len(told))
	}
}

// The number in a lock may be another process's by now: the lock is taken before its text is
// written anew, and the process may end before it gets the signal.
func TestN5_AProcessThatGotTheNumberIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	slot, err := LockSlot(t.Context(), dir, "one", 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Release()
	self := process.Of(os.Getpid())
	for name, text := range map[string]string{
		"of an ended process":   fmt.Sprintf("working %%d %d %s", self.Start-1, self.Boot),
		"of another boot":       fmt.Sprintf("working %%d %d other", self.Start),
		"of an earlier version": "working %d",
	} {
		other := exec.Command("cat")
		input, err := other.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		if err := writeOwn(slot.presence.Path(), fmt.Appendf(nil, text, other.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		wantPresence(t, dir, "one", Working)
		for _, kill := range []bool{false, true} {
			if err := EndRun(dir, "one", kill); err != nil {
				t.Errorf("the number %s: %v", name, err)
			}
		}
		input.Close()
		if err := other.Wait(); err != nil {
			t.Errorf("another process has the number %s: %v", name, err)
		}
	}
}

// A37: a harness waits for its slot while the machine is too full, and says why once.
func TestA37_ASlotWaitsWhileTheMachineIsFull(t *testing.T) {
	dir := t.TempDir()
	looks, said := 0, 0
	s, err := LockSlot(t.Context(), dir, "one", 1, func() string {
		if looks++; looks < 3 {
			wantPresence(t, dir, "one", Waiting)
			return "the disk is full"
		}
		return ""
	}, func(why string) {
		if said++; why != "the disk is full" {
			t.Errorf("the reason is %q", why)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	wantPresence(t, dir, "one", Working)
	if looks != 3 || said != 1 {
		t.Errorf("%d looks, %d reasons", looks, said)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrCancelled)
	if _, err := LockSlot(ctx, dir, "two", 1, func() string { return "full" }, func(string) {}); !errors.Is(err, ErrCancelled) {
		t.Errorf("cancelled while it waits: %v", err)
	}
}

// Runs side by side have different parts of the machine; one that ends leaves its part to the next.
func TestN3_PartsOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	lock := func(want int) func() {
		t.Helper()
		part, release, err := LockPart(dir, 2)
		if err != nil || part != want {
			t.Fatalf("part %d, not %d: %v", part, want, err)
		}
		return release
	}
	first := lock(0)
	second := lock(1)
	lock(-1)
	first()
	first()
	defer lock(0)()
	second()
	defer lock(1)()
}
