package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/forecast"
	"github.com/recipe-maintainers/cc-ci/internal/report"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// records are the runs of the server whose configuration this is, as its database has them.
// They are read beside a server that writes them.
type records struct {
	cfg   config.Config
	store *sqlstore.Store
}

// openRecords opens the database for reading. The caller closes it.
func (a *app) openRecords() (*records, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	path := storePath(cfg)
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist) && a.configPath == "":
		return nil, ccci.Errorf(ccci.CodeNotFound, "there is no database in %s, and no configuration was read", cfg.Data).
			WithHint("name the configuration of the server with --config FILE or $CC_CI_CONFIG; cc-ci serve starts a server")
	case errors.Is(err, fs.ErrNotExist):
		return nil, ccci.Errorf(ccci.CodeNotFound, "there is no database in %s, the data folder of %s", cfg.Data, a.configPath).
			WithHint("start the server with this configuration: cc-ci --config %s serve; or name the one that the server has", a.configPath)
	case errors.Is(err, fs.ErrPermission):
		return nil, ccci.Errorf(ccci.CodeInvalid, "this account may not read the database: %w", err).
			WithHint("run the command as the account of the server, or as root")
	}
	store, err := sqlstore.OpenReader(a.ctx, path)
	if err != nil {
		return nil, err
	}
	return &records{cfg: cfg, store: store}, nil
}

// openRun opens the records and finds the run that a person names. The caller closes them unless
// there is an error.
func (a *app) openRun(word string) (*records, ccci.Run, error) {
	r, err := a.openRecords()
	if err != nil {
		return nil, ccci.Run{}, err
	}
	run, err := r.run(a.ctx, word)
	if err != nil {
		return nil, ccci.Run{}, errors.Join(err, r.Close())
	}
	return r, run, nil
}

func (r *records) Close() error { return r.store.Close() }

// runWord matches the id of a run and each beginning of one.
var runWord = regexp.MustCompile(`^[0-9]{1,6}$|^[0-9]{6}-[0-9]{0,6}$|^[0-9]{6}-[0-9]{6}-[0-9a-f]{0,6}$`)

// run finds the run that a person names: by its id, by a beginning that no other has, or by
// the address of one of its pages.
func (r *records) run(ctx context.Context, word string) (ccci.Run, error) {
	id, page, err := r.idOf(word)
	if err != nil {
		return ccci.Run{}, err
	}
	// The ids that begin with id come first among those that sort before id and a tilde.
	near, err := r.store.FindRuns(ctx, ccci.RunFilter{Before: ccci.RunID(id + "~"), Limit: 100})
	if err != nil {
		return ccci.Run{}, err
	}
	var found []string
	for _, run := range near {
		if run.ID == ccci.RunID(id) {
			return run, nil
		}
		if strings.HasPrefix(string(run.ID), id) {
			found = append(found, string(run.ID))
		}
	}
	switch {
	case len(found) == 1:
		return near[0], nil
	case len(found) > 1:
		return ccci.Run{}, ccci.Errorf(ccci.CodeInvalid, "%q is the beginning of more than one run", word).
			WithHint("write more of the id: %s", some(found, 3))
	case page != "" && page != r.cfg.URL:
		return ccci.Run{}, ccci.Errorf(ccci.CodeNotFound, "there is no run %s here; the page is of %s, and this server is %s", id, page, r.cfg.URL).
			WithHint("name the configuration of that server with --config")
	}
	return ccci.Run{}, r.unknownRun(ctx, id)
}

// unknownRun names the nearest of the newest runs.
func (r *records) unknownRun(ctx context.Context, id string) error {
	newest, err := r.store.FindRuns(ctx, ccci.RunFilter{})
	if err != nil {
		return err
	}
	var ids []string
	for _, run := range newest {
		ids = append(ids, string(run.ID))
	}
	return ccci.Errorf(ccci.CodeNotFound, "there is no run %s", id).
		WithHint("%s", settings.Suggest(id, ids, "cc-ci runs lists the newest runs; those of cc-ci run are not among them"))
}

// idOf returns the id, or the beginning of one, that word has, and the server if it is the
// address of a page.
func (r *records) idOf(word string) (id, server string, err error) {
	id = word
	if before, after, ok := strings.Cut(word, "/runs/"); ok {
		u, err := url.Parse(before)
		if err != nil || u.Host == "" {
			return "", "", notARun(word)
		}
		server = before
		id = after[:cmp.Or(strings.IndexAny(after, "/?#")+1, len(after)+1)-1]
	}
	if !runWord.MatchString(id) {
		return "", "", notARun(word)
	}
	return id, server, nil
}

func notARun(word string) error {
	return ccci.Errorf(ccci.CodeInvalid, "%q is not a run", word).
		WithHint("write its id, the beginning of it or the address of its page; cc-ci runs lists the newest runs")
}

// knowsRecipe refuses a recipe that has no run.
func (r *records) knowsRecipe(ctx context.Context, name string) error {
	latest, err := r.store.LatestPerRecipe(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, run := range latest {
		names = append(names, run.Recipe)
	}
	if slices.Contains(names, name) {
		return nil
	}
	names = slices.Compact(names)
	otherwise := "no recipe has a run yet; a comment !testme on a pull request starts one"
	if len(names) > 0 {
		otherwise = "recipes with runs: " + some(names, 10)
	}
	return ccci.Errorf(ccci.CodeNotFound, "no run of a recipe %q is known", name).WithHint("%s", settings.Suggest(name, names, otherwise))
}

// some lists the first of words.
func some(words []string, limit int) string {
	if len(words) <= limit {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:limit], ", "), len(words)-limit)
}

// unfinished returns what runs and then what waits, each in the order in which it was asked for.
func (r *records) unfinished(ctx context.Context) (running, queued []ccci.Run, err error) {
	filter := ccci.RunFilter{Unfinished: true, Limit: 500}
	for {
		page, err := r.store.FindRuns(ctx, filter)
		if err != nil {
			return nil, nil, err
		}
		for _, run := range page {
			if run.Status == ccci.StatusRunning {
				running = append(running, run)
			} else {
				queued = append(queued, run)
			}
		}
		if len(page) < filter.Limit {
			slices.SortFunc(running, ccci.QueueOrder)
			slices.SortFunc(queued, ccci.QueueOrder)
			return running, queued, nil
		}
		filter.Before = page[len(page)-1].ID
	}
}

// forecast returns the unfinished runs, those at work first, with what is expected of each.
func (r *records) forecast(ctx context.Context, now time.Time) ([]forecast.Row, error) {
	running, queued, err := r.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	return forecast.Read(ctx, r.store, append(running, queued...), r.cfg.Engine.Capacity, now)
}

// held says why no queued run starts, or "".
func (r *records) held() string { return needsOf(r.cfg, "").Short() }

// runRecord is a run as --json prints it. Fields may be added.
type runRecord struct {
	Run         ccci.RunID      `json:"run"`
	RunURL      string          `json:"runUrl,omitempty"`
	Recipe      string          `json:"recipe"`
	Version     string          `json:"version,omitempty"`
	Commit      ccci.Commit     `json:"commit"`
	PR          string          `json:"pr,omitempty"` // owner/name#number
	Trigger     ccci.Trigger    `json:"trigger,omitempty"`
	Release     string          `json:"release,omitempty"`
	Options     string          `json:"options,omitempty"` // what they restrict the run to
	RequestedBy string          `json:"requestedBy,omitempty"`
	Status      ccci.Status     `json:"status"`
	Verdict     ccci.Verdict    `json:"verdict,omitempty"` // once it has ended
	Superseded  bool            `json:"superseded,omitempty"`
	By          string          `json:"supersededBy,omitempty"` // "run ID" or "the push of COMMIT"
	Level       *int            `json:"level"`                  // null unless the recipe passed or failed
	Stages      []ccci.StageRow `json:"stages,omitempty"`
	Cause       string          `json:"cause,omitempty"`
	CancelledBy string          `json:"cancelledBy,omitempty"`
	Attempt     int             `json:"attempt"`
	Position    int             `json:"position,omitempty"`     // in the queue, from 1
	Start       time.Time       `json:"expectedStart,omitzero"` // the earliest time where a run ahead is late; absent where it is not known
	End         time.Time       `json:"expectedEnd,omitzero"`
	Created     time.Time       `json:"created"`
	Started     time.Time       `json:"started,omitzero"`
	Finished    time.Time       `json:"finished,omitzero"`
}

func (r *records) record(run ccci.Run) runRecord {
	rec := runRecord{
		Run: run.ID, RunURL: r.page(run.ID), Recipe: run.Recipe, Version: run.Version, Commit: run.Commit,
		Trigger: run.Trigger, Release: run.Release, Options: run.Options.Restriction(), RequestedBy: requester(run),
		Status: run.Status, Verdict: run.Status.Verdict(), Superseded: !run.Superseded.IsZero(), By: run.Superseded.By(), Stages: run.Stages, Cause: run.Cause, CancelledBy: run.CancelledBy,
		Attempt: run.Attempt, Created: run.Created.UTC(), Started: run.Started.UTC(), Finished: run.Finished.UTC(),
	}
	if run.PR.Number > 0 {
		rec.PR = run.PR.String()
	}
	if run.Status.Judged() {
		rec.Level = &run.Level
	}
	return rec
}

// expect adds what is expected of an unfinished run. While runs are held nothing is known.
func (rec *runRecord) expect(row forecast.Row, held bool) {
	rec.Position = row.Position
	if row.Position > 0 && held {
		return
	}
	rec.Start, rec.End = row.Start.UTC(), row.End.UTC()
}

// page is the address of a run's page, "" where the configuration does not say it.
func (r *records) page(id ccci.RunID) string { return report.LinksFor(knownURL(r.cfg), id).Run }

// knownURL is the address of the dashboard, "" where the server chooses its port when it starts.
func knownURL(cfg config.Config) string {
	if strings.HasSuffix(cfg.URL, ":0") {
		return ""
	}
	return cfg.URL
}

func requester(run ccci.Run) string { return cmp.Or(run.RequestedBy.Name, run.RequestedBy.ID) }

// subject names what asked for the run and with which options.
func subject(run ccci.Run) string {
	what := run.PR.String()
	switch {
	case run.Release != "":
		what = "sweep of release " + run.Release
	case run.Trigger == ccci.TriggerSweep:
		what = "sweep of branch " + run.Branch
	}
	if restriction := run.Options.Restriction(); restriction != "" {
		what += " " + restriction
	}
	return what
}

// took is how long a run was at work, so far or in all; "" before it started.
func took(run ccci.Run, now time.Time) string {
	switch {
	case run.Started.IsZero():
		return ""
	case run.Finished.IsZero():
		return report.Duration(now.Sub(run.Started))
	}
	return report.Duration(run.Finished.Sub(run.Started))
}

// level is the level of a run that says something about the recipe, else "".
func level(run ccci.Run) string {
	if !run.Status.Judged() {
		return ""
	}
	return fmt.Sprint(run.Level)
}

// asked is when the person asked for the run.
func asked(run ccci.Run) time.Time {
	if run.Asked.IsZero() {
		return run.Created
	}
	return run.Asked
}
