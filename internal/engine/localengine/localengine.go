// Package localengine runs harness processes on this machine: the embedded
// profile's [ccci.Engine].
//
// Its queue is a directory, so that nothing is forgotten by a crash:
//
//	DIR/lock              held by the one engine that works here
//	DIR/<run id>/job.json     what the harness is told
//	DIR/<run id>/state.json   where the build is; replaced in one step, never rewritten
//	DIR/<run id>/log          what the harness printed, all attempts
//
// The harness writes into the log file itself. It therefore outlives its engine
// for as long as its teardown needs, without losing a line. Linux only: the
// package uses inotify, process file descriptors and the parent-death signal.
package localengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/process"
)

// Defaults of [Options].
const (
	DefaultCapacity = 1                // A15
	DefaultDeadline = 60 * time.Minute // A16
	DefaultGrace    = 5 * time.Minute
)

// maxLosses is how often a build may be lost before it is given up: it is
// restarted once.
const maxLosses = 2

// Options of [New].
type Options struct {
	Dir      string // made when absent
	Capacity int    // harnesses at a time; 0 stands for DefaultCapacity

	// Command says how to start a harness. dir is the build's directory, which
	// holds job.json; env is added to the environment of [Environ].
	Command func(job ccci.Job, dir string) (path string, args, env []string)

	// Deadline is the limit of jobs that state none; 0 stands for DefaultDeadline.
	Deadline time.Duration
	// Grace is how long a harness may take to tear down after SIGTERM, before
	// its process group gets SIGKILL; 0 stands for DefaultGrace.
	Grace time.Duration
	// Hold, when set, says in one sentence why no build may start now, or "". It is asked
	// before each start, and again every ten seconds while builds wait.
	Hold func() string
	// Changed, when set, is called after each change of a build's state, one
	// call at a time for one build. It must not block for long.
	Changed func(ccci.Build)

	Logger *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
}

// Engine implements [ccci.Engine].
type Engine struct {
	opts   Options
	lock   *flock.Flock
	notify *notifier
	wake   chan struct{} // capacity 1: the queue or the free slots changed

	mu      sync.Mutex
	closed  bool
	running bool        // Run is at work
	held    string      // why builds wait though a slot is free
	again   *time.Timer // looks again while builds are held
	builds  map[ccci.BuildRef]*build
	queue   []*build // waiting, in the order in which they were asked for
	orphans []*build // recorded as running by an engine that died
	lastSeq int64
}

var _ ccci.Engine = (*Engine)(nil)

// build is a build in memory; its fields are guarded by Engine.mu.
type build struct {
	dir   string
	job   ccci.Job
	state state
	done  chan struct{}            // closed when the state is done
	stop  func(ending ccci.Ending) // asks the running harness to end; nil when none runs
}

// state is what state.json holds.
type state struct {
	ccci.Build
	Sequence  int64           `json:"sequence"`         // order of arrival
	Losses    int             `json:"losses"`           // how often an engine died under it
	Cancelled bool            `json:"cancelled"`        // somebody asked for the end
	Process   process.Process `json:"process,omitzero"` // the harness, while running
}

// New opens the queue in Options.Dir, reads what an earlier engine left there,
// and returns an engine that accepts jobs; [Engine.Run] works on them. A directory
// that another engine holds is refused with CodeConflict.
func New(opts Options) (*Engine, error) {
	if opts.Capacity < 0 || opts.Command == nil || opts.Dir == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "starting the local engine: it needs a directory, a command and a capacity of 1 or more")
	}
	if opts.Capacity == 0 {
		opts.Capacity = DefaultCapacity
	}
	if opts.Deadline <= 0 {
		opts.Deadline = DefaultDeadline
	}
	if opts.Grace <= 0 {
		opts.Grace = DefaultGrace
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting the local engine in %s: %w", opts.Dir, err)
	}
	opts.Dir = dir
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "making the engine's directory %s: %w", dir, err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if ok, err := lock.TryLock(); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "locking the engine's directory %s: %w", dir, err)
	} else if !ok {
		return nil, ccci.Errorf(ccci.CodeConflict, "another engine works in %s", dir).
			WithHint("stop the other cc-ci, or give this one another data directory")
	}
	e := &Engine{opts: opts, lock: lock, wake: make(chan struct{}, 1), builds: map[ccci.BuildRef]*build{}}
	if err := e.load(); err != nil {
		lock.Unlock()
		return nil, err
	}
	if e.notify, err = newNotifier(); err != nil {
		lock.Unlock()
		return nil, fmt.Errorf("starting the local engine in %s: %w", dir, err)
	}
	return e, nil
}

// Close gives the directory free. Call it after Run has returned. Open log
// readers end with [os.ErrClosed].
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running {
		return errors.New("closing the local engine: it is still running")
	}
	if e.closed {
		return nil
	}
	e.closed = true
	return errors.Join(e.notify.close(), e.lock.Unlock())
}

var validID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$`)

// Start implements [ccci.Engine]. The build's name is the job's run id, with the
// attempt behind it when that is not the first.
func (e *Engine) Start(ctx context.Context, job ccci.Job) (ccci.BuildRef, error) {
	if !validID.MatchString(string(job.RunID)) || job.RunID == "lock" {
		return "", ccci.Errorf(ccci.CodeInvalid, "starting a build: %q is not a run id", job.RunID)
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("starting a build of %s: %w", job.RunID, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	job.Attempt = max(job.Attempt, 1)
	ref := ccci.BuildRef(job.RunID)
	if job.Attempt > 1 {
		ref += ccci.BuildRef(fmt.Sprintf(".%d", job.Attempt))
	}
	if _, ok := e.builds[ref]; ok {
		return ref, nil
	}
	if e.closed {
		return "", fmt.Errorf("starting a build of %s: %w", job.RunID, os.ErrClosed)
	}
	b := &build{
		dir:  filepath.Join(e.opts.Dir, string(ref)),
		job:  job,
		done: make(chan struct{}),
		state: state{
			Build:    ccci.Build{Ref: ref, RunID: job.RunID, State: ccci.BuildQueued, Attempt: job.Attempt, Created: e.opts.Now().UTC()},
			Sequence: e.lastSeq + 1,
		},
	}
	if err := b.create(); err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "queueing the build of %s: %w", job.RunID, err)
	}
	e.lastSeq++
	e.builds[ref] = b
	e.enqueue(b)
	e.changed(b)
	e.poke()
	return ref, nil
}

// Status implements [ccci.Engine].
func (e *Engine) Status(_ context.Context, ref ccci.BuildRef) (ccci.Build, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b, ok := e.builds[ref]
	if !ok {
		return ccci.Build{}, unknown(ref)
	}
	return b.state.Build, nil
}

// Cancel implements [ccci.Engine].
func (e *Engine) Cancel(_ context.Context, ref ccci.BuildRef) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	b, ok := e.builds[ref]
	if !ok || b.state.State == ccci.BuildDone || b.state.Cancelled {
		return nil
	}
	next := b.state
	next.Cancelled = true
	if next.State == ccci.BuildQueued {
		next.finish(ccci.EndCancelled, 0, e.opts.Now())
	}
	if err := b.save(next); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "cancelling the build %s: %w", ref, err)
	}
	if next.State == ccci.BuildDone {
		e.queue = slices.DeleteFunc(e.queue, func(q *build) bool { return q == b })
		e.changed(b)
	} else if b.stop != nil {
		b.stop(ccci.EndCancelled)
	}
	return nil
}

// Logs implements [ccci.Engine].
func (e *Engine) Logs(ctx context.Context, ref ccci.BuildRef, offset int64) (io.ReadCloser, error) {
	if offset < 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "reading the log of %s: the offset %d is negative", ref, offset)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	b, ok := e.builds[ref]
	if !ok {
		return nil, unknown(ref)
	}
	return e.notify.openLog(ctx, b.dir, offset, b.done)
}

// Builds returns the unfinished builds: first the running ones, then the queue
// in its order.
func (e *Engine) Builds() []ccci.Build {
	e.mu.Lock()
	defer e.mu.Unlock()
	var unfinished []*build
	for _, b := range e.builds {
		if b.state.State != ccci.BuildDone {
			unfinished = append(unfinished, b)
		}
	}
	slices.SortFunc(unfinished, func(a, b *build) int {
		if r := rank(a.state.State) - rank(b.state.State); r != 0 {
			return r
		}
		return int(a.state.Sequence - b.state.Sequence)
	})
	out := make([]ccci.Build, len(unfinished))
	for i, b := range unfinished {
		out[i] = b.state.Build
	}
	return out
}

func rank(s ccci.BuildState) int {
	if s == ccci.BuildRunning {
		return 0
	}
	return 1
}

// Prune forgets builds that were finished before a moment, with their logs, and
// returns how many. A pruned run id that is started again would run again.
func (e *Engine) Prune(before time.Time) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for ref, b := range e.builds {
		if b.state.State != ccci.BuildDone || !b.state.Finished.Before(before) {
			continue
		}
		if err := os.RemoveAll(b.dir); err != nil {
			return n, ccci.Errorf(ccci.CodeInfra, "removing the old build %s: %w", ref, err)
		}
		delete(e.builds, ref)
		n++
	}
	return n, nil
}

// changed announces b's state; e.mu is held. Closing done also wakes log readers.
func (e *Engine) changed(b *build) {
	if b.state.State == ccci.BuildDone {
		close(b.done)
	}
	if e.opts.Changed != nil {
		e.opts.Changed(b.state.Build)
	}
}

// poke makes Run look at the queue again.
func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func unknown(ref ccci.BuildRef) error {
	return &ccci.Error{Code: ccci.CodeNotFound, Message: fmt.Sprintf("there is no build %s", ref), Err: ccci.ErrNotFound}
}
