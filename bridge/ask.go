package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// statusReply answers !status: what runs and what waits for a pull request (N5).
func (b *Bridge) statusReply(ctx context.Context, pr ccci.PRRef) (string, error) {
	unfinished, slots, err := b.unfinishedForecast(ctx)
	if err != nil {
		return "", err
	}
	slices.SortFunc(unfinished, ccci.QueueOrder)
	var lines []string
	for _, run := range unfinished {
		if run.PR == pr && b.ours(run) {
			lines = append(lines, "- "+b.describe(run, slots[run.ID]))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, "Nothing runs or waits for this pull request.")
		if n := len(unfinished); n > 0 {
			lines = append(lines, fmt.Sprintf("Others: %d unfinished.", n))
		}
	}
	if b.cfg.Held != nil {
		if held := report.Held(b.cfg.Held()); held != "" {
			lines = append(lines, "", report.Text(held))
		}
	}
	ended, err := b.runsOf(ctx, pr)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(ended, func(r ccci.Run) bool { return r.Status.Terminal() && r.Superseded.IsZero() }); i >= 0 {
		last := ended[i]
		line := fmt.Sprintf("Last ended: %s at %s: %s", b.link(last), report.Code(last.Commit.Short()), last.Word())
		if last.Status.Judged() {
			_, level := ccci.LevelWords(last.Level, last.Stages)
			line += ", " + level
		}
		lines = append(lines, "", line+".")
	}
	reply := strings.Join(lines, "\n")
	if strings.HasPrefix(reply, "- ") { // a list must be apart from the name that the answer begins with
		reply = "\n\n" + reply
	}
	return reply, nil
}

func (b *Bridge) describe(run ccci.Run, slot *report.Queue) string {
	what := fmt.Sprintf("%s at %s", b.link(run), report.Code(run.Commit.Short()))
	switch word := run.Word(); word {
	case ccci.WordSuperseded:
		return what + ": " + word + " by " + report.Text(run.Superseded.By()) + ", leaving the queue"
	case ccci.WordCancelling:
		return what + ": " + word + ", tearing down"
	}
	if run.Status == ccci.StatusRunning {
		what += ": running for " + report.Duration(b.cfg.Now().Sub(run.Started))
		if i := slices.IndexFunc(run.Stages, func(r ccci.StageRow) bool { return r.Running }); i >= 0 {
			what += ", now in " + string(run.Stages[i].Name)
		}
		return what
	}
	what += ": queued"
	if slot != nil {
		what += fmt.Sprintf(", position %d", slot.Position)
		for i, ahead := range slot.Ahead {
			switch {
			case i == 0:
				what += ", behind " + report.Text(ahead)
			case i < 5:
				what += ", " + report.Text(ahead)
			case i == 5:
				what += fmt.Sprintf(" and %d more", len(slot.Ahead)-i)
			}
		}
		switch in := slot.Start.Sub(b.cfg.Now()); {
		case slot.Start.IsZero():
		case in < 5*time.Second:
			what += "; expected to start at any moment"
		default:
			what += fmt.Sprintf("; expected start about %s (in %s)", slot.Start.UTC().Format("15:04 MST"), report.Duration(in))
		}
	}
	return what
}

func (b *Bridge) link(run ccci.Run) string {
	if url := report.LinksFor(b.cfg.DashboardURL, run.ID).Run; url != "" {
		return "[run " + string(run.ID) + "](" + url + ")"
	}
	return "run " + report.Code(string(run.ID))
}

// failedOf finds what !retest repeats: the stages that did not pass in the last
// finished run on the same commit.
func (b *Bridge) failedOf(ctx context.Context, pr ccci.PRRef, commit ccci.Commit) (ccci.Options, string, error) {
	runs, err := b.runsOf(ctx, pr)
	if err != nil {
		return ccci.Options{}, "", err
	}
	slices.SortFunc(runs, func(a, b ccci.Run) int { return -ccci.QueueOrder(a, b) })
	for _, run := range runs {
		switch {
		case run.Commit != commit || !run.Superseded.IsZero():
			continue
		case !run.Status.Terminal():
			return ccci.Options{}, fmt.Sprintf("%s on the same commit has not ended, so there is nothing to repeat.", b.link(run)), nil
		case run.Status == ccci.StatusPassed:
			return ccci.Options{}, fmt.Sprintf("%s on the same commit passed, so no stage is left to repeat. `!testme` runs everything again.", b.link(run)), nil
		}
		if run.Options.Quick { // it is short, and its stages stand on each other
			return ccci.Options{Quick: true, Retest: run.ID}, "", nil
		}
		options := ccci.Options{From: run.Options.From, Retest: run.ID}
		for _, name := range ccci.StageNames {
			i := slices.IndexFunc(run.Stages, func(r ccci.StageRow) bool { return r.Name == name })
			settled := i >= 0 && (run.Stages[i].Status == ccci.Pass || run.Stages[i].Status == ccci.Skip)
			if run.Options.Wants(name) && !settled {
				options.Stages = append(options.Stages, name)
			}
		}
		if len(options.Stages) == 0 { // every stage was well: lint, teardown or we were at fault
			options.Stages = run.Options.Stages
		}
		return options, "", nil
	}
	return ccci.Options{}, "No run on this commit has ended, so there is nothing to repeat. `!testme` runs everything.", nil
}

// cancelAll ends what was asked for on a pull request before the comment was
// written. Read a second time, it picks the same runs and so says the same.
func (b *Bridge) cancelAll(ctx context.Context, c ccci.Comment) (string, error) {
	runs, err := b.runsOf(ctx, c.PR)
	if err != nil {
		return "", err
	}
	// The newest first, so that none that waits starts because another ends.
	slices.SortFunc(runs, func(a, b ccci.Run) int { return -ccci.QueueOrder(a, b) })
	by := c.Author.Name
	if by == "" {
		by = c.Author.ID
	}
	var lines []string
	for _, run := range runs {
		asked := run.Asked
		if asked.IsZero() {
			asked = run.Created
		}
		mine := run.CancelledBy == by && run.Finished.After(c.Created)
		if asked.After(c.Created) || !run.Superseded.IsZero() || (run.Status.Terminal() && !mine) {
			continue
		}
		if !run.Status.Terminal() {
			if err := b.Cancel(ctx, run.ID, by); err != nil {
				return "", err
			}
		}
		lines = append(lines, "- "+b.link(run)+" at "+report.Code(run.Commit.Short()))
	}
	slices.Reverse(lines)
	if len(lines) == 0 {
		return "nothing runs or waits for this pull request, so there is nothing to cancel.", nil
	}
	return "cancelling. When all is torn down, each run's own comment says so, with the proof.\n\n" + strings.Join(lines, "\n"), nil
}

// Cancel asks for a run's end in the name of by. It returns once the wish is
// durable; the run is cancelled when everything it made is removed. A run that
// has ended stays as it is; an unknown one is ErrNotFound.
func (b *Bridge) Cancel(ctx context.Context, id ccci.RunID, by string) error {
	return b.end(ctx, id, func(r *ccci.Run) { r.CancelledBy = by })
}

// end cancels a run, once; mark says in it by whom and why.
func (b *Bridge) end(ctx context.Context, id ccci.RunID, mark func(*ccci.Run)) error {
	b.mu.Lock()
	t := b.runs[id]
	b.mu.Unlock()
	if t == nil {
		run, err := b.cfg.Store.FindRun(ctx, id)
		if err != nil {
			return fmt.Errorf("cancelling run %s: %w", id, err)
		}
		if run.Status.Terminal() || run.CancelledBy != "" {
			return nil
		}
		// Whoever follows it looks into the store from time to time.
		mark(&run)
		if err := b.cfg.Store.UpdateRun(ctx, run); err != nil {
			return fmt.Errorf("cancelling run %s: %w", id, err)
		}
		return nil
	}
	if err := b.change(ctx, t, func(r *ccci.Run) {
		if r.CancelledBy == "" {
			mark(r)
		}
	}); err != nil {
		return fmt.Errorf("cancelling run %s: %w", id, err)
	}
	// The engine is asked here as well, so that several cancellations keep their
	// order. When that fails, the run's follower does it.
	if ref := t.snapshot().Build; ref != "" {
		if err := b.cfg.Engine.Cancel(ctx, ref); err != nil && ctx.Err() == nil {
			b.log.Warn("cancelling a build", "run", id, "error", err)
		}
	}
	select {
	case t.kick <- struct{}{}:
	default:
	}
	return b.say(ctx, t)
}
