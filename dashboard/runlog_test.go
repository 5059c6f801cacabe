package dashboard_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/runlog"
)

// longLog is a log of that many lines in one stage, each with its time.
func longLog(lines int) string {
	var b strings.Builder
	b.WriteString("##[stage install begin]\n")
	for i := range lines {
		fmt.Fprintf(&b, "%sapp.1 | request %d of the long log\n", ccci.LogTime(noon.Add(time.Duration(i)*time.Second)), i+1)
	}
	b.WriteString("##[stage install end pass 12.000s]\n")
	return b.String()
}

func (w *world) longRun(lines int) ccci.Run {
	w.t.Helper()
	run := w.add(longName(0), time.Hour, ccci.StatusPassed, func(r *ccci.Run) { r.PullURL = "https://git.example.org/recipes/x/pulls/1" })
	w.engine.log(run.Build).write(longLog(lines), true)
	return run
}

// P19: a line has its time and an address; a search works without JavaScript and is bounded.
func TestP19_LogLinesAreFound(t *testing.T) {
	w := newWorld(t)
	run := w.longRun(10_000)
	page := "/runs/" + string(run.ID)
	body := w.page(page)
	wantAll(t, body, `id="L120" href="?line=120#L120"`, `<time class="t">12:01:59</time>app.1 | request 120 of`, "9500 lines left out", "10000 lines")
	if strings.Contains(body, `id="L5000"`) || strings.Count(body, `<li value=`) > 500 {
		t.Error("the page shows a long log whole")
	}
	body = w.page(page + "?line=5000")
	wantAll(t, body, `id="L5000" href="?line=5000#L5000"`, `id="L4990"`, `id="log-1" open`)
	if n := strings.Count(body, `<li value=`); n > 600 {
		t.Errorf("%d lines for one", n)
	}
	body = w.page(page + "?q=REQUEST+77+of")
	wantAll(t, body, "1 line of 10000 with “REQUEST 77 of”", `<time class="t">12:01:16</time>app.1 | request 77 of`, `value="REQUEST 77 of"`, `id="log-1" open`)
	if n := strings.Count(body, `<li value=`); n != 1 {
		t.Errorf("%d lines are found", n)
	}
	body = w.page(page + "?q=the+long+log")
	if n := strings.Count(body, `<li value=`); n > 500 || !strings.Contains(body, "10000 lines of 10000") {
		t.Errorf("%d lines are shown of a search that finds all", n)
	}
	wantAll(t, w.page(page+"?q=%3Cscript%3E"), "0 lines of 10000 with “&lt;script&gt;”")
	if body := w.page(page + "?q=" + strings.Repeat("y", 3000)); strings.Contains(body, strings.Repeat("y", 101)) {
		t.Error("a search text has no bound")
	}
}

// On a busy machine the log of a run that has ended comes in pieces with pauses between them. Its page waits for the end.
func TestP19_AnEndedLogIsShownWhole(t *testing.T) {
	w := newWorld(t)
	run := w.add("miniflux", time.Hour, ccci.StatusPassed, nil)
	log := w.engine.log(run.Build)
	log.write("at once\n", false)
	defer time.AfterFunc(3*runlog.Settle, func() { log.write("after a pause\n", true) }).Stop()
	wantAll(t, w.page("/runs/"+string(run.ID)), "at once", "after a pause")
}

// A run that an engine starts once more has its attempts apart, and a search does not follow it.
func TestN7_AttemptsAreApart(t *testing.T) {
	w := newWorld(t)
	run := w.add("miniflux", time.Minute, ccci.StatusRunning, func(r *ccci.Run) { r.Attempt = 2 })
	w.engine.log(run.Build).write("##[stage install begin]\nfirst\n=== cc-ci: attempt 2, because cc-ci died during attempt 1 ===\nsecond\n##[stage install begin]\nagain\n", false)
	body := w.page("/runs/" + string(run.ID))
	wantAll(t, body, `<h3 class="attempt">Attempt 2</h3>`)
	if i, j, k := strings.Index(body, "first</li>"), strings.Index(body, `class="attempt"`), strings.Index(body, "second</li>"); i < 0 || i > j || j > k {
		t.Errorf("the second attempt is at %d, between %d and %d", j, i, k)
	}
	body = w.page("/runs/" + string(run.ID) + "?q=second")
	wantAll(t, body, "A search does not follow the run")
	if strings.Contains(body, "data-live-from") || strings.Contains(body, "first</li>") {
		t.Error("a search follows the run, or shows more than it found")
	}
}

// N7: a run that the bridge repeated has a build for each attempt. Page and raw log have the logs of
// all, in their order, and a reader who follows goes on into the next one.
func TestN7_BuildsOfARunAreOneLog(t *testing.T) {
	w := newWorld(t)
	run := w.add("miniflux", time.Minute, ccci.StatusRunning, nil)
	first := run.Build
	w.engine.log(first).write("##[stage install begin]\nfirst\nno end", true)
	next, hangUp := w.listen("/runs/" + string(run.ID) + "/events")
	defer time.AfterFunc(20*time.Second, hangUp).Stop()
	until := func(line string) {
		t.Helper()
		for {
			e := next()
			if e.name == "" {
				t.Fatalf("the stream ended before %q", line)
			}
			if e.name == "log" && slices.Contains(linesOf(t, e), line) {
				return
			}
		}
	}
	until("no end")
	run.Status, run.Build, run.Earlier, run.Attempt = ccci.StatusQueued, "", []ccci.BuildRef{first}, 2
	w.update(run)
	wantAll(t, w.page("/runs/"+string(run.ID)), "first</li>", "no end</li>")
	run.Status, run.Build = ccci.StatusRunning, "second-build"
	w.engine.log(run.Build).write("##[stage install begin]\nsecond\n", false)
	w.update(run)
	until("second")
	body := w.page("/runs/" + string(run.ID))
	wantAll(t, body, `<h3 class="attempt">Attempt 2</h3>`)
	if i, j, k := strings.Index(body, "no end</li>"), strings.Index(body, `class="attempt"`), strings.Index(body, "second</li>"); i < 0 || i > j || j > k {
		t.Errorf("the second attempt is at %d, between %d and %d", j, i, k)
	}
	raw := "/runs/" + string(run.ID) + "/log?follow=0"
	_, whole := w.get(raw)
	if want := "first\nno end\n=== cc-ci: attempt 2, because attempt 1 ended with an infrastructure error ===\n##[stage install begin]\nsecond\n"; !strings.HasSuffix(whole, want) {
		t.Errorf("the raw log is %q", whole)
	}
	for _, offset := range []int{1, len(whole) / 2, len(whole) - 3} {
		if _, rest := w.get(raw + fmt.Sprintf("&offset=%d", offset)); rest != whole[offset:] {
			t.Errorf("from byte %d: %q", offset, rest)
		}
	}
	delete(w.engine.logs, first)
	if body := w.page("/runs/" + string(run.ID)); strings.Contains(body, "no end") || !strings.Contains(body, "second</li>") {
		t.Error("without the first build the page lacks the second, or has the first")
	}
}

// The pages cannot start or cancel a run: they name the comment, and link the pull request.
func TestP1_RunPageNamesTheCommands(t *testing.T) {
	w := newWorld(t, func(c *dashboard.Config) { c.Forge = nil })
	address := "https://git.example.org/recipes/miniflux/pulls/1"
	at := func(r *ccci.Run) { r.PullURL = address }
	running := w.add("miniflux", time.Minute, ccci.StatusRunning, at)
	failed := w.add("miniflux", time.Hour, ccci.StatusFailed, at)
	wantAll(t, w.page("/runs/"+string(running.ID)), `data-copy="!cancel"`, `href="`+address+`"`)
	wantAll(t, w.page("/runs/"+string(failed.ID)), `data-copy="!testme"`, `data-copy="!retest"`)
	wantAll(t, w.page("/recipes/miniflux"), `href="`+address+`">#1</a>`)
	for _, bad := range []string{"javascript:alert(1)", "https://user:hunter7@git.example.org/x", "//evil.example/x"} {
		run := w.add("miniflux", 2*time.Hour, ccci.StatusFailed, func(r *ccci.Run) { r.PullURL = bad })
		if body := w.page("/runs/" + string(run.ID)); strings.Contains(body, bad) || strings.Contains(body, "hunter7") {
			t.Errorf("%s is a link", bad)
		}
	}
	swept := w.add("miniflux", 3*time.Hour, ccci.StatusPassed, func(r *ccci.Run) { r.PR, r.Trigger = ccci.PRRef{}, ccci.TriggerSweep })
	if body := w.page("/runs/" + string(swept.ID)); strings.Contains(body, "data-copy") {
		t.Error("a run without a pull request has commands")
	}
}

// U7: a recipe's page says what is behind its verdict, and where its repository is.
func TestU7_RecipePageSaysWhatIsTested(t *testing.T) {
	w := newWorld(t)
	run := w.add("pocketbase", time.Hour, ccci.StatusPassed, func(r *ccci.Run) { r.Level, r.CloneURL = 5, "https://git.example.org/recipes/pocketbase.git" })
	w.savePassed(run)
	body := w.page("/recipes/pocketbase")
	wantAll(t, body, "What is tested", "deployed once, health", "send mail: skipped, declared: needs a mail server", "No rule of admission is waived", `href="/runs/`+string(run.ID)+`">The run with`)
	res := w.baseResult(run)
	res.Stages = []ccci.Stage{{Name: ccci.StageUpgrade, Status: ccci.Skip, Reason: "declared: no <i>releases</i>"}}
	res.Settings["waivers[0]"] = "privileged for app until 2027-01-01, ada: it needs a device"
	w.saveResult(res)
	w2 := w.add("pocketbase", time.Minute, ccci.StatusPassed, func(r *ccci.Run) { r.CloneURL = run.CloneURL; r.Level = 1 })
	res.RunID = w2.ID
	w.saveResult(res)
	body = w.page("/recipes/pocketbase")
	wantAll(t, body, `<a href="https://git.example.org/recipes/pocketbase">repository</a>`, "Waived</h3>", "privileged for app until 2027-01-01, ada: it needs a device", "declared: no &lt;i&gt;releases&lt;/i&gt;")
}
