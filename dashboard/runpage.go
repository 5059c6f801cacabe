package dashboard

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forecast"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

type runBody struct {
	Run      ccci.Run
	Result   *ccci.Result // nil while running, and where the harness left none
	Missing  bool         // the run is over and left no result
	Stages   []stageView
	Cause    *ccci.Cause
	Message  string            // of the cause, as the page says it
	Hint     string            // likewise
	Broken   []ccci.BrokenBase // of which the page says more than the cause
	Lint     []ccci.Finding
	Warnings []string
	Reviewed []ccci.Change // what the commit changes besides what is refused
	Refused  bool          // something that the commit changes is refused
	Why      string        // the level is not higher; "" where that is the cause
	Ended    string        // what ended the run, where that is another than the cause
	Blame    report.Sentences
	Bases    report.Sentences // what broken bases mean for the commit
	Next     report.Sentences // what a person can do now
	Pictures []picture
	Files    []fileView
	Settings []setting
	Removed  []removed
	Log      *runLog // nil where there is none
	View     logView // what the reader wants of the log
	LogCut   bool    // the page shows only the log's beginning
	NoLog    string  // why there is none
	Long     bool    // record and log are too long for a page, and left out
	Queue    *forecast.Row
	Held     bool     // no queued run starts at the moment
	Pull     string   // address of the pull request; "" where none is known
	Commands []string // comments on the pull request that act on this run
}

type stageView struct {
	Name     ccci.StageName
	Status   ccci.CheckStatus
	Refused  bool
	Running  bool
	Reason   string
	Took     string
	Checks   []ccci.Check
	Unwanted bool // the comment did not ask for it
	Missed   bool // the run ended before it
}

// Mark is the stage's symbol, word and colour.
func (s stageView) Mark() mark {
	switch {
	case s.Running:
		return markOf(ccci.StatusRunning)
	case s.Unwanted:
		return mark{"skip", ccci.WordNotAskedFor, "idle"}
	case s.Missed:
		return mark{"dot", ccci.WordNotReached, "idle"}
	}
	return rowMark(ccci.StageRow{Status: s.Status, Refused: s.Refused})
}

type fileView struct {
	Title, Kind, Path, URL string
	Size                   int64
}

type setting struct{ Key, Value string }

type removed struct {
	Kind  string
	Count int
}

func (d *Dashboard) findRun(r *http.Request) (ccci.Run, error) {
	id := r.PathValue("id")
	if !validRunID(id) {
		return ccci.Run{}, ccci.Errorf(ccci.CodeNotFound, "%q is not a run", id).WithHint("The list of runs has them all.")
	}
	run, err := d.cfg.Store.FindRun(r.Context(), ccci.RunID(id))
	if errors.Is(err, ccci.ErrNotFound) {
		return ccci.Run{}, ccci.Errorf(ccci.CodeNotFound, "There is no run %s", id).WithHint("It may have been removed to make room. The list of runs has those that are left.")
	}
	if err != nil {
		return ccci.Run{}, fmt.Errorf("reading run %s: %w", id, err)
	}
	return run, nil
}

// run shows one run.
func (d *Dashboard) run(w http.ResponseWriter, r *http.Request) error {
	page, release, err := d.runPage(r)
	if err != nil {
		return err
	}
	defer release()
	d.send(w, r, http.StatusOK, page)
	return nil
}

// runPage draws one run: live while it goes on, and everything that is known of it after. The
// page's room is released when its reader has it.
func (d *Dashboard) runPage(r *http.Request) (page []byte, release func(), err error) {
	run, err := d.findRun(r)
	if err != nil {
		return nil, nil, err
	}
	withLog := r.URL.Query().Get("live") == "" // a page that refreshes its record has the log already
	if withLog || run.Status.Terminal() {      // logs and results are long
		leave, err := d.turn(r)
		if err != nil {
			return nil, nil, err
		}
		defer leave()
	}
	b := runBody{Run: run, Stages: stageViews(run, nil), View: readLogView(r.URL.Query()), Pull: d.pullOf(run), Commands: commandsFor(run)}
	if run.Status.Terminal() {
		d.fillFromResult(r, &b)
	}
	if b.Cause == nil && run.Cause != "" {
		b.Cause, b.Message = &ccci.Cause{Message: run.Cause}, run.Cause
	}
	b.Blame, b.Bases = report.Blame(run, b.Result), report.Bases(b.Result)
	if run.Status != ccci.StatusPassed || run.Merge.IsZero() { // what was merged counts already, or does not
		b.Next = report.Next(run, b.Result)
	}
	if withLog {
		d.fillLog(r, &b)
	}
	if !run.Status.Terminal() {
		if err := d.fillQueue(r, &b); err != nil {
			return nil, nil, err
		}
	}
	f := frame{Title: fmt.Sprintf("%s, run %s", run.Recipe, run.ID), Nav: "runs", Body: b}
	if !run.Status.Terminal() && b.View.Query == "" { // what was searched for stays as it is
		f.Refresh = 10
		f.Live = fmt.Sprintf("/runs/%s/events", run.ID)
	}
	page, err = d.draw("run", f)
	if errors.Is(err, errLong) {
		f.Body = runBody{Run: run, Stages: stageViews(run, nil), Cause: &ccci.Cause{Message: run.Cause}, Message: run.Cause, Blame: b.Blame, Next: b.Next, Queue: b.Queue, Held: b.Held, Pull: b.Pull, Commands: b.Commands, Long: true}
		page, err = d.draw("run", f)
	}
	if err != nil {
		return nil, nil, err
	}
	release, ok := d.hold(r, page)
	if !ok {
		return nil, nil, errBusy
	}
	return page, release, nil
}

// fillFromResult fills in what the result of a finished run says. One that cannot be read is
// left out: the rest of the page still helps.
func (d *Dashboard) fillFromResult(r *http.Request, b *runBody) {
	res, err := d.facts.of(r.Context(), b.Run.ID)
	if err != nil {
		d.log.Error("reading a result", "run", b.Run.ID, "error", err)
	}
	if res == nil {
		b.Missing = !b.Run.Started.IsZero()
		return
	}
	b.Result, b.Cause = res, res.Cause
	if b.Run.Options.Whole() && b.Run.Status.Judged() && b.Run.Level < 5 && !saysTheCause(res) {
		b.Why = res.LevelReason
	}
	if res.Cause != nil {
		b.Message, b.Hint = report.CauseWords(b.Run, res)
	}
	b.Broken = report.BrokenBases(b.Run, res)
	b.Lint, b.Warnings = report.Remarks(b.Run, res)
	b.Reviewed, b.Refused = report.Reviewed(res)
	if res.Cause != nil && b.Run.Cause != report.OneLine(res.Cause) {
		b.Ended = b.Run.Cause
	}
	b.Stages = saidOnce(stageViews(b.Run, res), res.Cause, b.Why)
	b.Pictures = append(pictures(res, "screenshot"), pictures(res, "difference")...)
	for _, a := range res.Artifacts {
		b.Files = append(b.Files, fileView{Title: a.Title, Kind: a.Kind, Path: a.Path, Size: a.Size, URL: fileURL(b.Run.ID, a.Path)})
	}
	for _, key := range slices.Sorted(maps.Keys(res.Settings)) {
		b.Settings = append(b.Settings, setting{key, res.Settings[key]})
	}
	if res.Teardown != nil {
		for _, kind := range slices.Sorted(maps.Keys(res.Teardown.Removed)) {
			if n := res.Teardown.Removed[kind]; n > 0 {
				b.Removed = append(b.Removed, removed{kind, n})
			}
		}
	}
}

func (d *Dashboard) fillLog(r *http.Request, b *runBody) {
	data, whole, err := d.writtenSoFar(r.Context(), b.Run, pageLogLimit)
	switch {
	case errors.Is(err, ccci.ErrNotFound) && b.Run.Status.Terminal() && b.Run.Started.IsZero():
		b.NoLog = "The run never started, so it has no log."
	case errors.Is(err, ccci.ErrNotFound) && b.Run.Status.Terminal():
		b.NoLog = "The log of this run is no longer there."
	case errors.Is(err, ccci.ErrNotFound):
		b.NoLog = "The log begins when the run does."
	case err != nil:
		d.log.Error("reading a log", "run", b.Run.ID, "error", err)
		b.NoLog = "The log cannot be read at the moment."
	default:
		b.LogCut = len(data) == pageLogLimit && !whole
		b.Log = cutLog(data, whole && b.Run.Status.Terminal(), b.View)
	}
}

func (d *Dashboard) fillQueue(r *http.Request, b *runBody) error {
	runs, err := d.unfinished(r.Context())
	if err != nil {
		return err
	}
	b.Held = d.held() != ""
	rows, err := d.forecastOf(r.Context(), runs)
	if err != nil {
		return err
	}
	for i := range rows {
		if rows[i].Run.ID == b.Run.ID {
			b.Queue = &rows[i]
		}
	}
	return nil
}

// saysTheCause reports whether the reason of the level is the cause, which the page has above: it
// is that of the stage in which the cause is.
func saysTheCause(res *ccci.Result) bool {
	if res.Cause == nil || res.Cause.Message == "" {
		return false
	}
	if strings.Contains(res.LevelReason, res.Cause.Message) {
		return true
	}
	stage, _, _ := strings.Cut(res.Cause.Check, "/")
	for _, rung := range ccci.Ladder() {
		if rung.Has(ccci.StageName(stage)) {
			return strings.HasPrefix(res.LevelReason, rung.Name+": ")
		}
	}
	return false
}

// saidOnce leaves out of the stages what the cause or the reason of the level says above them, and a
// reason that the stage before has too.
func saidOnce(views []stageView, cause *ccci.Cause, why string) []stageView {
	last := ""
	for i := range views {
		v := &views[i]
		if cause != nil && (cause.Check == string(v.Name) || strings.HasPrefix(cause.Check, string(v.Name)+"/")) && v.Status != ccci.Pass {
			v.Reason = ""
			v.Checks = slices.Clone(v.Checks) // they are the result's
			for k := range v.Checks {
				if c := &v.Checks[k]; c.Name == cause.Check {
					c.Message, c.Detail = "the cause, see above", nil
				}
			}
		}
		reason := v.Reason
		if reason != "" && (reason == last || strings.HasSuffix(why, ": "+reason)) {
			v.Reason = ""
		}
		last = reason
	}
	return views
}

// stageViews merges what the result says of each stage with what the run
// showed while it went on. The result has the last word.
func stageViews(run ccci.Run, result *ccci.Result) []stageView {
	var all []stageView
	for _, name := range ccci.StageNames {
		v := stageView{Name: name, Unwanted: !run.Options.Wants(name)}
		for _, row := range run.Stages {
			if row.Name == name {
				v.Status, v.Refused, v.Running, v.Reason, v.Took = row.Status, row.Refused, row.Running && !run.Status.Terminal(), row.Reason, duration(row.Duration)
			}
		}
		if result != nil {
			for _, s := range result.Stages {
				if s.Name == name {
					v.Status, v.Refused, v.Reason, v.Took, v.Checks = s.Status, s.Refused(), s.Reason, duration(s.Duration), s.Checks
				}
			}
		}
		v.Unwanted = v.Unwanted && (v.Status == "" || v.Status == ccci.Unverified && len(v.Checks) == 0)
		v.Missed = v.Status == "" && run.Status.Terminal() && !v.Unwanted
		if v.Reason = strings.TrimSpace(v.Reason); v.Unwanted && v.Reason == ccci.WordNotAskedFor { // which its word says
			v.Reason = ""
		}
		all = append(all, v)
	}
	return all
}
