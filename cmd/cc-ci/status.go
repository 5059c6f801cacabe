package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/forecast"
	"github.com/recipe-maintainers/cc-ci/internal/health"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

type statusCmd struct {
	Of   string `arg:"" optional:"" name:"run|recipe" help:"A run (id, beginning of it, address of its page) or a recipe; without it, the server."`
	JSON bool   `name:"json" help:"Print the state as JSON."`
}

func (c *statusCmd) Run(a *app) error {
	r, err := a.openRecords()
	if err != nil {
		return err
	}
	defer r.Close()
	if c.Of == "" {
		return c.server(a, r)
	}
	latest, err := r.store.LatestOf(a.ctx, c.Of, ccci.SubjectRecipe)
	if err != nil {
		return err
	}
	if len(latest) > 0 {
		return c.recipe(a, r, latest)
	}
	if _, _, err := r.idOf(c.Of); err != nil && !strings.Contains(c.Of, "/") {
		return r.knowsRecipe(a.ctx, c.Of)
	}
	run, err := r.run(a.ctx, c.Of)
	if err != nil {
		return err
	}
	if err := c.run(a, r, run); err != nil {
		return err
	}
	return runExit(run)
}

// runExit is the exit code that says how a run ended, or that it has not.
func runExit(run ccci.Run) error {
	switch {
	case !run.Status.Terminal():
		return codeError(exitUnfinished)
	case run.Status == ccci.StatusCancelled:
		return codeError(exitInterrupt)
	}
	return statusCode(run.Status)
}

func (c *statusCmd) run(a *app, r *records, run ccci.Run) error {
	now := time.Now()
	row := forecast.Row{Run: run}
	held := r.held() != ""
	if !run.Status.Terminal() {
		rows, err := r.forecast(a.ctx, now)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(rows, func(q forecast.Row) bool { return q.Run.ID == run.ID }); i >= 0 {
			row = rows[i]
		}
	}
	if c.JSON {
		record := r.record(run)
		record.expect(row, held)
		return printJSON(a.stdout, record)
	}
	coloured := a.colours(a.stdout)
	if err := runFacts(run, row, held, r.page(run.ID), now).print(a.stdout, coloured); err != nil {
		return err
	}
	if len(run.Stages) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	return stagesTable(run).print(a.stdout, coloured)
}

// factWidth is that of the longest name of a fact, so that all runs have the same columns.
const factWidth = len("cancelled")

// runFacts says in lines what is known of a run, and what is expected of one that is queued.
func runFacts(run ccci.Run, expected forecast.Row, held bool, page string, now time.Time) table {
	var t table
	fact := func(name string, value cell) {
		if value.text != "" {
			t.add(text(fmt.Sprintf("%-*s", factWidth, name)), value)
		}
	}
	fact("run", text(string(run.ID)))
	fact("recipe", text(strings.TrimSpace(run.Recipe+" "+run.Version)))
	word := wordOf(run)
	if by := run.Superseded.By(); by != "" && run.Word() == ccci.WordSuperseded {
		word.text += " by " + by
	}
	if expected.Position > 0 {
		word.text += fmt.Sprintf(", position %d", expected.Position)
	}
	if run.Attempt > 1 {
		word.text += fmt.Sprintf(", attempt %d", run.Attempt)
	}
	fact("status", word)
	if expected.Position > 0 {
		fact("start", text(startOf(expected, held, now)))
	}
	switch {
	case run.Word() == ccci.WordSuperseded:
	case run.CancelledBy != "" && !run.Status.Terminal():
		fact("cancelled", text("by "+run.CancelledBy+"; it is torn down"))
	case run.CancelledBy != "" && run.Status == ccci.StatusCancelled:
		fact("cancelled", text("by "+run.CancelledBy))
	}
	if run.Status.Judged() {
		_, words := ccci.LevelWords(run.Level, run.Stages)
		fact("level", text(strings.TrimPrefix(words, "level ")))
	}
	fact("cause", text(run.Cause))
	fact("for", text(subject(run)))
	fact("commit", text(string(run.Commit)))
	when := asked(run).UTC().Format(time.DateTime + " MST")
	if by := requester(run); by != "" {
		when += " by " + by
	}
	fact("asked", text(when))
	fact("took", text(took(run, now)))
	fact("page", text(page))
	return t
}

func stagesTable(run ccci.Run) table {
	var t table
	t.add(text("STAGE"), text("STATUS"), text("TOOK"), text("REASON"))
	for _, row := range run.Stages {
		status, spent := cell{row.Word(), checkColour(row.Status)}, ""
		if row.Running {
			status = cell{ccci.StatusRunning.Word(), cyan}
		} else {
			spent = report.Duration(row.Duration)
		}
		t.add(text(string(row.Name)), status, orDash(spent), orDash(row.Reason))
	}
	return t
}

// recipeRecord is a recipe as --json prints it.
type recipeRecord struct {
	Recipe string     `json:"recipe"`
	Speaks *runRecord `json:"speaks"` // the run that speaks for the recipe, null if there is none
	Latest runRecord  `json:"latest"`
}

// recipe prints how a recipe is. latest is the answer of [ccci.Store.LatestOf].
func (c *statusCmd) recipe(a *app, r *records, latest []ccci.Run) error {
	newest, speaks := latest[0], ccci.Speaker(latest, ccci.SubjectRecipe)
	if c.JSON {
		record := recipeRecord{Recipe: newest.Recipe, Latest: r.record(newest)}
		if speaks >= 0 {
			run := r.record(latest[speaks])
			record.Speaks = &run
		}
		return printJSON(a.stdout, record)
	}
	var t table
	t.add(text("recipe"), text(newest.Recipe))
	if speaks < 0 {
		t.add(text("verdict"), text("not tested: no run of a release or of the default branch has ended"))
	} else {
		run := latest[speaks]
		_, words := ccci.LevelWords(run.Level, run.Stages)
		word := wordOf(run)
		if run.Status.Judged() {
			word.text += ", " + words
		}
		t.add(text("verdict"), word)
		t.add(text("from"), text(fmt.Sprintf("run %s, %s at %s", run.ID, subject(run), run.Commit.Short())))
	}
	t.add(text("newest run"), cell{fmt.Sprintf("%s, %s, %s at %s", newest.ID, newest.Word(), subject(newest), newest.Commit.Short()), runColour(newest)})
	return t.print(a.stdout, a.colours(a.stdout))
}

// serverRecord is the server as --json prints it.
type serverRecord struct {
	Serving  bool           `json:"serving"`           // a process serves from the data folder
	Health   *health.Report `json:"health,omitempty"`  // its answer, if it gives one
	Unknown  string         `json:"unknown,omitempty"` // why Health is not known
	URL      string         `json:"url,omitempty"`
	Running  int            `json:"running"`
	Capacity int            `json:"capacity"`
	Queued   int            `json:"queued"`
	Oldest   time.Time      `json:"oldest,omitzero"` // when the first of those that wait was asked for
	Held     string         `json:"held,omitempty"`  // why no queued run starts
}

// server prints how the server is. Its error says that it does not work.
func (c *statusCmd) server(a *app, r *records) error {
	running, queued, err := r.unfinished(a.ctx)
	if err != nil {
		return err
	}
	record := serverRecord{URL: knownURL(r.cfg), Running: len(running), Capacity: r.cfg.Engine.Capacity, Queued: len(queued), Held: r.held()}
	if len(queued) > 0 {
		record.Oldest = asked(queued[0]).UTC()
	}
	if record.Serving, err = serving(r.cfg); err != nil {
		return err
	}
	silent := false
	if address := healthAddress(r.cfg); record.Serving && address == "" {
		record.Unknown = "the configuration has no fixed port in listen"
	} else if record.Serving {
		if record.Health, err = askHealth(a.ctx, address); err != nil {
			record.Unknown, silent = err.Error(), true
		}
	}
	if c.JSON {
		err = printJSON(a.stdout, record)
	} else {
		err = serverFacts(record, time.Now()).print(a.stdout, a.colours(a.stdout))
	}
	switch {
	case err != nil:
		return err
	case !record.Serving:
		return notServing(a, r.cfg)
	case silent:
		return ccci.Errorf(ccci.CodeInfra, "the server does not answer").WithHint("it does not while it starts; later its log says why")
	case record.Health != nil && !record.Health.Ready:
		return ccci.Errorf(ccci.CodeInfra, "the server is failing").WithHint("docs/runbook.md says what to do for each part; the server's log has more")
	}
	return nil
}

func serverFacts(s serverRecord, now time.Time) table {
	var t table
	state := cell{"not running", red}
	switch {
	case s.Serving && s.Health == nil:
		state = cell{"running; its health is not known: " + s.Unknown, yellow}
	case s.Serving:
		state = cell{"running, " + s.Health.Status, map[string]colour{"ok": green, "degraded": yellow}[s.Health.Status]}
		if state.colour == "" {
			state.colour = red
		}
	}
	t.add(text(fmt.Sprintf("%-*s", factWidth, "server")), state)
	if s.Health != nil {
		for _, reason := range s.Health.Reasons {
			t.add(text(reason.Part), text(reason.Problem))
		}
	}
	t.add(text("at work"), text(fmt.Sprintf("%d of %d", s.Running, s.Capacity)))
	waits := fmt.Sprint(s.Queued)
	if s.Queued > 0 {
		waits += ", the oldest waits for " + report.Duration(now.Sub(s.Oldest))
	}
	t.add(text("queued"), text(waits))
	if held := report.Held(s.Held); held != "" {
		t.add(text("held"), cell{held, yellow})
	}
	if s.URL != "" {
		t.add(text("dashboard"), text(s.URL))
	}
	return t
}

// serving reports whether a server holds the data folder's lock. It makes no file.
func serving(cfg config.Config) (bool, error) {
	lock := flock.New(lockPath(cfg), flock.SetFlag(os.O_RDONLY))
	defer lock.Close()
	free, err := lock.TryRLock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, ccci.Errorf(ccci.CodeInvalid, "looking whether a server holds %s: %w", cfg.Data, err).WithHint("run the command as the account of the server, or as root")
	}
	return !free, nil
}

func notServing(a *app, cfg config.Config) error {
	name := "cc-ci"
	if a.configPath != "" {
		name += " --config " + a.configPath
	}
	return ccci.Errorf(ccci.CodeInfra, "no server works in %s", cfg.Data).WithHint("start it: %s serve; with processes: apart, %s bridge", name, name)
}

// healthLimit is for how long the server's answer is waited for, which itself takes 3 s at most.
const healthLimit = 5 * time.Second

// healthAddress is where the server answers how it is: with its figures, or beside its pages. It is
// "" where the server chooses the port when it starts.
func healthAddress(cfg config.Config) string {
	listen := cmp.Or(cfg.Bridge.Listen, cfg.Listen)
	if _, port, err := net.SplitHostPort(listen); err != nil || port == "0" {
		return ""
	}
	return config.URLOf(listen) + "/healthz"
}

// askHealth asks the server how it is.
func askHealth(ctx context.Context, address string) (*health.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var report health.Report
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&report); err != nil || report.Status == "" {
		return nil, fmt.Errorf("%s is no answer of a server of cc-ci", address)
	}
	return &report, nil
}
