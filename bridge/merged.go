package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// How often it is asked whether tested pull requests were merged.
const (
	mergePeriods   = 8                   // poll intervals between two rounds in a repository, at least
	mergesPerRound = 5                   // tested commits that are asked about in one round
	mergeRest      = time.Hour           // the longest time between two questions about a tested commit
	mergeMemory    = 60 * 24 * time.Hour // a verdict that is older would be stale on every page
	mergeRuns      = 500                 // how many runs of a repository are looked through
)

// mergeWatch remembers which runs of a repository were asked about when. One look at a repository
// is under way at a time, and it alone touches its mergeWatch.
type mergeWatch struct {
	next  time.Time // of the next round
	asked map[ccci.RunID]time.Time
}

// carryOver finds out which tested commits of a repository's pull requests were merged, and keeps
// that with a whole run of each: where the files are those that were tested, its verdict holds for
// the target branch too. No comment tells of a merge, so that the forge is asked, the more
// rarely the older the run is. A failure is logged and stops nothing.
func (b *Bridge) carryOver(ctx context.Context, repo Repo) {
	if repo.Recipe == "" {
		return
	}
	now := b.cfg.Now()
	b.mu.Lock()
	w := b.merges[repo.Ref]
	if w == nil {
		w = &mergeWatch{}
		b.merges[repo.Ref] = w
	}
	b.mu.Unlock()
	if now.Before(w.next) {
		return
	}
	w.next = now.Add(mergePeriods * b.cfg.PollInterval)
	runs, err := b.cfg.Store.FindRuns(ctx, ccci.RunFilter{PR: ccci.PRRef{Repo: repo.Ref}, Limit: mergeRuns})
	if err != nil {
		b.log.Debug("reading which runs may have been merged", "repository", repo.Ref, "error", err)
		return
	}
	runs = slices.DeleteFunc(runs, func(r ccci.Run) bool { return !b.ours(r) })
	due := mergeable(runs, now, w.asked, mergePeriods*b.cfg.PollInterval)
	asked := map[ccci.RunID]time.Time{} // of the runs that there still are
	for _, run := range runs {
		if at, known := w.asked[run.ID]; known {
			asked[run.ID] = at
		}
	}
	w.asked = asked
	for _, run := range due[:min(len(due), mergesPerRound)] {
		w.asked[run.ID] = now
		if err := b.askMerge(ctx, run); err != nil && ctx.Err() == nil {
			b.log.Debug("asking whether a pull request was merged", "run", run.ID, "pr", run.PR, "error", err)
		}
	}
}

// mergeable returns of runs, which come newest first, those that it is time to ask about. Each
// commit that was tested in a pull request has one: its newest whole run that has an answer, or the
// newest whole one if none has. An older commit may be the one that was merged, so that it is asked
// about too, more rarely, until a verdict of the pull request was carried over. What has waited
// longest comes first. Every time is at least period after the one before.
func mergeable(runs []ccci.Run, now time.Time, asked map[ccci.RunID]time.Time, period time.Duration) []ccci.Run {
	type tested struct {
		pr     int
		commit ccci.Commit
	}
	speaker := map[tested]ccci.Run{}
	for _, run := range runs {
		of := tested{run.PR.Number, run.Commit}
		best, known := speaker[of]
		if len(run.SpeaksFor()) > 0 && (!known || run.Status.Answers() && !best.Status.Answers()) {
			speaker[of] = run
		}
	}
	newer, carried := map[int]bool{}, map[int]bool{} // of a pull request: it has a newer commit, a verdict was carried over
	since := map[ccci.RunID]time.Time{}              // when the time of a run came
	var due []ccci.Run
	for _, run := range runs {
		pr := run.PR.Number
		if pr == 0 || carried[pr] || speaker[tested{pr, run.Commit}].ID != run.ID {
			continue
		}
		age := now.Sub(run.Finished)
		rest := max(period, mergeRest)
		if !newer[pr] {
			rest = min(max(period, age/8), rest)
		}
		newer[pr] = true
		if !run.Merge.IsZero() {
			carried[pr] = run.Merge.Same && run.Status.Answers()
			continue
		}
		if at, known := asked[run.ID]; known {
			since[run.ID] = at.Add(rest)
		}
		if age <= mergeMemory && !since[run.ID].After(now) {
			due = append(due, run)
		}
	}
	slices.SortStableFunc(due, func(x, y ccci.Run) int { return since[x.ID].Compare(since[y.ID]) })
	return due
}

func (b *Bridge) askMerge(ctx context.Context, run ccci.Run) error {
	asking, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	merge, err := b.cfg.Forge.Merge(asking, run.PR, run.Commit)
	if errors.Is(err, ccci.ErrNotFound) || err == nil && merge.IsZero() {
		return nil
	}
	if err != nil {
		return err
	}
	// A clock of the forge that is fast must not outdo later verdicts.
	if now := b.cfg.Now(); merge.At.IsZero() || merge.At.After(now) {
		merge.At = now
	}
	run.Merge = merge
	if err := b.cfg.Store.UpdateRun(ctx, run); err != nil {
		return fmt.Errorf("keeping that %s was merged: %w", run.PR, err)
	}
	b.log.Info("a tested pull request was merged", "run", run.ID, "pr", run.PR, "branch", merge.Branch, "commit", merge.Commit, "as_tested", merge.Same)
	b.publish(ctx, run.ID)
	return nil
}
