package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/runlog"
)

type logsCmd struct {
	Of     string `arg:"" name:"run" help:"Id of the run, the beginning of it, or the address of its page."`
	Follow bool   `short:"f" help:"Wait for the run to start, and print its log until it ends."`
	Stage  string `placeholder:"STAGE" help:"Only the lines of this stage: install, upgrade, backup, restore, checks."`
}

func (c *logsCmd) Run(a *app) error {
	if c.Stage != "" && !slices.Contains(ccci.StageNames, ccci.StageName(c.Stage)) {
		return unknownStage(c.Stage)
	}
	r, run, err := a.openRun(c.Of)
	if err != nil {
		return err
	}
	defer r.Close()
	l, err := r.openRunLogs()
	if err != nil {
		return err
	}
	defer l.close()
	out := newHumanLog(a.stdout, a.colours(a.stdout))
	out.only = ccci.StageName(c.Stage)
	if c.Follow {
		run, err = r.follow(a.ctx, l, out, run.ID)
	} else {
		err = l.copy(a.ctx, out, run, !run.Status.Terminal())
	}
	// The engine may have an empty log of a run that waits.
	if errors.Is(err, ccci.ErrNotFound) || err == nil && !out.shown && run.Status == ccci.StatusQueued {
		return noLog(run)
	}
	if err == nil && out.only != "" && !out.shown {
		return noStage(run, out.only)
	}
	return err
}

func noLog(run ccci.Run) error {
	switch {
	case run.Status == ccci.StatusQueued:
		return ccci.Errorf(ccci.CodeNotFound, "run %s is queued; its log begins when it starts", run.ID).
			WithHint("--follow waits for it; cc-ci queue shows its position")
	case run.Status.Terminal():
		return ccci.Errorf(ccci.CodeNotFound, "run %s has no log: it is %s, and never started or its files are removed", run.ID, run.Word()).
			WithHint("cc-ci status %s shows what is known of it; keep.runs in the configuration says how long files are kept", run.ID)
	}
	return ccci.Errorf(ccci.CodeNotFound, "run %s has no log yet", run.ID).WithHint("--follow waits for it")
}

func noStage(run ccci.Run, stage ccci.StageName) error {
	var had []string
	for _, row := range run.Stages {
		had = append(had, string(row.Name))
	}
	hint := "leave --stage out to read the whole log"
	if len(had) > 0 {
		hint = "its stages: " + some(had, len(had))
	}
	return ccci.Errorf(ccci.CodeNotFound, "the log of run %s has no stage %s", run.ID, stage).WithHint("%s", hint)
}

// runLogs has the logs of the server's engine and of ended runs.
type runLogs struct {
	engine runlog.Source
	blobs  ccci.BlobOpener
	close  func() error
}

func (r *records) openRunLogs() (*runLogs, error) {
	blobs, err := dirblob.OpenReader(blobsPath(r.cfg))
	if err != nil {
		return nil, err
	}
	engine, done, err := openLogs(r.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return &runLogs{engine: engine, blobs: blobs, close: done}, nil
}

// copy prints the log of a run, to its end or as far as it is written.
func (l *runLogs) copy(ctx context.Context, out *humanLog, run ccci.Run, untilSilent bool) error {
	in, err := runlog.Open(ctx, l.engine, l.blobs, run, 0)
	if err != nil {
		return err
	}
	return errors.Join(runlog.Copy(ctx, out, in, untilSilent), out.Flush())
}

// look is how often a run is read that has not started yet.
const look = time.Second

// follow prints a run's log as it is written and returns the ended run. A run that is tried
// again has a second log.
func (r *records) follow(ctx context.Context, l *runLogs, out *humanLog, id ccci.RunID) (ccci.Run, error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var printed, announced ccci.BuildRef
	begun := false
	for {
		run, err := r.store.FindRun(ctx, id)
		if err != nil {
			return run, err
		}
		over := run.Status.Terminal()
		if begun && run.Build != "" && run.Build != printed { // the attempts before are printed already
			if announced != run.Build {
				fmt.Fprintln(out, runlog.AttemptLine(len(run.Earlier)+1))
				announced = run.Build
			}
			run.Earlier = nil
		}
		if run.Build != "" && run.Build != printed || over && !begun {
			switch err := l.copy(ctx, out, run, false); {
			case err == nil:
				printed, begun = run.Build, true
				continue
			case over || !errors.Is(err, ccci.ErrNotFound):
				return run, err
			}
		}
		if over {
			return run, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return run, fmt.Errorf("following run %s: %w", id, context.Cause(ctx))
		}
	}
}
