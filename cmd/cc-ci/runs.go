package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forecast"
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
	now := time.Now()
	rows, err := r.forecast(a.ctx, now)
	if err != nil {
		return err
	}
	held := report.Held(r.held())
	if c.JSON {
		records := []runRecord{}
		for _, row := range rows {
			record := r.record(row.Run)
			record.expect(row, held != "")
			records = append(records, record)
		}
		return printJSON(a.stdout, records)
	}
	if len(rows) == 0 {
		fmt.Fprintln(a.stdout, "nothing runs and nothing waits")
	} else if err := queueTable(rows, held != "", now).print(a.stdout, a.colours(a.stdout)); err != nil {
		return err
	}
	if held != "" {
		fmt.Fprintln(a.stdout, held)
	}
	return nil
}

func queueTable(rows []forecast.Row, held bool, now time.Time) table {
	var t table
	t.add(text("POSITION"), text("RUN"), text("RECIPE"), text("STATUS"), text("SINCE"), text("EXPECTED START"), text("BY"), text("FOR"))
	for _, row := range rows {
		run, position, since, start := row.Run, "", row.Run.Started, ""
		if row.Position > 0 {
			position, since, start = fmt.Sprint(row.Position), asked(run), startOf(row, held, now)
		}
		t.add(orDash(position), text(string(run.ID)), text(run.Recipe), wordOf(run), text(report.Duration(now.Sub(since))), orDash(start), orDash(requester(run)), text(subject(run)))
	}
	return t
}

// startOf says when a queued run is expected to start, in the words of the pages.
func startOf(row forecast.Row, held bool, now time.Time) string {
	start := row.Expected(now, held)
	if start.At.IsZero() {
		return start.Words
	}
	return strings.TrimSpace(report.Ago(start.At, now) + " " + start.Words)
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
