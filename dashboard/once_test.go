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
