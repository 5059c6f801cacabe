package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// resultLimit bounds what is read of a result, in bytes.
const resultLimit = 32 << 20

// maxAttempts is how often a run is tried in all when the fault is ours.
const maxAttempts = 2

// worthRepeating reports whether a run that errored may come out otherwise when it
// is tried again. One that took too long would take as long, and one whose
// configuration is wrong would be as wrong.
func worthRepeating(run ccci.Run, build ccci.Build, result *ccci.Result) bool {
	if run.Attempt >= maxAttempts || run.CancelledBy != "" || build.Ending != ccci.EndExited || build.ExitCode == exitUsage {
		return false
	}
	return result == nil || result.Status == ccci.StatusErrored && result.Verdict != ccci.VerdictInconclusive
}

// exitUsage is the harness's exit code for usage and configuration.
const exitUsage = 2

// requeue gives a run that came to nothing, through no fault of the recipe, its
// next attempt (N7). The comment stays the same one.
func (b *Bridge) requeue(ctx context.Context, t *tracked, cause string) error {
	b.log.Warn("a run errored; it is tried again", "run", t.snapshot().ID, "cause", cause)
	if err := b.change(ctx, t, func(r *ccci.Run) {
		r.Status, r.Build, r.Stages, r.Started = ccci.StatusQueued, "", nil, time.Time{}
		r.Attempt++
		r.Cause = cause
	}); err != nil {
		return err
	}
	b.moveUp(ctx)
	return nil
}

// readResult reads what the harness found. A result that is missing or cannot be
// used is a problem in words and no error; an error is worth another try.
func (b *Bridge) readResult(ctx context.Context, run ccci.Run, build ccci.Build) (result *ccci.Result, problem string, err error) {
	r, _, err := b.cfg.Blobs.Get(ctx, ccci.ResultKey(run.ID))
	switch {
	case errors.Is(err, ccci.ErrNotFound):
		return nil, "it left no result", nil
	case errors.Is(err, ccci.ErrCorrupt):
		return nil, "its result is corrupt", nil
	case err != nil:
		return nil, "", fmt.Errorf("opening the result of run %s: %w", run.ID, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, resultLimit+1))
	switch {
	case errors.Is(err, ccci.ErrCorrupt):
		return nil, "its result is corrupt", nil
	case err != nil:
		return nil, "", fmt.Errorf("reading the result of run %s: %w", run.ID, err)
	case len(data) > resultLimit:
		return nil, "its result is too large", nil
	}
	result = &ccci.Result{}
	if err := json.Unmarshal(data, result); err != nil {
		return nil, "its result does not parse: " + err.Error(), nil
	}
	switch {
	case result.RunID != run.ID || result.Recipe != run.Recipe || result.Commit != run.Commit:
		return nil, fmt.Sprintf("its result is about run %s, %s at %s", result.RunID, result.Recipe, result.Commit.Short()), nil
	case max(result.Attempt, 1) != max(build.Attempt, 1):
		return nil, fmt.Sprintf("its result is of attempt %d and not of %d", max(result.Attempt, 1), build.Attempt), nil
	case result.Schema != ccci.ResultSchema:
		return nil, fmt.Sprintf("its result has schema %d and not %d", result.Schema, ccci.ResultSchema), nil
	}
	return result, "", nil
}

// settle maps how a build ended and what it found to the run's end (N7). It is
// green only when everything agrees that it is; what nobody can explain is our
// fault and never the recipe's.
func settle(run ccci.Run, build ccci.Build, result *ccci.Result, problem string, deadline time.Duration) (ccci.Status, string) {
	switch build.Ending {
	case ccci.EndCancelled:
		return ccci.StatusCancelled, ""
	case ccci.EndDeadline:
		return ccci.StatusErrored, "the run took longer than " + report.Duration(deadline) + " and was ended"
	case ccci.EndLost:
		return ccci.StatusErrored, "the machine or the engine died under the run, more often than it is restarted"
	case ccci.EndExited:
	default:
		return ccci.StatusErrored, fmt.Sprintf("the engine says of the build that it %q", build.Ending)
	}
	if result == nil {
		if run.CancelledBy != "" {
			return ccci.StatusCancelled, ""
		}
		return ccci.StatusErrored, fmt.Sprintf("the harness ended with exit code %d: %s", build.ExitCode, problem)
	}
	cause := report.OneLine(result.Cause)
	switch result.Status {
	case ccci.StatusPassed:
		switch {
		case build.ExitCode != 0:
			return ccci.StatusErrored, fmt.Sprintf("the result says passed and the harness ended with exit code %d", build.ExitCode)
		case result.Teardown == nil:
			return ccci.StatusErrored, "the result says passed and holds no proof of teardown"
		case !result.Teardown.Clean || len(result.Teardown.Leftovers) > 0:
			return ccci.StatusFailed, "teardown left objects behind"
		}
		return ccci.StatusPassed, ""
	case ccci.StatusFailed:
		return ccci.StatusFailed, cause
	case ccci.StatusErrored:
		return ccci.StatusErrored, cause
	case ccci.StatusCancelled:
		if run.CancelledBy != "" {
			return ccci.StatusCancelled, ""
		}
		return ccci.StatusErrored, "the harness was interrupted, and nobody had cancelled the run"
	}
	return ccci.StatusErrored, fmt.Sprintf("the harness ended with exit code %d and its result says %q", build.ExitCode, result.Status)
}
