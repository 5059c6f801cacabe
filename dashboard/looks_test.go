package dashboard_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
)

// bigWorld is an installation with 250 recipes, names of 60 characters and a log of 10000 lines.
func bigWorld(t *testing.T) (w *world, runs map[string]ccci.Run) {
	w = newWorld(t, func(c *dashboard.Config) { c.Forge = nil; c.Recipes = func() []string { return []string{longName(0)} } })
	w.crowd(250)
	address := "https://git.example.org/recipes/" + longName(0)
	runs = map[string]ccci.Run{"long": w.longRun(10_000)}
	runs["passed"] = w.add(longName(0), 40*time.Minute, ccci.StatusPassed, func(r *ccci.Run) {
		r.Level, r.PullURL, r.Version = 5, address+"/pulls/1", "12.34.56+2026.11.30-alpine3.22"
	})
	w.savePassed(runs["passed"])
	runs["failed"] = w.add(longName(7), 30*time.Minute, ccci.StatusFailed, func(r *ccci.Run) {
		r.Level, r.PullURL, r.CloneURL = 1, address+"/pulls/1", address+".git"
		r.Cause = "upgrade/converged: swarm rolled app back to the old version"
	})
	w.saveFailed(runs["failed"])
	w.manyChecks(runs["passed"], runs["failed"])
	by := ccci.Supersession{Run: runs["passed"].ID}
	w.add(longName(3), 20*time.Minute, ccci.StatusCancelled, func(r *ccci.Run) { r.CancelledBy, r.Superseded = "ada", by })
	runs["running"] = w.add(longName(1), 10*time.Minute, ccci.StatusRunning, func(r *ccci.Run) {
		r.Attempt = 2
		r.Stages = []ccci.StageRow{{Name: ccci.StageInstall, Running: true}}
	})
	w.engine.log(runs["running"].Build).write("##[stage install begin]\nfirst\n=== cc-ci: attempt 2, because cc-ci died during attempt 1 ===\n"+longLog(3000), false)
	for i := range 4 {
		w.add(longName(i+2), time.Duration(i+1)*time.Minute, ccci.StatusQueued, nil)
	}
	return w, runs
}

// manyChecks gives each recipe a history of checks with names of 60 characters.
func (w *world) manyChecks(newest ...ccci.Run) {
	for _, now := range newest {
		for i, run := range []ccci.Run{w.add(now.Recipe, 90*time.Hour, ccci.StatusPassed, func(r *ccci.Run) { r.Level, r.Version = 5, now.Version }), now} {
			var all []ccci.CheckOutcome
			for k, status := range []ccci.CheckStatus{ccci.Pass, ccci.Pass, ccci.Flaky, ccci.Fail, ccci.Skip, ccci.Unverified} {
				if i == 0 {
					status = ccci.Pass
				}
				all = append(all, ccci.CheckOutcome{Name: fmt.Sprintf("checks/%02d-%s", k, longName(k)[:50]), Status: status, Duration: time.Duration(k*40) * time.Second})
			}
			if err := w.store.KeepChecks(w.t.Context(), run.ID, all); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// A27: with many recipes, long names and long logs the pages stay short, nothing is wider than the
// window, and axe finds nothing, on a phone and on a desk, in both colour schemes.
func TestA27_ManyRecipesInABrowser(t *testing.T) {
	b := openBrowser(t)
	w, runs := bigWorld(t)
	pages := []struct {
		name, path string
		height     int // most pixels at 390, 0 for no bound
	}{
		{"list", "/", 6500}, {"list-search", "/?q=recipe-12", 2500}, {"list-last", "/?page=5", 6500}, {"cards", "/?view=cards", 6500},
		{"recipe", "/recipes/" + longName(0), 0}, {"recipe-failed", "/recipes/" + longName(7), 0}, {"runs", "/runs", 3650}, {"queue", "/queue", 3000},
		{"run-long", "/runs/" + string(runs["long"].ID), 6000}, {"run-line", "/runs/" + string(runs["long"].ID) + "?line=5000#L5000", 6000}, {"run-search", "/runs/" + string(runs["long"].ID) + "?q=request+77", 6000},
		{"run-passed", "/runs/" + string(runs["passed"].ID), 0}, {"run-failed", "/runs/" + string(runs["failed"].ID), 0}, {"run-running", "/runs/" + string(runs["running"].ID), 0},
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{390, 1280} {
			b.show(width, scheme)
			for _, p := range pages {
				name := fmt.Sprintf("big-%s-%s-%d", p.name, scheme, width)
				b.open(w.server.URL + p.path)
				if height := eval[int](b, `document.documentElement.scrollHeight`); p.height > 0 && height > p.height {
					t.Errorf("%s: it is %d px high", name, height)
				}
				b.shoot(name)
				for _, wrong := range append(eval[[]string](b, audit), b.axe()...) {
					t.Errorf("%s: %s", name, wrong)
				}
			}
		}
	}
	if troubles, _ := b.taken(); len(troubles) > 0 {
		t.Errorf("troubles: %q", troubles)
	}
}

// The bars of a trend are links that the keyboard reaches, and a log can be scrolled by it.
func TestTrendAndLogByKeyboard(t *testing.T) {
	b := openBrowser(t)
	w := newWorld(t)
	runs := w.populate()
	b.show(1280, "light")
	b.open(w.server.URL + "/recipes/pocketbase")
	if n := eval[int](b, `[...document.querySelectorAll(".trend a")].filter((a) => { a.focus(); return document.activeElement === a && a.getAttribute("aria-label"); }).length`); n < 30 {
		t.Errorf("the keyboard reaches %d bars", n)
	}
	b.open(w.server.URL + "/runs/" + string(runs["failed"].ID))
	wrong := eval[[]string](b, `[...document.querySelectorAll("pre, .lines")].filter((e) => e.tabIndex !== 0 || !e.getAttribute("aria-label")).map((e) => e.outerHTML.slice(0, 100))`)
	if len(wrong) > 0 {
		t.Errorf("blocks that scroll cannot be focused or have no name: %s", strings.Join(wrong, "\n"))
	}
}
