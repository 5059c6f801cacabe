package dashboard_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// keepChecks stores what the checks of a run said.
func (w *world) keepChecks(run ccci.Run, status ccci.CheckStatus) {
	w.t.Helper()
	if err := w.store.KeepChecks(w.t.Context(), run.ID, []ccci.CheckOutcome{
		{Name: "install/serves", Status: ccci.Pass, Duration: 3 * time.Second},
		{Name: "checks/a-check-with-a-rather-long-name-that-says-everything-which-it-is-about-and-more", Status: status, Duration: 2 * time.Second},
	}); err != nil {
		w.t.Fatal(err)
	}
}

// P17, N14: a recipe's page has each check with what it says now, since which commit, and its rate.
func TestP17_TheRecipePageSaysWhereACheckTurned(t *testing.T) {
	w := newWorld(t)
	if body := w.page("/recipes/gitea"); strings.Contains(body, `id="checks"`) {
		t.Error("a recipe without runs has checks")
	}
	var runs []ccci.Run
	for i, status := range []ccci.CheckStatus{ccci.Pass, ccci.Fail, ccci.Flaky, ccci.Flaky} { // oldest first
		ended := map[ccci.CheckStatus]ccci.Status{ccci.Pass: ccci.StatusPassed, ccci.Fail: ccci.StatusFailed, ccci.Flaky: ccci.StatusFlaky}[status]
		run := w.add("pocketbase", time.Duration(10-i)*time.Hour, ended, func(r *ccci.Run) { r.Level = 3 })
		w.keepChecks(run, status)
		runs = append(runs, run)
	}
	w.add("pocketbase", time.Hour, ccci.StatusErrored, nil) // nothing is known of its checks
	body := w.page("/recipes/pocketbase")
	wantAll(t, body, `id="checks"`, "Of 2 checks 1 passed, 1 flaky; 1 had a flaky run among the last 20.", "2 of the last 4 runs",
		fmt.Sprintf(`<a href="/runs/%s"><span>before </span><span class="mono">%s</span>`, runs[0].ID, runs[0].Commit.Short()), // in every run that is known
		fmt.Sprintf(`<a href="/runs/%s"><span class="mono">%s</span>`, runs[2].ID, runs[2].Commit.Short()),
		"3.0 s")
	if res, _ := w.get("/recipes/pocketbase"); res.StatusCode != http.StatusOK {
		t.Errorf("%s", res.Status)
	}
}

// P17, N7: a check in which the recipe was refused reads "refused" in the table of a recipe's checks.
func TestP17_TheTableOfChecksSaysRefused(t *testing.T) {
	w := newWorld(t)
	run := w.add("pocketbase", time.Hour, ccci.StatusRefused, nil)
	if err := w.store.KeepChecks(t.Context(), run.ID, []ccci.CheckOutcome{{Name: "install/fetch", Status: ccci.Pass}, {Name: "install/admitted", Status: ccci.Fail}}); err != nil {
		t.Fatal(err)
	}
	body := w.page("/recipes/pocketbase")
	_, table, _ := strings.Cut(body, `id="checks"`)
	wantAll(t, table, "Of 2 checks 1 passed, 1 refused.", "<span>refused</span>")
	if strings.Contains(table, "failed</span>") {
		t.Errorf("the check failed:\n%s", table)
	}
}

// N14: a flaky run is no pass: on the badge, the overview and the lists it says so.
func TestN14_FlakyIsNotPassing(t *testing.T) {
	w := newWorld(t)
	w.add("pocketbase", time.Hour, ccci.StatusFlaky, func(r *ccci.Run) { r.Level = 3 })
	_, badge := w.get("/badge/pocketbase.svg")
	wantAll(t, badge, "flaky, level 3")
	if strings.Contains(badge, "#1a7f37") || strings.Contains(badge, "#856a00") {
		t.Errorf("the badge has the colour of a level: %s", badge)
	}
	wantAll(t, w.page("/"), "flaky", `/?status=flaky`)
	if body := w.page("/?status=passed"); strings.Contains(body, `href="/recipes/pocketbase"`) {
		t.Error("it is listed among those that pass")
	}
	wantAll(t, w.page("/recipes/pocketbase"), "flaky", "level 3")
}
