package bridge

import (
	"context"
	"fmt"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// say queues the run's comment and status as it is now.
func (b *Bridge) say(ctx context.Context, t *tracked) error {
	queue, err := b.queueOf(ctx, t.snapshot())
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil
	}
	t.position = 0
	if queue != nil {
		t.position = queue.Position
	}
	return b.word(ctx, t.run, t.review, queue)
}

// finish says the verdict and then closes the run. In this order a crash in
// between costs a repetition; in the other it would cost the verdict.
func (b *Bridge) finish(ctx context.Context, t *tracked, status ccci.Status, cause string, at time.Time, result *ccci.Result) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	run := t.run
	stored, err := b.cfg.Store.FindRun(ctx, run.ID)
	if err != nil {
		return fmt.Errorf("reading run %s: %w", run.ID, err)
	}
	if stored.Status.Terminal() {
		t.over = true
		return nil
	}
	if run.CancelledBy == "" {
		run.CancelledBy, run.Superseded = stored.CancelledBy, stored.Superseded
	}
	run.Status, run.Cause, run.Finished = status, cause, at
	if result != nil {
		run.Take(result)
	}
	for i := range run.Stages {
		if run.Stages[i].Running { // no result tells how it ended
			run.Stages[i] = ccci.StageRow{Name: run.Stages[i].Name, Status: ccci.Unverified, Reason: "the run ended in it"}
		}
	}
	if result != nil {
		if err := ccci.Remember(ctx, b.cfg.Store, &run, result); err != nil {
			return err
		}
	}
	b.sent.verdict(b.messageKey(commentKey(run.ID)), at)
	if err := b.word(ctx, run, result, nil); err != nil {
		return err
	}
	b.sent.hurry(b.messageKey(commentKey(run.ID)))
	b.nudge()
	if err := b.cfg.Store.UpdateRun(ctx, run); err != nil {
		return fmt.Errorf("closing run %s: %w", run.ID, err)
	}
	t.run, t.over = run, true
	b.cfg.Observer.Ended(b.name(), run, result)
	b.publish(ctx, run.ID)
	b.log.Info("run ended", "run", run.ID, "pr", run.PR, "status", run.Status, "level", run.Level, "cause", run.Cause)
	return nil
}

func commentKey(id ccci.RunID) string { return "run/" + string(id) + "/comment" }

// word saves a run's comment and, when no newer run speaks for the commit, its status.
func (b *Bridge) word(ctx context.Context, run ccci.Run, result *ccci.Result, queue *report.Queue) error {
	links := report.LinksFor(b.cfg.DashboardURL, run.ID)
	now := b.cfg.Now()
	if err := b.cfg.Store.SaveMessage(ctx, ccci.Message{
		Key: b.messageKey(commentKey(run.ID)), Kind: ccci.MessageComment, PR: run.PR,
		Body: report.Comment(run, result, links, queue), Updated: now,
	}); err != nil {
		return fmt.Errorf("saving the comment of run %s: %w", run.ID, err)
	}
	defer b.nudge()
	status := report.Status(run, result, links)
	newest, err := b.newestOf(ctx, run, status.Context)
	if err != nil || !newest {
		return err
	}
	// One key per commit and context: an old run's word can never overtake a newer one's (U13).
	if err := b.cfg.Store.SaveMessage(ctx, ccci.Message{
		Key:  b.messageKey(fmt.Sprintf("status/%s/%s/%s", run.PR.Repo, run.Commit, status.Context)),
		Kind: ccci.MessageStatus, PR: run.PR, Commit: run.Commit, Status: status, Updated: now,
	}); err != nil {
		return fmt.Errorf("saving the status of run %s: %w", run.ID, err)
	}
	return nil
}

// newestOf reports whether no later run of the pull request was asked for on the
// same commit in the same context: a verdict belongs to the comment that asked last (U13).
func (b *Bridge) newestOf(ctx context.Context, run ccci.Run, statusContext string) (bool, error) {
	runs, err := b.cfg.Store.FindRuns(ctx, ccci.RunFilter{PR: run.PR, Limit: 100})
	if err != nil {
		return false, fmt.Errorf("looking for newer runs of %s: %w", run.Commit, err)
	}
	return !slices.ContainsFunc(runs, func(o ccci.Run) bool {
		return o.ID != run.ID && b.ours(o) && o.Commit == run.Commit && ccci.QueueOrder(o, run) > 0 &&
			report.Status(o, nil, report.Links{}).Context == statusContext
	}), nil
}
