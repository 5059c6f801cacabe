package localengine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/process"
)

// retryAfter is how long the queue rests after its disk refused a write, or while
// [Options.Hold] says so.
const retryAfter = 10 * time.Second

// Run works on the queue until ctx ends. Then it starts nothing more, asks the
// running harnesses to end, waits for their teardown (at most [Options.Grace])
// and puts their builds back into the queue for the next engine. Builds that an
// earlier engine left running are restarted once their process is gone.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.running || e.closed {
		e.mu.Unlock()
		return errors.New("running the local engine: it is running already, or closed")
	}
	e.running = true
	orphans := e.orphans
	e.orphans = nil
	e.mu.Unlock()

	var busy int // guarded by e.mu
	var wg sync.WaitGroup
	begin := func(work func(context.Context, *build), b *build) {
		busy++
		wg.Go(func() {
			work(ctx, b)
			e.mu.Lock()
			busy--
			e.mu.Unlock()
			e.poke()
		})
	}
	e.mu.Lock()
	for _, b := range orphans {
		begin(e.outlive, b)
	}
	e.mu.Unlock()
	for ctx.Err() == nil {
		e.mu.Lock()
		for busy < e.opts.Capacity && len(e.queue) > 0 {
			if e.holds() {
				break
			}
			b := e.queue[0]
			next := b.state
			next.State, next.Started, next.Process = ccci.BuildRunning, e.opts.Now().UTC(), process.Process{}
			if err := b.save(next); err != nil {
				e.opts.Logger.Error("a build cannot be started; the queue rests", "build", b.state.Ref, "err", err, "retry", retryAfter)
				time.AfterFunc(retryAfter, e.poke)
				break
			}
			e.queue = e.queue[1:]
			e.changed(b)
			begin(e.work, b)
		}
		e.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-e.wake:
		}
	}
	wg.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = false
	for _, b := range e.builds { // an orphan that is still tearing down
		if b.state.State == ccci.BuildRunning {
			e.orphans = append(e.orphans, b)
		}
	}
	slices.SortFunc(e.orphans, bySequence)
	return nil
}

// holds reports whether no build may start, and logs each change of the reason. e.mu is held.
func (e *Engine) holds() bool {
	if e.opts.Hold == nil {
		return false
	}
	why := e.opts.Hold()
	switch {
	case why != "" && e.held == "":
		e.opts.Logger.Warn("queued builds wait", "reason", why, "retry", retryAfter)
	case why == "" && e.held != "":
		e.opts.Logger.Info("queued builds start again")
	}
	e.held = why
	if why != "" {
		if e.again == nil {
			e.again = time.AfterFunc(retryAfter, e.poke)
		}
		e.again.Reset(retryAfter)
	}
	return why != ""
}

// work runs one attempt of a build to its end. It keeps its goroutine on one
// thread, because the parent-death signal is sent when the thread that started the
// child ends, not the process.
func (e *Engine) work(ctx context.Context, b *build) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e.mu.Lock()
	was := b.state
	e.mu.Unlock()
	logger := e.opts.Logger.With("build", was.Ref, "attempt", was.Attempt)

	log, err := os.OpenFile(filepath.Join(b.dir, logFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		logger.Error("the log of a build cannot be written", "err", err)
		e.end(b, ccci.EndLost, 0)
		return
	}
	defer log.Close()
	say := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		logger.Info(line)
		fmt.Fprintf(log, "=== cc-ci: %s ===\n", line)
	}
	if was.Attempt > b.job.Attempt {
		why := "cc-ci was stopped"
		if was.Losses > 0 {
			why = "cc-ci died"
		}
		say("attempt %d, because %s during attempt %d", was.Attempt, why, was.Attempt-1)
		if err := b.raise(was.Attempt); err != nil {
			logger.Error("the attempt of a build cannot be written down", "err", err)
			e.end(b, ccci.EndLost, 0)
			return
		}
	}
	path, args, env := e.opts.Command(b.job, b.dir)
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, log, log
	cmd.Env = append(append(Environ(os.Environ()), env...), marker(b.dir))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		say("the harness cannot be started: %v", err)
		e.end(b, ccci.EndLost, 0)
		return
	}

	stop := make(chan ccci.Ending, 1)
	e.mu.Lock()
	next := b.state
	next.Process = process.Of(cmd.Process.Pid)
	if err := b.save(next); err != nil { // found again by its marker, should it come to that
		logger.Error("the process of a build cannot be recorded", "err", err)
	}
	b.stop = func(ending ccci.Ending) {
		select {
		case stop <- ending:
		default:
		}
	}
	if b.state.Cancelled { // between leaving the queue and now
		b.stop(ccci.EndCancelled)
	}
	e.mu.Unlock()

	exited := make(chan struct{})
	cause := make(chan ccci.Ending, 1)
	go func() { cause <- e.supervise(ctx, b.job, cmd.Process.Pid, stop, exited, say) }()
	waitExit(cmd.Process.Pid)
	close(exited)
	ending := <-cause
	// The process is dead but not reaped, so its group's number is still its own.
	unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	cmd.Wait()
	code := exitCode(cmd.ProcessState)
	logger.Info("the harness ended", "code", code, "ending", ending)

	e.mu.Lock()
	b.stop = nil
	e.mu.Unlock()
	switch {
	case ending == stopped && code >= 128: // interrupted, not finished
		e.requeue(b)
	case ending == stopped:
		e.end(b, ccci.EndExited, code)
	default:
		e.end(b, ending, code)
	}
}

// stopped is the cause of an end that the engine's own shutdown brought.
const stopped ccci.Ending = "stopped"

// supervise asks the process to end when somebody wants it to, its time is up or ctx
// ends, and kills its group when the grace is over. It returns what came first,
// once exited is closed.
func (e *Engine) supervise(ctx context.Context, job ccci.Job, pid int, stop <-chan ccci.Ending, exited <-chan struct{}, say func(string, ...any)) ccci.Ending {
	limit := job.Deadline
	if limit <= 0 {
		limit = e.opts.Deadline
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	var ending ccci.Ending
	select {
	case <-exited:
		return ccci.EndExited
	case ending = <-stop:
		say("asked to end: the run was cancelled")
	case <-deadline.C:
		ending = ccci.EndDeadline
		say("asked to end: the limit of %s for the whole run is over", limit)
	case <-ctx.Done():
		ending = stopped
		say("asked to end: cc-ci is stopping; the run will be started again")
	}
	unix.Kill(pid, unix.SIGTERM) // not reaped yet, so the number is its own
	grace := time.NewTimer(e.opts.Grace)
	defer grace.Stop()
	select {
	case <-exited:
		return ending
	case <-grace.C:
		say("killed: the limit of %s for the teardown is over", e.opts.Grace)
		unix.Kill(-pid, unix.SIGKILL)
	}
	<-exited
	return ending
}

// waitExit waits until the child has ended, and leaves it to be reaped.
func waitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// exitCode is the exit code, or 128 and the signal's number as in a shell.
func exitCode(ps *os.ProcessState) int {
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ps.ExitCode()
}

// end moves a running build to done. A cancelled one is that, however it ended.
func (e *Engine) end(b *build, ending ccci.Ending, code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := b.state
	if next.Cancelled {
		ending = ccci.EndCancelled
	}
	next.finish(ending, code, e.opts.Now())
	if err := b.save(next); err != nil {
		// Told as it is; after a restart it counts as lost and runs again.
		e.opts.Logger.Error("the end of a build cannot be recorded", "build", b.state.Ref, "err", err)
		b.state = next
	}
	e.changed(b)
}

// requeue puts a build whose attempt came to nothing back where it was in the
// queue, unless it was cancelled meanwhile.
func (e *Engine) requeue(b *build) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := b.state
	next.State, next.Process, next.Started = ccci.BuildQueued, process.Process{}, time.Time{}
	next.Attempt++
	if next.Cancelled {
		next = b.state
		next.finish(ccci.EndCancelled, 0, e.opts.Now())
	}
	if err := b.save(next); err != nil {
		e.opts.Logger.Error("a build cannot be put back into the queue", "build", b.state.Ref, "err", err)
		b.state = next
	}
	if next.State == ccci.BuildQueued {
		e.enqueue(b)
	}
	e.changed(b)
}

// outlive waits until the process that an engine which died left behind is gone
// (it is tearing down), and then restarts its build or gives it up.
func (e *Engine) outlive(ctx context.Context, b *build) {
	e.mu.Lock()
	was := b.state
	e.mu.Unlock()
	logger := e.opts.Logger.With("build", was.Ref, "attempt", was.Attempt)
	p := was.Process
	if p.PID == 0 { // the engine died between starting it and writing that down
		p = findMarked(b.dir)
	}
	if p.PID != 0 {
		logger.Info("waiting for the process that an earlier cc-ci left", "pid", p.PID)
		if !endProcess(ctx, p, e.opts.Grace) {
			return // ctx ended; the next engine waits on
		}
	}
	e.mu.Lock()
	b.state.Losses++ // saved by whatever follows
	losses := b.state.Losses
	e.mu.Unlock()
	if losses >= maxLosses {
		logger.Error("given up: cc-ci died during each attempt")
		e.end(b, ccci.EndLost, 0)
		return
	}
	logger.Warn("cc-ci died during the build; it starts again")
	e.requeue(b)
}
