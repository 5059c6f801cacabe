package sweep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// test runs the whole suite on one version and promotes it when it comes out green.
func (c *Config) test(ctx context.Context, recipe Recipe, t target, row Row) Row {
	fmt.Fprintf(c.Log, "%s: testing %s\n", recipe.Name, t.name())
	run, result, err := c.carryOut(ctx, recipe, t)
	row.Run, row.Status, row.Level = run.ID, run.Status, run.Level
	stays := "there still is no canonical"
	if row.Canonical != "" {
		stays = "the canonical stays " + row.Canonical
	}
	switch {
	case err != nil:
		row.Code, row.Hint = ccci.CodeOf(err), ccci.HintOf(err)
		row.Message = fmt.Sprintf("%s was not tested: %v; %s", t.name(), err, stays)
		return row
	case run.Status == ccci.StatusFailed:
		row.Message = fmt.Sprintf("%s failed: %s; %s", t.name(), run.Cause, stays)
		return row
	case run.Status == ccci.StatusRefused:
		row.Message = fmt.Sprintf("%s is refused: %s; %s", t.name(), run.Cause, stays)
		return row
	case run.Status == ccci.StatusInconclusive:
		row.Message = fmt.Sprintf("the test of %s is inconclusive: %s; %s", t.name(), run.Cause, stays)
		return row
	case run.Status == ccci.StatusFlaky:
		row.Message = fmt.Sprintf("%s is flaky: %s; %s", t.name(), run.Cause, stays)
		return row
	case run.Status == ccci.StatusCancelled:
		row.Message = fmt.Sprintf("the test of %s was cancelled; %s", t.name(), stays)
		return row
	case run.Status != ccci.StatusPassed:
		row.Code, row.Message = ccci.CodeInfra, fmt.Sprintf("%s %s: %s; %s", t.name(), run.Status, run.Cause, stays)
		return row
	}
	reason, err := c.promote(context.WithoutCancel(ctx), result, t)
	switch {
	case err != nil:
		row.Code, row.Message = ccci.CodeInfra, fmt.Sprintf("%s passed and was not promoted: %v; %s", t.name(), err, stays)
	case reason != "":
		row.Code, row.Message = ccci.CodeInfra, fmt.Sprintf("%s passed and was not promoted: %s; %s", t.name(), reason, stays)
	default:
		row.Promoted, row.Canonical = true, t.name()
		_, level := ccci.LevelWords(run.Level, run.Stages)
		row.Message = fmt.Sprintf("%s passed at %s and is the canonical now", t.name(), level)
	}
	return row
}

// carryOut claims a run, has the engine do it, and keeps its end. The error says that
// nothing is known of the recipe.
func (c *Config) carryOut(ctx context.Context, recipe Recipe, t target) (ccci.Run, *ccci.Result, error) {
	if c.Turn != nil {
		if err := c.Turn(ctx); err != nil {
			return ccci.Run{}, nil, err
		}
	}
	now := c.Now()
	id, err := ccci.NewRunID(now, c.Rand)
	if err != nil {
		return ccci.Run{}, nil, err
	}
	run, _, err := c.Store.ClaimRun(ctx, ccci.Run{
		ID: id, Key: keyPrefix + string(id), Recipe: recipe.Name, Commit: t.commit, CloneURL: recipe.CloneURL,
		Trigger: ccci.TriggerSweep, Branch: t.branch, Release: t.release, Status: ccci.StatusQueued, Attempt: 1, Created: now, Asked: now,
	})
	if err != nil {
		return ccci.Run{}, nil, fmt.Errorf("claiming a run: %w", err)
	}
	build, err := c.build(ctx, &run, ccci.Job{
		RunID: run.ID, Recipe: run.Recipe, Commit: run.Commit, CloneURL: run.CloneURL, Deadline: c.Deadline, Trigger: run.Trigger, Asked: run.Asked, Attempt: 1,
	})
	// From here on what is known must be kept, whatever becomes of ctx.
	ctx = context.WithoutCancel(ctx)
	var result *ccci.Result
	var problem string
	if err == nil {
		result, problem, err = ccci.ReadResult(ctx, c.Blobs, run, build)
	}
	if err != nil {
		run.Status, run.Cause = ccci.StatusErrored, err.Error()
	} else {
		run.Status, run.Cause = report.Settle(run, build, result, problem, c.Deadline)
	}
	if run.Finished = build.Finished; run.Finished.IsZero() {
		run.Finished = c.Now()
	}
	if result != nil {
		run.Take(result)
		err = errors.Join(err, ccci.Remember(ctx, c.Store, &run, result))
	}
	if saveErr := c.Store.UpdateRun(ctx, run); saveErr != nil {
		err = errors.Join(err, fmt.Errorf("keeping the end of run %s: %w", run.ID, saveErr))
	}
	return run, result, err
}

// build hands the job to the engine and follows it to its end.
func (c *Config) build(ctx context.Context, run *ccci.Run, job ccci.Job) (ccci.Build, error) {
	ref, err := c.Engine.Start(ctx, job)
	if err != nil {
		return ccci.Build{}, fmt.Errorf("starting run %s: %w", job.RunID, err)
	}
	run.Build = ref
	if err := c.Store.UpdateRun(ctx, *run); err != nil {
		return c.cancel(ctx, ref, err)
	}
	running := sync.OnceValue(func() error { // with its first line
		run.Status, run.Started = ccci.StatusRunning, c.Now()
		return c.Store.UpdateRun(ctx, *run)
	})
	var offset int64
	for {
		n, logErr := c.copyLog(ctx, ref, offset, running)
		offset += n
		build, err := c.Engine.Status(ctx, ref)
		switch {
		case ctx.Err() != nil:
			run.CancelledBy = "the end of the sweep"
			return c.cancel(ctx, ref, nil)
		case err == nil && build.State == ccci.BuildDone:
			if !build.Started.IsZero() {
				run.Started = build.Started
			}
			return build, nil
		case errors.Is(err, ccci.ErrNotFound):
			return ccci.Build{}, fmt.Errorf("the engine has forgotten run %s", job.RunID)
		case logErr != nil || err != nil:
			fmt.Fprintf(c.Log, "the engine does not answer for now: %v\n", errors.Join(logErr, err))
		}
		if c.rest(ctx) != nil {
			run.CancelledBy = "the end of the sweep"
			return c.cancel(ctx, ref, nil)
		}
	}
}

// copyLog shows a log from offset until it ends, and returns how much there was.
func (c *Config) copyLog(ctx context.Context, ref ccci.BuildRef, offset int64, running func() error) (int64, error) {
	log, err := c.Engine.Logs(ctx, ref, offset)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	return io.Copy(writerFunc(func(p []byte) (int, error) {
		if err := running(); err != nil {
			return 0, err
		}
		return c.Log.Write(p)
	}), log)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// cancelLimit bounds the teardown of a run that is cancelled.
const cancelLimit = 10 * time.Minute

// cancel ends a build and waits until it has torn down.
func (c *Config) cancel(ctx context.Context, ref ccci.BuildRef, why error) (ccci.Build, error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelLimit)
	defer stop()
	if err := c.Engine.Cancel(ctx, ref); err != nil {
		return ccci.Build{}, errors.Join(why, fmt.Errorf("cancelling build %s: %w", ref, err))
	}
	for {
		build, err := c.Engine.Status(ctx, ref)
		if err == nil && build.State == ccci.BuildDone {
			return build, why
		}
		if c.rest(ctx) != nil {
			return ccci.Build{}, errors.Join(why, err, fmt.Errorf("build %s has not ended within %s", ref, cancelLimit))
		}
	}
}

func (c *Config) rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(c.Pause):
		return nil
	}
}
