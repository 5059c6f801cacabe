package bridge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// statusEvery is how often a build's state is asked for besides following its log.
const statusEvery = 2 * time.Second

// maxMisses is how many questions in a row an engine may leave without an answer
// before the run is followed anew, less and less often.
const maxMisses = 5

// tracked is an unfinished run that this process follows. Its goroutine and
// the ones that cancel it or move it up the queue share it.
type tracked struct {
	repo ccci.RepoRef
	base string // the pull request's target branch; "" when it must be asked for
	kick chan struct{}

	mu       sync.Mutex // held while the run is stored and while it is put into words, so that both keep one order
	run      ccci.Run
	position int          // in the queue, as last said
	over     bool         // its last word is saved
	headRead time.Time    // when the pull request was last asked for its head
	refused  bool         // the engine failed when it was to take the run, or one before it
	review   *ccci.Result // what the commit changes, once the run's process knows it; nothing else of it is set
}

// take follows a run to its end, and starts it where it was not. It is legal
// for a run that is followed already. The engine is asked here and now, so that
// runs reach it in the order in which they were taken; when that fails, the
// follower tries again.
func (b *Bridge) take(ctx context.Context, run ccci.Run, base string) {
	t := &tracked{run: run, repo: run.PR.Repo, base: base, kick: make(chan struct{}, 1)}
	b.mu.Lock()
	if b.spawn == nil || b.runs[run.ID] != nil || run.Status.Terminal() {
		b.mu.Unlock()
		return
	}
	b.runs[run.ID] = t
	spawn := b.spawn
	b.mu.Unlock()

	if err := b.start(ctx, t); err != nil && ctx.Err() == nil {
		b.log.Warn("starting a run", "run", run.ID, "error", err)
	}
	spawn(func() { b.follow(ctx, t) })
}

// follow pursues a run until its verdict is saved or ctx ends (A11).
func (b *Bridge) follow(ctx context.Context, t *tracked) {
	id := t.snapshot().ID
	for try := 0; ; try++ {
		began := b.cfg.Now()
		err := b.pursue(ctx, t)
		if err == nil {
			b.mu.Lock()
			delete(b.runs, id)
			b.mu.Unlock()
			b.moveUp(ctx)
			return
		}
		if ctx.Err() != nil {
			return // whoever works next resumes it
		}
		if b.cfg.Now().Sub(began) > backoff(try) {
			try = 0 // it went well for a while: this is another trouble
		}
		b.log.Log(ctx, once(try), "following a run; trying again", "run", id, "try", try+1, "error", err)
		if !pause(ctx, backoff(try)) {
			return
		}
	}
}

// pursue is one try at following; every step of it may be repeated.
func (b *Bridge) pursue(ctx context.Context, t *tracked) error {
	// It may have been read before another follower ended it.
	stored, err := b.cfg.Store.FindRun(ctx, t.snapshot().ID)
	if err != nil {
		return fmt.Errorf("reading run %s: %w", t.snapshot().ID, err)
	}
	if stored.Status.Terminal() {
		return nil
	}
	if err := b.say(ctx, t); err != nil {
		return err
	}
	if err := b.start(ctx, t); err != nil {
		switch ccci.CodeOf(err) {
		case ccci.CodeInvalid, ccci.CodeRefused:
		default:
			if !errors.Is(err, ccci.ErrNotFound) {
				return err
			}
		}
		// Asking again cannot help: the engine refuses the job, or the pull request is gone.
		now := b.cfg.Now()
		return b.finish(ctx, t, ccci.StatusErrored, oneLine(err.Error()), now, nil)
	}
	build, err := b.await(ctx, t)
	if errors.Is(err, ccci.ErrNotFound) {
		// The engine forgot the build: the same job is a new one to it.
		b.log.Warn("the engine does not know the build, starting it again", "run", t.snapshot().ID)
		return errors.Join(err, b.change(ctx, t, func(r *ccci.Run) { r.Build = "" }))
	}
	if err != nil {
		return err
	}
	result, problem, err := ccci.ReadResult(ctx, b.cfg.Blobs, t.snapshot(), build)
	if err != nil {
		return err
	}
	status, cause := report.Settle(t.snapshot(), build, result, problem, b.cfg.Deadline)
	if status == ccci.StatusErrored && worthRepeating(t.snapshot(), build, result) {
		if err := b.requeue(ctx, t, cause); err != nil {
			return err
		}
		return b.pursue(ctx, t)
	}
	if neverBegan(build, result) {
		if err := b.change(ctx, t, func(r *ccci.Run) { r.Started, r.Stages = time.Time{}, nil }); err != nil {
			return err
		}
	}
	finished := build.Finished
	if finished.IsZero() {
		finished = b.cfg.Now()
	}
	return b.finish(ctx, t, status, cause, finished, result)
}

// start hands the run to the engine unless that was done. A crash in between
// is harmless: the engine knows a run's job when it sees it again.
func (b *Bridge) start(ctx context.Context, t *tracked) error {
	run := t.snapshot()
	if run.Build != "" {
		return nil
	}
	if t.base == "" {
		pr, err := b.cfg.Forge.PullRequest(ctx, run.PR)
		if err != nil {
			return fmt.Errorf("reading %s to start run %s: %w", run.PR, run.ID, err)
		}
		t.base = pr.Base
	}
	for _, before := range b.refusedBefore(t) {
		if err := b.handOver(ctx, before); err != nil && ccci.CodeOf(err) != ccci.CodeInvalid && ccci.CodeOf(err) != ccci.CodeRefused {
			t.setRefused(true)
			return err
		}
	}
	return b.handOver(ctx, t)
}

// refusedBefore returns the runs that the engine would not take and that were asked for
// before t, in their order: once the engine is back, they go first.
func (b *Bridge) refusedBefore(t *tracked) []*tracked {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.runs))
	b.mu.Unlock()
	own := t.snapshot()
	all = slices.DeleteFunc(all, func(o *tracked) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o == t || !o.refused || o.over || o.run.Build != "" || ccci.QueueOrder(o.run, own) > 0
	})
	slices.SortFunc(all, func(x, y *tracked) int { return ccci.QueueOrder(x.snapshot(), y.snapshot()) })
	return all
}

// handOver has the engine take a run whose base is known.
func (b *Bridge) handOver(ctx context.Context, t *tracked) error {
	run := t.snapshot()
	ref, err := b.cfg.Engine.Start(ctx, ccci.Job{
		RunID: run.ID, Recipe: run.Recipe, PR: run.PR, Commit: run.Commit, CloneURL: run.CloneURL,
		BaseRef: t.base, Options: run.Options, Deadline: b.cfg.Deadline, Asked: run.Asked, Attempt: run.Attempt,
	})
	t.setRefused(err != nil)
	if err != nil {
		// What the engine does not find, its own repository while the forge is away, is
		// not the pull request.
		return fmt.Errorf("starting run %s: %w", run.ID, notGone(err))
	}
	return b.change(ctx, t, func(r *ccci.Run) { r.Build = ref })
}

// await follows the build until it is done, keeping the run and its comment live.
func (b *Bridge) await(ctx context.Context, t *tracked) (ccci.Build, error) {
	ref := t.snapshot().Build
	reading, stop := context.WithCancel(ctx)
	batches := make(chan []ccci.Marker)
	logEnd := make(chan error, 1)
	read := func() { logEnd <- b.readMarkers(reading, ref, batches) }
	go read()
	readers := 1
	defer func() {
		stop()
		if readers > 0 {
			<-logEnd
		}
	}()

	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	asked := false // the engine was asked to cancel
	grace := 0     // ticks since the build was done
	misses := 0    // questions in a row that the engine did not answer
	for {
		build, err := b.cfg.Engine.Status(ctx, ref)
		if err != nil {
			// One that is lost now and then must not make everything begin again, the log
			// with all its stages included.
			if misses++; misses < maxMisses && !errors.Is(err, ccci.ErrNotFound) && pause(ctx, statusEvery/4) {
				continue
			}
			return ccci.Build{}, fmt.Errorf("asking for the state of run %s: %w", t.snapshot().ID, err)
		}
		misses = 0
		if err := b.observe(ctx, t, build); err != nil {
			return ccci.Build{}, err
		}
		if err := b.showReview(ctx, t, build); err != nil {
			return ccci.Build{}, err
		}
		// The log's rest is worth a moment, never the verdict.
		if build.State == ccci.BuildDone && (readers == 0 || grace > 2) {
			return build, nil
		}
		if t.snapshot().CancelledBy != "" && !asked && build.State != ccci.BuildDone {
			if err := b.cfg.Engine.Cancel(ctx, ref); err != nil {
				return ccci.Build{}, fmt.Errorf("cancelling run %s: %w", t.snapshot().ID, err)
			}
			asked = true
		}
		select {
		case <-ctx.Done():
			return ccci.Build{}, ctx.Err()
		case batch := <-batches:
			if err := b.showStages(ctx, t, batch); err != nil {
				return ccci.Build{}, err
			}
		case err := <-logEnd:
			readers = 0
			if err != nil && ctx.Err() == nil {
				b.log.Info("reading a build's log again from its start", "run", t.snapshot().ID, "error", err)
				if !pause(ctx, statusEvery) {
					return ccci.Build{}, ctx.Err()
				}
				readers = 1
				go read()
			}
		case <-t.kick:
		case <-tick.C:
			if build.State == ccci.BuildDone {
				grace++
			}
		}
	}
}

// observe takes over what the engine knows, and what others wrote into the
// store: a cancellation may be asked for from another process.
func (b *Bridge) observe(ctx context.Context, t *tracked, build ccci.Build) error {
	run := t.snapshot()
	status := run.Status
	switch {
	case build.State == ccci.BuildQueued:
		status = ccci.StatusQueued
	case build.State == ccci.BuildRunning:
		status = ccci.StatusRunning
	}
	attempt := max(run.Attempt, build.Attempt)
	stored, err := b.cfg.Store.FindRun(ctx, run.ID)
	if err != nil {
		return fmt.Errorf("reading run %s: %w", run.ID, err)
	}
	cancelled := stored.CancelledBy != "" && run.CancelledBy == ""
	if status == run.Status && attempt == run.Attempt && build.Started.Equal(run.Started) && !cancelled {
		return nil
	}
	if err := b.change(ctx, t, func(r *ccci.Run) {
		r.Status, r.Attempt, r.Started = status, attempt, build.Started
		if status == ccci.StatusQueued {
			r.Stages = nil
		}
	}); err != nil {
		return err
	}
	if status != run.Status {
		if status == ccci.StatusRunning {
			b.cfg.Observer.Started(b.name(), t.snapshot())
		}
		b.moveUp(ctx)
	}
	return b.say(ctx, t)
}

// showReview puts into the comment what the commit changes that can run code or raise privilege, as
// soon as the run's process has found it out (P2). A failure is logged: the verdict has the list too.
func (b *Bridge) showReview(ctx context.Context, t *tracked, build ccci.Build) error {
	run := t.snapshot()
	t.mu.Lock()
	known := t.review != nil
	t.mu.Unlock()
	if known || run.PR.Number == 0 || build.State != ccci.BuildRunning {
		return nil
	}
	review, err := ccci.ReadReview(ctx, b.cfg.Blobs, run, build)
	if err != nil {
		b.log.Debug("reading what a commit changes", "run", run.ID, "error", err)
	}
	if review == nil {
		return nil
	}
	t.mu.Lock()
	t.review = review
	t.mu.Unlock()
	return b.say(ctx, t)
}

// readMarkers reads a log from its start to its end and sends the stage markers
// in it, all that are at hand at once.
func (b *Bridge) readMarkers(ctx context.Context, ref ccci.BuildRef, out chan<- []ccci.Marker) error {
	log, err := b.cfg.Engine.Logs(ctx, ref, 0)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer log.Close()
	lines := bufio.NewReaderSize(log, 64<<10)
	var batch []ccci.Marker
	whole := true // the line began within this slice
	for {
		line, err := lines.ReadSlice('\n')
		if whole {
			if m, ok := ccci.ParseMarker(string(line)); ok && !errors.Is(err, bufio.ErrBufferFull) {
				batch = append(batch, m)
			}
		}
		whole = !errors.Is(err, bufio.ErrBufferFull)
		if !whole {
			continue
		}
		rest, _ := lines.Peek(lines.Buffered())
		if len(batch) > 0 && (err != nil || bytes.IndexByte(rest, '\n') < 0) {
			select {
			case out <- batch:
				batch = nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
	}
}

func (b *Bridge) showStages(ctx context.Context, t *tracked, markers []ccci.Marker) error {
	rows := slices.Clone(t.snapshot().Stages)
	for _, m := range markers {
		rows = applyMarker(rows, m)
	}
	if slices.Equal(rows, t.snapshot().Stages) {
		return nil
	}
	if err := b.change(ctx, t, func(r *ccci.Run) { r.Stages = rows }); err != nil {
		return err
	}
	return b.say(ctx, t)
}

// applyMarker brings the rows forward. A stage that begins wipes itself and all
// later ones: the log holds a second attempt, or is read a second time.
func applyMarker(rows []ccci.StageRow, m ccci.Marker) []ccci.StageRow {
	at := slices.Index(ccci.StageNames, m.Stage)
	if m.Begin {
		rows = slices.DeleteFunc(rows, func(r ccci.StageRow) bool { return slices.Index(ccci.StageNames, r.Name) >= at })
		return append(rows, ccci.StageRow{Name: m.Stage, Running: true})
	}
	row := m.Row()
	if i := slices.IndexFunc(rows, func(r ccci.StageRow) bool { return r.Name == m.Stage }); i >= 0 {
		rows[i] = row
		return rows
	}
	return append(rows, row)
}

// change applies an edit to the stored run. What another process wrote about a
// cancellation is kept.
func (b *Bridge) change(ctx context.Context, t *tracked, edit func(*ccci.Run)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil
	}
	stored, err := b.cfg.Store.FindRun(ctx, t.run.ID)
	if err != nil {
		return fmt.Errorf("reading run %s: %w", t.run.ID, err)
	}
	next := t.run
	if next.CancelledBy == "" {
		next.CancelledBy, next.Superseded = stored.CancelledBy, stored.Superseded
	}
	edit(&next)
	if err := b.cfg.Store.UpdateRun(ctx, next); err != nil {
		return fmt.Errorf("saving run %s: %w", next.ID, err)
	}
	t.run = next
	b.publish(ctx, next.ID)
	return nil
}

func (t *tracked) setRefused(yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = yes
}

func (t *tracked) snapshot() ccci.Run {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.run
}

// oneLine keeps an error short enough for a run's cause.
func oneLine(s string) string { return report.OneLine(&ccci.Cause{Message: s}) }
