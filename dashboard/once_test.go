package dashboard_test

import (
	"html"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// N12: a page says a cause once, lists what is refused with the waivers to paste, and names the release that does
// not install.
func TestN12_APageSaysACauseOnce(t *testing.T) {
	const why = "the recipe asks for 2 settings that cc-ci does not allow"
	w := newWorld(t)
	run := w.add("miniflux", time.Hour, ccci.StatusRefused, func(r *ccci.Run) { r.Cause = "install/admitted: " + why })
	notRun := ccci.Stage{Name: ccci.StageBackup, Status: ccci.Unverified, Reason: "not run: install did not pass"}
	r := w.baseResult(run)
	r.Status, r.LevelReason = run.Status, "install: "+why
	r.Cause = &ccci.Cause{Check: "install/admitted", Code: ccci.CodeRefused, Message: why, Findings: []ccci.Finding{
		{Rule: "privileged", Severity: "error", File: "compose.yml", Line: 5, Message: "service app asks for privileged mode", Waiver: "- {rule: privileged}"}}}
	r.BrokenBases = []ccci.BrokenBase{{Version: "1.0.0+2.0", What: "the last release", Cause: ccci.Cause{Check: "install/converged", Message: "its task was rejected"}}}
	r.Stages = []ccci.Stage{{Name: ccci.StageInstall, Status: ccci.Fail, Reason: why, Checks: []ccci.Check{{Name: "install/admitted", Status: ccci.Fail, Code: ccci.CodeRefused, Message: why}}}, notRun}
	notRun.Name = ccci.StageRestore
	r.Stages = append(r.Stages, notRun)
	w.saveResult(r)
	body := html.UnescapeString(w.page("/runs/" + string(run.ID)))
	for text, want := range map[string]int{
		why: 1, "not run: install did not pass": 1, "compose.yml:5": 1, "- {rule: privileged}": 1,
		`<span>refused</span>`: 3, `<span>failed</span>`: 0,
		"Install of 1.0.0+2.0, the last release, failed": 1, "its task was rejected": 1, "refused": -1,
	} {
		if n := strings.Count(body, text); n != want && !(want < 0 && n > 0) {
			t.Errorf("%q is said %d times, want %d", text, n, want)
		}
	}
}

// A28: a run that came to no verdict leaves what is known of its recipe as it is, and the page and
// the card say that there was one.
func TestA28_NoVerdictDisplacesNone(t *testing.T) {
	w := newWorld(t)
	sweep := func(recipe string, age time.Duration, status ccci.Status, level int) ccci.Run {
		return w.add(recipe, age, status, func(r *ccci.Run) { // 48 hours make it stale
			r.PR, r.Trigger, r.Branch, r.Level = ccci.PRRef{}, ccci.TriggerSweep, "main", level
		})
	}
	sweep("miniflux", 3*time.Hour, ccci.StatusPassed, 5)
	vain := sweep("miniflux", 2*time.Hour, ccci.StatusErrored, 0)
	sweep("hedgedoc", time.Hour, ccci.StatusErrored, 0)
	judged := w.add("pocketbase", 3*time.Hour, ccci.StatusFailed, func(r *ccci.Run) { r.PR.Number, r.Level = 7, 2 })
	w.add("pocketbase", time.Hour, ccci.StatusInconclusive, func(r *ccci.Run) { r.PR.Number = 7 })
	for address, want := range map[string]string{
		"/badge/miniflux.svg": "cc-ci: level 5<", "/badge/hedgedoc.svg": "cc-ci: infrastructure errored<", "/badge/pocketbase.svg?pr=7": "cc-ci: failed, level 2<",
		"/recipes/miniflux":   `A <a href="/runs/` + string(vain.ID) + `">newer run</a>`,
		"/":                   `last <a href="/runs/` + string(vain.ID) + `">run</a> infrastructure errored`,
		"/recipes/pocketbase": `data-label="Result"><a href="/runs/` + string(judged.ID) + `">`,
	} {
		if body := w.page(address); !strings.Contains(body, want) {
			t.Errorf("%s has no %q:\n%s", address, want, body)
		}
	}
	if body := w.page("/recipes/hedgedoc"); strings.Contains(body, "newer run") {
		t.Error("a run that speaks is called newer than itself")
	}
}
