package dashboard_test

import (
	"encoding/json"
	"flag"
	"html"
	"image/color"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// N12: what a maintainer reads first on the page of a run, for each kind of end. The records are those whose
// comments the harness keeps beside them: go test ./harness -run Comment -update rewrites both.
func TestN12_PagesOfRealResults(t *testing.T) {
	for _, name := range []string{"broken-base", "older-base", "both-broken", "both-differ", "from-broken", "quick-broken", "refused", "refused-but-waivable", "missing-image", "registry-down",
		"proxy-404", "deadline", "flaky", "failed-twice", "unhealthy", "no-volume", "no-backup", "no-browser", "abra-refuses"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			run := w.recorded(name)
			pageGolden(t, name, w.page("/runs/"+string(run.ID)))
		})
	}
	for name, by := range supersessions {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			pageGolden(t, name, w.page("/runs/"+string(w.superseded(by).ID)))
		})
	}
	t.Run("killed-deadline", func(t *testing.T) { // by the engine, so that there is a cause of the run and one of its result
		w := newWorld(t)
		run := w.add("canary-good", time.Hour, ccci.StatusInconclusive, func(r *ccci.Run) { r.Cause, r.Merge = "the run took longer than 1 h 0 min and was ended", ccci.Merge{} })
		res := w.baseResult(run)
		res.Cause = &ccci.Cause{Check: "install/serves", Message: "not finished when the run was ended: https://cana-a1b2c3.ci.example.org/ answered 503, expected 200"}
		res.Stages = []ccci.Stage{stageOf(run, ccci.StageInstall, time.Second, ccci.Check{Name: "install/serves", Status: ccci.Unverified, Message: "interrupted"})}
		w.saveResult(res)
		pageGolden(t, "killed-deadline", w.page("/runs/"+string(run.ID)))
	})
}

// recorded adds a run whose record the tests of the harness keep, with its result and its checks.
func (w *world) recorded(name string) ccci.Run {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "harness", "testdata", "results", name+".json"))
	if err != nil {
		w.t.Fatal(err)
	}
	var record struct {
		Run    ccci.Run
		Result ccci.Result
	}
	if err := json.Unmarshal(text, &record); err != nil {
		w.t.Fatal(err)
	}
	run := w.add(record.Run.Recipe, time.Hour, record.Run.Status, func(r *ccci.Run) {
		r.Commit, r.Options, r.Cause, r.Merge = record.Run.Commit, record.Run.Options, record.Run.Cause, ccci.Merge{}
		r.Version, r.Level = record.Result.Version, record.Result.Level
	})
	record.Result.RunID = run.ID
	w.saveResult(record.Result)
	for _, a := range record.Result.Artifacts {
		if a.Kind == "screenshot" {
			w.put(ccci.ArtifactKey(run.ID, a.Path), screenshot(color.RGBA{20, 22, 40, 255}, 4))
		}
	}
	if err := w.store.KeepChecks(w.t.Context(), run.ID, record.Result.Outcomes()); err != nil {
		w.t.Fatal(err)
	}
	return run
}

// supersessions are what makes a run that waits pointless.
var supersessions = map[string]ccci.Supersession{
	"superseded-by-commit": {Run: "260314-113000-d4e5f6", Head: "0123456789abcdef0123456789abcdef01234567"},
	"superseded-by-push":   {Head: "0123456789abcdef0123456789abcdef01234567"},
}

// superseded adds a run that was superseded while it waited.
func (w *world) superseded(by ccci.Supersession) ccci.Run {
	w.t.Helper()
	return w.add("canary-good", time.Hour, ccci.StatusCancelled, func(r *ccci.Run) {
		r.Started, r.Merge, r.CancelledBy, r.Superseded = time.Time{}, ccci.Merge{}, "cc-ci", by
	})
}

func pageGolden(t *testing.T, name, page string) {
	t.Helper()
	got := visibleText(page)
	path := filepath.Join("testdata", "pages", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
	}
}

var (
	piece = regexp.MustCompile(`(?s)<!--.*?-->|<(/?)([a-zA-Z0-9]+)((?:[^>"]|"[^"]*")*)>|[^<]+`)
	empty = []string{"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "path", "circle", "rect", "line", "polyline"}
	mute  = []string{"script", "style", "template", "svg", "button", "input"}
	// inline are the elements that begin no line of their own. A cell is one of its row.
	inline = []string{"a", "b", "i", "span", "code", "time", "label", "td", "th", "sup", "strong", "em", "button", "svg"}
)

// visibleText is what a reader sees of the main part of a page without JavaScript, a line for each line: what is
// hidden, is for screen readers alone or is folded away is left out; lines of logs and of files begin with "| ", and so are the settings and levels, which every page has.
func visibleText(page string) string {
	type element struct {
		name  string
		mute  bool
		folds bool // a details that is closed: of it only the summary is seen
	}
	var open []element
	var b strings.Builder
	for _, m := range piece.FindAllStringSubmatch(page, -1) {
		quiet := func() bool {
			folded := false
			for i, e := range open {
				if e.folds && (i+1 == len(open) || open[i+1].name != "summary") {
					folded = true
				}
				if e.mute {
					return true
				}
			}
			return folded || !slices.ContainsFunc(open, func(e element) bool { return e.name == "main" })
		}
		name := strings.ToLower(m[2])
		switch {
		case name == "" && !quiet():
			text := html.UnescapeString(m[0])
			if slices.ContainsFunc(open, func(e element) bool { return e.name == "pre" }) {
				text = "| " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n| ")
			}
			b.WriteString(text)
		case name == "":
		case m[1] == "/":
			for i := len(open) - 1; i >= 0; i-- {
				if open[i].name == name {
					open = open[:i]
					break
				}
			}
			fallthrough
		default:
			if !slices.Contains(inline, name) && !quiet() {
				b.WriteString("\n")
			} else if name == "td" || name == "th" || name == "span" && strings.Contains(m[3], "class=") {
				b.WriteString(" ")
			}
			if m[1] == "" && !slices.Contains(empty, name) {
				class := regexp.MustCompile(`class="([^"]*)"`).FindStringSubmatch(m[3])
				hidden := regexp.MustCompile(`(^|\s)hidden(\s|$|=)`).MatchString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(m[3], ""))
				unseen := slices.Contains(mute, name) || hidden || class != nil && slices.Contains(strings.Fields(class[1]), "sr") ||
					strings.Contains(m[3], `id="levels"`) || strings.Contains(m[3], `aria-labelledby="settings-title"`)
				open = append(open, element{name, unseen, name == "details" && !regexp.MustCompile(`(^|\s)open(\s|$)`).MatchString(m[3])})
			}
		}
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
