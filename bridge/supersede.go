package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// headsPerLook bounds how many pull requests are asked for their head in one look at a
// repository.
const headsPerLook = 5

// supersede takes the queued runs of a pull request out of the queue when a newer command on
// it waits or runs (P4). A run that is at work stays. Doing it twice changes nothing.
func (b *Bridge) supersede(ctx context.Context, pr ccci.PRRef) error {
	runs, err := b.runsOf(ctx, pr)
	if err != nil {
		return err
	}
	runs = slices.DeleteFunc(runs, func(r ccci.Run) bool { return r.Status.Terminal() || r.CancelledBy != "" })
	if len(runs) < 2 {
		return nil
	}
	newest := slices.MaxFunc(runs, ccci.QueueOrder)
	by := cmp.Or(newest.RequestedBy.Name, newest.RequestedBy.ID)
	for _, run := range runs {
		if run.ID == newest.ID {
			continue
		}
		why := ccci.Supersession{Run: newest.ID}
		if newest.Commit != run.Commit {
			why.Head = newest.Commit
		}
		if err := b.outrun(ctx, run, by, why); err != nil {
			return err
		}
	}
	return nil
}

// supersedeByPush does the same for runs of a repository whose pull request was pushed to
// since they were accepted: what they would test is not what is to be merged. It is an
// aid, so that trouble with it is logged alone.
func (b *Bridge) supersedeByPush(ctx context.Context, repo ccci.RepoRef) {
	now := b.cfg.Now()
	b.mu.Lock()
	waiting := slices.Collect(maps.Values(b.runs))
	by := cmp.Or(b.self.Name, b.self.ID)
	b.mu.Unlock()
	waiting = slices.DeleteFunc(waiting, func(t *tracked) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.repo != repo || t.over || t.run.Status != ccci.StatusQueued || t.run.CancelledBy != "" || t.run.Head == "" || now.Sub(t.headRead) < b.cfg.PollInterval
	})
	slices.SortFunc(waiting, func(x, y *tracked) int { return x.lastHeadRead().Compare(y.lastHeadRead()) })
	for _, t := range waiting[:min(len(waiting), headsPerLook)] {
		run := t.snapshot()
		pr, err := b.cfg.Forge.PullRequest(ctx, run.PR)
		if err == nil && pr.Head != run.Head {
			err = b.outrun(ctx, run, by, ccci.Supersession{Head: pr.Head})
		}
		if err != nil && ctx.Err() == nil {
			b.log.Debug("reading whether a pull request was pushed to while its run waits", "run", run.ID, "pr", run.PR, "error", err)
		}
		t.mu.Lock()
		t.headRead = now
		t.mu.Unlock()
	}
}

func (t *tracked) lastHeadRead() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.headRead
}

// outrun ends a run that still waits.
func (b *Bridge) outrun(ctx context.Context, run ccci.Run, by string, why ccci.Supersession) error {
	if run.Status != ccci.StatusQueued {
		return nil
	}
	if run.Build != "" {
		build, err := b.cfg.Engine.Status(ctx, run.Build)
		if err == nil && build.State != ccci.BuildQueued {
			return nil // it has begun, and the store does not know it yet
		}
		if err != nil && !errors.Is(err, ccci.ErrNotFound) {
			return fmt.Errorf("asking whether run %s still waits: %w", run.ID, notGone(err))
		}
	}
	b.log.Info("superseding a run", "run", run.ID, "pr", run.PR, "by_run", why.Run, "by_head", why.Head)
	return b.end(ctx, run.ID, func(r *ccci.Run) { r.CancelledBy, r.Superseded = by, why })
}
