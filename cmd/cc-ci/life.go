package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/recipe-maintainers/cc-ci/harness"
)

// life is a context that ends on a signal, and remembers which.
type life struct {
	signal atomic.Int32
	cancel context.CancelCauseFunc
	stop   func()
}

// begin returns a context that ends with a cause on SIGINT, SIGTERM and SIGHUP.
// Later signals are answered and do not cut the teardown short.
func begin(parent context.Context, stderr io.Writer, orphaned func() bool) (context.Context, *life) {
	ctx, cancel := context.WithCancelCause(parent)
	l := &life{cancel: cancel}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	// A channel that nothing reads: the kernel does not end the process at a write to a
	// pipe without a reader, the write fails, and programs that are started keep
	// their default.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	l.stop = func() { signal.Stop(signals); close(done); cancel(nil) }
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if !l.signal.CompareAndSwap(0, int32(s.(syscall.Signal))) {
					fmt.Fprintln(stderr, "cc-ci: still cleaning up; this cannot be hurried without leaving things behind")
					continue
				}
				cause := harness.ErrCancelled
				if orphaned() {
					cause = harness.ErrOrphaned
				}
				cancel(cause)
			}
		}
	}()
	return ctx, l
}

// begin is begin for a command that a person reads: when the reader of its output is gone
// (cc-ci run DIR | head), or a write to it fails, the command ends as on a signal.
func (a *app) begin() (context.Context, *life) {
	ctx, l := begin(a.ctx, a.stderr, neverOrphaned)
	unread := func() {
		if l.signal.CompareAndSwap(0, int32(syscall.SIGPIPE)) {
			l.cancel(harness.ErrCancelled)
		}
	}
	a.stdout, a.stderr = surviving(a.stdout, unread), surviving(a.stderr, unread)
	return ctx, l
}

// beginServer is begin for a command that goes on whoever reads its output.
func (a *app) beginServer(orphaned func() bool) (context.Context, *life) {
	ctx, l := begin(a.ctx, a.stderr, orphaned)
	a.stdout, a.stderr = surviving(a.stdout, func() {}), surviving(a.stderr, func() {})
	return ctx, l
}

// exit is the code for an end by signal, or nil.
func (l *life) exit() error {
	switch syscall.Signal(l.signal.Load()) {
	case 0:
		return nil
	case syscall.SIGINT:
		return codeError(exitInterrupt)
	case syscall.SIGPIPE:
		return codeError(exitUnread)
	}
	return codeError(exitTerminate)
}

func neverOrphaned() bool { return false }

// dieWith asks the kernel for SIGTERM when the parent process dies, and returns
// a function that tells whether it has. The parent may have died before the
// kernel was asked, so that is looked at too (U12).
func dieWith(parent int) (orphaned func() bool, err error) {
	if parent == 0 {
		return neverOrphaned, nil
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return nil, fmt.Errorf("asking the kernel for a signal at the parent's death: %w", err)
	}
	orphaned = func() bool { return os.Getppid() != parent }
	if orphaned() {
		return orphaned, errors.New("the process that started this run is gone already")
	}
	return orphaned, nil
}

// surviving returns w as a writer that never fails: a run must tear down, and keep
// its own log, when whoever read its output is gone (a runner of Drone's that was
// killed). broken is called at the first write that fails.
func surviving(w io.Writer, broken func()) io.Writer {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // as in begin
	return &survivor{w: w, broken: broken}
}

type survivor struct {
	w      io.Writer
	once   sync.Once
	broken func()
}

func (s *survivor) Write(p []byte) (int, error) {
	if _, err := s.w.Write(p); err != nil {
		s.once.Do(s.broken)
	}
	return len(p), nil
}
