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
	mergesPerRound = 5                   // pull requests that are asked for in one round
	mergeRest      = time.Hour           // the longest time between two questions about a pull request
	mergeMemory    = 60 * 24 * time.Hour // a verdict that is older would be stale on every page
	mergeRuns      = 500                 // how many runs of a repository are looked through
)

// mergeWatch remembers when a repository's pull requests were asked for. One look at a repository
// is under way at a time, and it alone touches its mergeWatch.
type mergeWatch struct {
	next  time.Time // of the next round
	asked map[int]time.Time
}

// carryOver finds out which tested pull requests of a repository were merged, and keeps that with
// the newest whole run of each: where the files are those that were tested, its verdict holds for
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
		w = &mergeWatch{asked: map[int]time.Time{}}
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
	for _, run := range due[:min(len(due), mergesPerRound)] {
		w.asked[run.PR.Number] = now
		if err := b.askMerge(ctx, run); err != nil && ctx.Err() == nil {
			b.log.Debug("asking whether a pull request was merged", "run", run.ID, "pr", run.PR, "error", err)
		}
	}
}

// mergeable returns of runs, which come newest first, those that it is time to ask about: of each
// pull request the newest whole one, unless its merge is known. Those that were asked about
// longest ago come first. Every time is at least period after the one before.
func mergeable(runs []ccci.Run, now time.Time, asked map[int]time.Time, period time.Duration) []ccci.Run {
	seen := map[int]bool{}
	var due []ccci.Run
	for _, run := range runs {
		if run.PR.Number == 0 || seen[run.PR.Number] || len(run.SpeaksFor()) == 0 {
			continue
		}
		seen[run.PR.Number] = true
		age := now.Sub(run.Finished)
		rest := min(max(period, age/8), max(period, mergeRest))
		if run.Merge.IsZero() && age <= mergeMemory && now.Sub(asked[run.PR.Number]) >= rest {
			due = append(due, run)
		}
	}
	slices.SortStableFunc(due, func(x, y ccci.Run) int { return asked[x.PR.Number].Compare(asked[y.PR.Number]) })
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
