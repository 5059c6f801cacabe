package dashboard

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forecast"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// functions are what templates may call.
func (d *Dashboard) functions() template.FuncMap {
	return template.FuncMap{
		"asset":    d.assets.path,
		"icon":     icon,
		"mark":     markOf,
		"run":      runMark,
		"check":    checkMark,
		"outcome":  func(c ccci.Check) mark { return rowMark(c.Row()) },
		"turn":     func(c checkRow) mark { return rowMark(c.Row()) },
		"commit":   commitMark,
		"stale":    func() mark { return staleMark },
		"untested": func() mark { return untestedMark },
		"ago":      d.ago,
		"start":    func(r forecast.Row, held bool) forecast.Start { return r.Expected(d.now(), held) },
		"stamp":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"day":      func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04") },
		"duration": duration,
		"size":     size,
		"title":    title,
		"took":     d.took,
		"rungs":    rungs,
		"ladder":   ccci.Ladder,
		"rule":     func() string { return ccci.LevelRule },
		"comma":    func(list []string) string { return strings.Join(list, ", ") },
		"skipped":  func(run ccci.Run) []string { return ccci.Skipped(run.Stages) },
		"level":    func(level int) string { return fmt.Sprintf("l%d", min(max(level, 0), 5)) },
		"stage":    stageTail,
		"initial":  func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) },
		"inc":      func(i int) int { return i + 1 },
		"plain":    plain,
		"list":     listOf,
		"stages":   func(run ccci.Run) []stageView { return stageViews(run, nil) },
		"lines":    lineCount,
		"part":     report.Part,
	}
}

// rungs are the classes of the five bars of a run's level.
func rungs(run ccci.Run) (classes []string) {
	for _, rung := range ccci.Ladder()[1:] {
		class := ""
		switch {
		case rung.Level > run.Level:
		case rung.Skipped(run.Stages):
			class = "skip"
		default:
			class = "on"
		}
		classes = append(classes, class)
	}
	return classes
}

// runList is what the shared table of runs is rendered with.
type runList struct {
	Runs       []ccci.Run
	WithRecipe bool
	Caption    string
}

func listOf(runs []ccci.Run, withRecipe bool, caption string) runList {
	return runList{Runs: runs, WithRecipe: withRecipe, Caption: caption}
}

// mark is how a state is shown: always as a symbol, a word and a colour.
type mark struct {
	Icon  string // name of a symbol
	Word  string
	Class string // colour
}

// looks are the symbol and the colour of each status; the words are [ccci.Status.Word]'s.
var looks = map[ccci.Status][2]string{
	ccci.StatusQueued:       {"clock", "idle"},
	ccci.StatusRunning:      {"spin", "run"},
	ccci.StatusPassed:       {"pass", "pass"},
	ccci.StatusFailed:       {"fail", "fail"},
	ccci.StatusRefused:      {"stop", "fail"},
	ccci.StatusInconclusive: {"ask", "err"},
	ccci.StatusFlaky:        {"ask", "err"},
	ccci.StatusErrored:      {"warn", "err"},
	ccci.StatusCancelled:    {"stop", "idle"},
}

var (
	staleMark    = mark{"clock", ccci.WordStale, "idle"}
	untestedMark = mark{"dot", ccci.WordNotTested, "idle"}
)

func markOf(s ccci.Status) mark {
	if look, ok := looks[s]; ok {
		return mark{look[0], s.Word(), look[1]}
	}
	return mark{"ask", s.Word(), "idle"}
}

// runMark is the mark of a run, whose word may be another than that of its status.
func runMark(r ccci.Run) mark {
	m := markOf(r.Status)
	m.Word = r.Word()
	return m
}

var checkLooks = map[ccci.CheckStatus][2]string{
	ccci.Pass:       {"pass", "pass"},
	ccci.Fail:       {"fail", "fail"},
	ccci.Skip:       {"skip", "skip"},
	ccci.Unverified: {"ask", "skip"},
	ccci.Flaky:      {"ask", "err"},
	"":              {"dot", "idle"},
}

func checkMark(s ccci.CheckStatus) mark { return rowMark(ccci.StageRow{Status: s}) }

// rowMark is the mark of a stage's or a check's outcome.
func rowMark(row ccci.StageRow) mark {
	look, ok := checkLooks[row.Status]
	switch {
	case row.Refused:
		look = looks[ccci.StatusRefused]
	case !ok:
		look = [2]string{"ask", "idle"}
	}
	return mark{look[0], row.Word(), look[1]}
}

// commitMark shows the state of a commit status, in the forges' own words.
func commitMark(s ccci.StatusState) mark {
	switch s {
	case ccci.StateSuccess:
		return mark{"pass", string(s), "pass"}
	case ccci.StateFailure:
		return mark{"fail", string(s), "fail"}
	case ccci.StateError:
		return mark{"warn", string(s), "err"}
	}
	return mark{"spin", string(ccci.StatePending), "run"}
}

// icons are drawn on a grid of 16 by 16.
var icons = map[string]string{
	"pass":  `<circle cx="8" cy="8" r="7" class="f"/><path d="m4.8 8.3 2.2 2.2 4.2-4.6" class="k"/>`,
	"fail":  `<circle cx="8" cy="8" r="7" class="f"/><path d="m5.5 5.5 5 5m0-5-5 5" class="k"/>`,
	"warn":  `<path d="M8 1.2 15.3 14H.7Z" class="f j"/><path d="M8 6v3.6m0 1.9v.3" class="k"/>`,
	"stop":  `<circle cx="8" cy="8" r="6.2" class="s"/><path d="M4 12 12 4" class="s"/>`,
	"clock": `<circle cx="8" cy="8" r="6.2" class="s"/><path d="M8 4.5V8l2.4 1.6" class="s"/>`,
	"spin":  `<circle cx="8" cy="8" r="6.2" class="s o"/><path d="M8 1.8A6.2 6.2 0 0 1 14.2 8" class="s"/>`,
	"skip":  `<circle cx="8" cy="8" r="6.2" class="s"/><path d="M5 8h6" class="s"/>`,
	"ask":   `<circle cx="8" cy="8" r="6.2" class="s"/><path d="M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.6.3-.8.6-.8 1.2m0 1.9v.2" class="s"/>`,
	"dot":   `<circle cx="8" cy="8" r="6.2" class="s o"/>`,
	"next":  `<path d="m6 3 5 5-5 5" class="s"/>`,
	"prev":  `<path d="m10 3-5 5 5 5" class="s"/>`,
	"file":  `<path d="M4 1.8h5l3.2 3.2v9.2H4Zm5 0V5h3.2" class="s"/>`,
	"pull":  `<circle cx="4" cy="3.5" r="1.8" class="s"/><circle cx="4" cy="12.5" r="1.8" class="s"/><circle cx="12" cy="12.5" r="1.8" class="s"/><path d="M4 5.3v5.4M12 10.7V7c0-2-1-3-3-3H7.4m1.8-2L7.3 4l1.9 2" class="s"/>`,
	"logo":  `<path d="M8 1.2c3.8 0 6.8 3 6.8 6.8s-3 6.8-6.8 6.8-6.8-3-6.8-6.8 3-6.8 6.8-6.8Z" class="f"/><path d="M10.6 5.9a3.4 3.4 0 1 0 0 4.2" class="k"/>`,
}

// icon returns a symbol that screen readers pass over: the word beside it says the same.
func icon(name string) template.HTML {
	class := "icon"
	if name == "spin" {
		class += " spin"
	}
	//nolint:gosec // from the table above
	return template.HTML(`<svg class="` + class + `" viewBox="0 0 16 16" aria-hidden="true" focusable="false">` + icons[name] + `</svg>`)
}

// ago says how long ago t was, in words that stay short.
func (d *Dashboard) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return report.Ago(t, d.now())
}

// duration prints a span as a person would say it: 480 ms, 3.2 s, 1 min 04 s.
func duration(t time.Duration) string {
	switch {
	case t <= 0:
		return ""
	case t < time.Second:
		return fmt.Sprintf("%d ms", max(t.Milliseconds(), 1))
	case t < 10*time.Second:
		return fmt.Sprintf("%.1f s", t.Seconds())
	case t < time.Minute:
		return fmt.Sprintf("%d s", int(t.Seconds()+0.5))
	case t < time.Hour:
		t = t.Round(time.Second)
		return fmt.Sprintf("%d min %02d s", int(t/time.Minute), int(t%time.Minute/time.Second))
	}
	t = t.Round(time.Minute)
	return fmt.Sprintf("%d h %02d min", int(t/time.Hour), int(t%time.Hour/time.Minute))
}

// size prints bytes in binary units.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		v, unit = v/1024, u
		if v < 1024 {
			break
		}
	}
	if v < 10 {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// title makes a heading of a word.
func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// took is how long a run has been, or was, at work.
func (d *Dashboard) took(run ccci.Run) string {
	switch {
	case run.Started.IsZero():
		return ""
	case run.Status.Terminal() && !run.Finished.IsZero():
		return duration(run.Finished.Sub(run.Started))
	case run.Status.Terminal():
		return ""
	}
	return duration(d.now().Sub(run.Started).Truncate(time.Second))
}

// stageTail cuts the stage off a check's name: the table it stands in says it.
func stageTail(name string) string {
	if _, tail, ok := strings.Cut(name, "/"); ok {
		return strings.ReplaceAll(tail, "-", " ")
	}
	return name
}

func lineCount(n int) string {
	if n == 1 {
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}
