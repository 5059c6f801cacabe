package bridge

import (
	"context"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// maxAttempts is how often a run is tried in all when the fault is ours.
const maxAttempts = 2

// worthRepeating reports whether a run that errored may come out otherwise when it
// is tried again. One that took too long would take as long, and one whose
// configuration is wrong would be as wrong.
func worthRepeating(run ccci.Run, build ccci.Build, result *ccci.Result) bool {
	if run.Attempt >= maxAttempts || run.CancelledBy != "" || build.Ending != ccci.EndExited || build.ExitCode == exitUsage {
		return false
	}
	return result == nil || result.Status == ccci.StatusErrored
}

// The harness's exit codes: for usage and configuration, and for an end by SIGTERM.
const (
	exitUsage     = 2
	exitTerminate = 143
)

// neverBegan reports whether a cancelled run ended before its harness made anything: the signal
// was faster than the program. One that has begun tears down and leaves a result, or is killed
// when that takes too long, which is another exit code.
func neverBegan(build ccci.Build, result *ccci.Result) bool {
	return result == nil && build.Ending == ccci.EndCancelled && build.ExitCode == exitTerminate
}

// requeue gives a run that came to nothing, through no fault of the recipe, its
// next attempt (N7). The comment stays the same one.
func (b *Bridge) requeue(ctx context.Context, t *tracked, cause string) error {
	b.log.Warn("a run errored; it is tried again", "run", t.snapshot().ID, "cause", cause)
	if err := b.change(ctx, t, func(r *ccci.Run) {
		if r.Build != "" {
			r.Earlier = append(slices.Clone(r.Earlier), r.Build)
		}
		r.Status, r.Build, r.Stages, r.Started = ccci.StatusQueued, "", nil, time.Time{}
		r.Attempt++
		r.Cause = cause
	}); err != nil {
		return err
	}
	b.moveUp(ctx)
	return nil
}
