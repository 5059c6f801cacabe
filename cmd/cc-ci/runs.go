package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

type runsCmd struct {
	Recipe string `arg:"" optional:"" help:"Only the runs of this recipe."`
	Limit  int    `default:"20" placeholder:"N" help:"At most this many, the newest first."`
	JSON   bool   `name:"json" help:"Print the runs as JSON."`
}

func (c *runsCmd) Run(a *app) error {
	if c.Limit < 1 {
		return ccci.Errorf(ccci.CodeInvalid, "--limit %d lists no run", c.Limit).WithHint("write a number from 1")
	}
	r, err := a.openRecords()
	if err != nil {
		return err
	}
	defer r.Close()
	if c.Recipe != "" {
		if err := r.knowsRecipe(a.ctx, c.Recipe); err != nil {
			return err
		}
	}
	runs, err := r.store.FindRuns(a.ctx, ccci.RunFilter{Recipe: c.Recipe, Limit: c.Limit})
	if err != nil {
		return err
	}
	if c.JSON {
		records := []runRecord{}
		for _, run := range runs {
			records = append(records, r.record(run))
		}
		return printJSON(a.stdout, records)
	}
	if len(runs) == 0 {
		fmt.Fprintln(a.stdout, "no runs; a comment !testme on a pull request starts one")
		return nil
	}
	return runsTable(runs, time.Now()).print(a.stdout, a.colours(a.stdout))
}

func runsTable(runs []ccci.Run, now time.Time) table {
	var t table
	t.add(text("RUN"), text("RECIPE"), text("VERSION"), text("STATUS"), text("LEVEL"), text("TOOK"), text("COMMIT"), text("FOR"))
	for _, run := range runs {
		t.add(text(string(run.ID)), text(run.Recipe), orDash(run.Version), wordOf(run), orDash(level(run)), orDash(took(run, now)), text(run.Commit.Short()), text(subject(run)))
	}
	return t
}

type queueCmd struct {
	JSON bool `name:"json" help:"Print the runs as JSON, those at work first."`
}

func (c *queueCmd) Run(a *app) error {
	r, err := a.openRecords()
	if err != nil {
		return err
	}
	defer r.Close()
	running, queued, err := r.unfinished(a.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		records := []runRecord{}
		for _, run := range running {
			records = append(records, r.record(run))
		}
		for i, run := range queued {
			record := r.record(run)
			record.Position = i + 1
			records = append(records, record)
		}
		return printJSON(a.stdout, records)
	}
	if len(running)+len(queued) == 0 {
		fmt.Fprintln(a.stdout, "nothing runs and nothing waits")
	} else if err := queueTable(running, queued, time.Now()).print(a.stdout, a.colours(a.stdout)); err != nil {
		return err
	}
	if held := report.Held(r.held()); held != "" {
		fmt.Fprintln(a.stdout, held)
	}
	return nil
}

func queueTable(running, queued []ccci.Run, now time.Time) table {
	var t table
	t.add(text("POSITION"), text("RUN"), text("RECIPE"), text("STATUS"), text("SINCE"), text("BY"), text("FOR"))
	row := func(position string, run ccci.Run, since time.Time) {
		t.add(orDash(position), text(string(run.ID)), text(run.Recipe), wordOf(run), text(report.Duration(now.Sub(since))), orDash(requester(run)), text(subject(run)))
	}
	for _, run := range running {
		row("", run, run.Started)
	}
	for i, run := range queued {
		row(fmt.Sprint(i+1), run, asked(run))
	}
	return t
}

// printJSON prints v for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	return nil
}
