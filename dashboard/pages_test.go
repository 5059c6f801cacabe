package dashboard_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
)

func TestA27_OverviewShowsTheLatestRunOfEachRecipe(t *testing.T) {
	w := newWorld(t)
	runs := w.populate()
	body := w.page("/")
	for _, recipe := range []string{"pocketbase", "miniflux", "gitea", "hedgedoc", "matrix-synapse", "vaultwarden", "nextcloud", "cryptpad", "lasuite-docs"} {
		wantAll(t, body, `href="/recipes/`+recipe+`"`)
	}
	wantAll(t, body,
		"/runs/"+string(runs["passed"].ID), "1.4.0+0.36.8", "10 min ago", "level 5",
		"/runs/"+string(runs["passed"].ID)+"/files/screenshot-upgrade.png", // U16: the picture taken last
		"/runs/"+string(runs["running"].ID), "running",                     // beside the last result
		"not tested", "main at "+runs["passed"].Commit.Short()+", tested as pull request #1", "infrastructure errored", "stale", "cancelled")
	if strings.Contains(body, "screenshot-install.png\" alt=\"\" loading=\"lazy\" decoding=\"async\" width=\"640\" height=\"400\"></a>\n    </a>") {
		t.Error("the first picture is shown in place of the last")
	}
}

func TestA27_OverviewFilters(t *testing.T) {
	w := newWorld(t)
	w.populate()
	body := w.page("/?status=failed")
	wantAll(t, body, `href="/recipes/miniflux"`)
	if strings.Contains(body, `href="/recipes/pocketbase"`) {
		t.Error("a passing recipe is shown among the failing")
	}
	body = w.page("/?q=MINI")
	if !strings.Contains(body, "/recipes/miniflux") || strings.Contains(body, "/recipes/pocketbase") {
		t.Error("the search for mini does not find miniflux alone")
	}
	wantAll(t, w.page("/?q=nothing-like-it"), "No recipe matches", "Show all 9")
}

func TestU18_RecipePageHasTheWholeHistory(t *testing.T) {
	w := newWorld(t)
	w.populate()
	seen := map[string]bool{}
	path, pages := "/recipes/pocketbase", 0
	row := regexp.MustCompile(`<td role="cell" class="t-run"><a class="mono" href="/runs/([^"]+)"`)
	next := regexp.MustCompile(`href="([^"]+)" rel="next"`)
	for path != "" {
		body := w.page(path)
		for _, m := range row.FindAllStringSubmatch(body, -1) {
			if seen[m[1]] {
				t.Errorf("run %s is listed twice", m[1])
			}
			seen[m[1]] = true
		}
		path = ""
		if m := next.FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
		pages++
	}
	if len(seen) != 32 || pages != 2 {
		t.Errorf("%d runs on %d pages, want 32 on 2", len(seen), pages)
	}
	body := w.page("/recipes/pocketbase")
	wantAll(t, body, "<svg viewBox=\"0 0 640 120\"", "Of the last 32 whole runs 29 passed. Half of them took less than", "/badge/pocketbase.svg)](http")
	res, _ := w.get("/recipes/nobody")
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown recipe answers %s", res.Status)
	}
	wantAll(t, w.page("/recipes/gitea"), "not tested", "Neither a release nor the default branch was tested yet.", "Nothing ran yet")
}

func TestRunPageShowsCauseFirstThenProof(t *testing.T) {
	w := newWorld(t)
	runs := w.populate()
	body := w.page("/runs/" + string(runs["failed"].ID))
	wantAll(t, body, "What went wrong first", "Swarm rolled app back", "The recipe has to change.",
		"Something was left behind", "volume mini-3f9a1c_stray-data", // N6
		"not reached", "the run ended before it", "skipped",
		"app.1 | [FATAL] column &#34;feed_id&#34; does not exist", // N12, P19
		"Teardown and result")
	if !regexp.MustCompile(`id="first-error" tabindex="-1"><a class="n" id="(L\d+)" href="\?line=\d+#(L\d+)" tabindex="-1" aria-label="Line \d+">\d+</a>app.1 \| \[FATAL\]`).MatchString(body) {
		t.Error("the first error cannot be jumped to")
	}
	if strings.Contains(body, "Why not higher") {
		t.Error("the cause is told again as the reason of the level")
	}
	if i, j := strings.Index(body, "What went wrong first"), strings.Index(body, "Stages</h2>"); i > j {
		t.Error("the cause does not come first")
	}
	body = w.page("/runs/" + string(runs["passed"].ID))
	wantAll(t, body, "Nothing was left behind", "Before the upgrade", "After the upgrade", "What differs after the upgrade: 9.1 % of the picture", "files/logs/app.1.log",
		"231 MiB", "env.ADMIN_PASSWORD", "***", "R009", "init_containers", "the newest release older than the head", "needs a mail server")
	wantAll(t, body, "Code and privileges that this commit changes</h2>", `Compared with main at <span class="mono">11111111</span>.`, "changed its command", "sh -c &lt;b&gt;",
		"Not everything could be compared: half of it.", `<span class="mono">tests/pocketbase/recipe.yml:3</span> helth: there is no such setting; health`)
	wantAll(t, body, "What the upgrade changes</h2>", "SMTP_HOST is new in .env.sample", "ghcr.io/muchobien/pocketbase:0.36.8</span>",
		"traefik.http.routers.&lt;stack&gt;.rule", "Host(`&lt;b&gt;docs&lt;/b&gt;.${DOMAIN}`)") // N8
	if i, j, k := strings.Index(body, "Screenshots</h2>"), strings.Index(body, "What the upgrade changes</h2>"), strings.Index(body, "Teardown</h2>"); i > j || j > k {
		t.Error("what changes does not stand between the screenshots and the teardown")
	}
	if strings.Contains(body, "data-live-from") {
		t.Error("a finished run listens for changes")
	}
	body = w.page("/runs/" + string(runs["queued2"].ID))
	wantAll(t, body, `Position 2 in the <a href="/queue">queue</a>. Expected start: <time`, "A run of this recipe usually takes 1 min 10 s.")
	wantAll(t, w.page("/runs/"+string(runs["running"].ID)), "expected to end <time")
	body = w.page("/runs/" + string(runs["errored"].ID))
	wantAll(t, body, "left no result record", "the disk of this machine is full", "no longer there")
}

// A stage's line in a log may be written by a recipe: what lasts is from the result.
func TestRunPageBelievesTheResultAlone(t *testing.T) {
	w := newWorld(t)
	run := w.add("miniflux", time.Hour, ccci.StatusFailed, func(r *ccci.Run) {
		r.Stages = []ccci.StageRow{{Name: ccci.StageInstall, Status: ccci.Pass}}
	})
	res := w.baseResult(run)
	res.Stages = []ccci.Stage{stageOf(run, ccci.StageInstall, time.Second, ccci.Check{Name: "health", Status: ccci.Fail, Message: "no answer"})}
	w.saveResult(res)
	body := w.page("/runs/" + string(run.ID))
	if !regexp.MustCompile(`(?s)stage-name">Install</span><span class="state c-fail">`).MatchString(body) {
		t.Error("the install stage is not shown as failed")
	}
}

// P4: run, list, queue and pull request say that a run was superseded, and by which.
func TestP4_PagesSayWhatSuperseded(t *testing.T) {
	w := newWorld(t)
	next := w.add("hedgedoc", time.Minute, ccci.StatusQueued, nil)
	by := ccci.Supersession{Run: next.ID, Head: next.Commit}
	old := w.add("hedgedoc", time.Hour, ccci.StatusCancelled, func(r *ccci.Run) { r.Started, r.CancelledBy, r.Superseded = time.Time{}, "ada", by })
	leaving := w.add("hedgedoc", 30*time.Minute, ccci.StatusQueued, func(r *ccci.Run) { r.CancelledBy, r.Superseded = "cc-ci", ccci.Supersession{Head: next.Commit} })
	torn := w.add("miniflux", 20*time.Minute, ccci.StatusRunning, func(r *ccci.Run) { r.CancelledBy = "ada" })
	w.forge.pulls = []ccci.PullRequest{{Ref: old.PR, Title: "x", Open: true, Head: next.Commit, Branch: "x", Base: "main"}}
	link := `<a class="mono" href="/runs/` + string(next.ID) + `">`
	page := w.page("/runs/" + string(old.ID))
	wantAll(t, page, "<span>superseded</span>", "Superseded by "+link+"run "+string(next.ID)+"</a>", next.Commit.Short(), "never started")
	pushed := w.page("/runs/" + string(leaving.ID))
	wantAll(t, pushed, "<span>superseded</span>", "Superseded by the push of "+next.Commit.Short())
	list := w.page("/runs")
	wantAll(t, list, "<span>superseded</span>", "by "+link+string(next.ID)+"</a>", "by the push of "+next.Commit.Short(), "<span>cancelling</span>")
	queue := w.page("/queue")
	wantAll(t, queue, "<span>superseded</span>", "<span>cancelling</span>")
	pull := w.page("/pulls/recipes/hedgedoc/1")
	wantAll(t, pull, "<span>superseded</span>", "by run "+string(next.ID))
	for _, body := range []string{page, pushed, list, queue, pull} {
		if strings.Contains(body, ">cancelled<") || strings.Contains(body, "Cancelled by") {
			t.Error("a page says cancelled too")
		}
	}
	wantAll(t, w.page("/runs/"+string(torn.ID)), "<span>cancelling</span>", "Cancelled by ada.")
}

func TestQueuePage(t *testing.T) {
	w := newWorld(t)
	w.populate()
	body := w.page("/queue")
	wantAll(t, body, "1 of 1", "for 1 min 08 s", "expected to end <time", "<b>1</b>", "<b>2</b>", "matrix-synapse", "nothing queued", "1 queued")
	if i, j := strings.Index(body, "matrix-synapse"), strings.Index(body, "vaultwarden"); i > j {
		t.Error("the older wish is not first")
	}
}

// A start that is overdue is not "just now", and a recipe with runs is not said to have none.
func TestQueueSaysWhatIsKnown(t *testing.T) {
	w := newWorld(t)
	w.add("miniflux", 50*time.Hour, ccci.StatusPassed, nil) // takes 94 s
	running := w.add("miniflux", 10*time.Minute, ccci.StatusRunning, nil)
	w.add("miniflux", time.Minute, ccci.StatusQueued, nil)
	w.add("pocketbase", 30*time.Second, ccci.StatusQueued, nil)
	body := w.page("/queue")
	wantAll(t, body, "longer than the usual 1 min 34 s", "when the overdue run ends", "in 1 min</time> at the earliest")
	if strings.Contains(body, "just now") {
		t.Error("an overdue start is just now")
	}
	wantAll(t, w.page("/runs/"+string(running.ID)), "longer than the usual 1 min 34 s")

	w = newWorld(t)
	w.add("miniflux", 50*time.Hour, ccci.StatusPassed, nil)
	w.add("gitea", 40*time.Hour, ccci.StatusErrored, nil)
	for range 12 { // partial ones say nothing of how long a whole one takes
		w.add("miniflux", 40*time.Hour, ccci.StatusPassed, func(r *ccci.Run) { r.Options.Quick = true })
	}
	w.add("gitea", 2*time.Minute, ccci.StatusRunning, nil)
	w.add("miniflux", time.Minute, ccci.StatusQueued, nil)
	body = w.page("/queue")
	wantAll(t, body, "no whole run of this recipe ended yet", "unknown: how long gitea takes is not known yet")
	if strings.Contains(body, "no past runs") {
		t.Error("recipes with past runs are said to have none")
	}
	w.clock.advance(3 * time.Minute)
	wantAll(t, w.page("/queue"), "unknown: how long gitea takes")
}

// A37: the queue says why nothing starts.
func TestA37_QueueSaysWhyNothingStarts(t *testing.T) {
	why := "the disk of <data> has 1GiB free"
	w := newWorld(t, func(c *dashboard.Config) { c.Held = func() string { return why } })
	w.add("miniflux", time.Minute, ccci.StatusQueued, nil)
	wantAll(t, w.page("/queue"), "No run starts: the disk of &lt;data&gt; has 1GiB free.", "Queued runs wait", "when runs start again")
	why = ""
	if body := w.page("/queue"); strings.Contains(body, "No run starts") || !strings.Contains(body, "The next command starts at once") {
		t.Error("the queue says that nothing starts")
	}
}

func TestA28_Badge(t *testing.T) {
	w := newWorld(t)
	w.populate()
	for recipe, want := range map[string]string{
		"pocketbase": "cc-ci: level 5", "miniflux": "cc-ci: failed, level 1", "gitea": "cc-ci: not tested",
		"hedgedoc":  "cc-ci: level 3", // U7: a run under way keeps the last
		"nextcloud": "cc-ci: infrastructure errored", "cryptpad": "cc-ci: level 4, stale", "lasuite-docs": "cc-ci: level 3",
	} {
		res, body := w.get("/badge/" + recipe + ".svg")
		if res.StatusCode != http.StatusOK || !strings.Contains(body, "<title>"+want+"</title>") {
			t.Errorf("badge of %s: %s %s, want %q", recipe, res.Status, body, want)
		}
		if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, "image/svg+xml") {
			t.Errorf("badge of %s has type %q", recipe, got)
		}
		if !strings.Contains(res.Header.Get("Cache-Control"), "max-age=30") {
			t.Errorf("badge of %s: Cache-Control %q", recipe, res.Header.Get("Cache-Control"))
		}
		again, empty := w.get("/badge/"+recipe+".svg", "If-None-Match", res.Header.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || empty != "" {
			t.Errorf("badge of %s asked for again: %s", recipe, again.Status)
		}
	}
	if res, body := w.get("/badge/unknown.svg"); res.StatusCode != http.StatusNotFound || !strings.Contains(body, "unknown recipe") {
		t.Errorf("badge of an unknown recipe: %s", res.Status)
	}
	if res, _ := w.get("/badge/pocketbase.png"); res.StatusCode != http.StatusNotFound {
		t.Errorf("a badge that is no svg: %s", res.Status)
	}
}

// A28: an unmerged pull request changes neither badge nor overview. It has a badge and a line of
// its own, and speaks for the recipe once what was tested is on the default branch.
func TestA28_PullRequestsSpeakForThemselves(t *testing.T) {
	w := newWorld(t, func(c *dashboard.Config) { c.Recipes = func() []string { return []string{"wiki", "blog"} } })
	alone := func(number int, branch string) func(*ccci.Run) {
		return func(r *ccci.Run) {
			r.PR.Number, r.Branch, r.Merge, r.Level = number, branch, ccci.Merge{}, 1
		}
	}
	badge := func(path, want string, code int) {
		t.Helper()
		res, body := w.get("/badge/" + path)
		if res.StatusCode != code || !strings.Contains(body, "<title>cc-ci: "+want+"</title>") {
			t.Errorf("%s: %s %s, want %q", path, res.Status, body, want)
		}
		if again, _ := w.get("/badge/"+path, "If-None-Match", res.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s asked for again: %s", path, again.Status)
		}
	}
	w.add("blog", time.Hour, ccci.StatusPassed, alone(3, ""))
	badge("blog.svg", "not tested", 200)
	badge("blog.svg?pr=3", "level 1", 200)
	badge("blog.svg?branch=main", "not tested", 200)
	badge("blog.svg?pr=4", "not tested", 200)
	badge("blog.svg?pr=x", "unknown pull request", 404)
	badge("blog.svg?branch=", "unknown branch", 404)
	badge("nothing.svg?pr=3", "unknown recipe", 404)
	wantAll(t, w.page("/recipes/blog"), "Neither a release nor the default branch was tested yet. Pull requests have verdicts of their own, below.", `href="/pulls/recipes/blog/3">#3</a>`)

	swept := w.add("wiki", 3*time.Hour, ccci.StatusPassed, func(r *ccci.Run) {
		r.PR, r.Level, r.Merge, r.Trigger, r.Release = ccci.PRRef{}, 5, ccci.Merge{}, ccci.TriggerSweep, "1.2.0+3.4"
	})
	red := w.add("wiki", 2*time.Hour, ccci.StatusFailed, alone(7, "update"))
	badge("wiki.svg", "level 5", 200)
	badge("wiki.svg?pr=7", "failed, level 1", 200)
	badge("wiki.svg?branch=update", "failed, level 1", 200)
	body := w.page("/recipes/wiki")
	wantAll(t, body, "The verdict is about release 1.2.0+3.4 at "+swept.Commit.Short()+".", `id="pulls"`, `<a href="/runs/`+string(red.ID)+`"><span class="state c-fail">`)
	body = w.page("/?q=wiki")
	wantAll(t, body, "release 1.2.0+3.4 at "+swept.Commit.Short(), `>passed</span> <b>1</b>`, `last <a href="/runs/`+string(red.ID)+`">run</a> on #7 failed`)
	if strings.Contains(body, "status=failed") {
		t.Error("an unmerged pull request reddens the overview")
	}
	if feed := w.page("/feed.json"); !strings.Contains(feed, `"about": "release 1.2.0+3.4 at `) || strings.Contains(feed, string(red.ID)) {
		t.Errorf("the feed speaks of %s", feed)
	}

	red.Merge = ccci.Merge{Branch: "main", Default: true, Commit: swept.Commit, At: noon}
	w.update(red)
	wantAll(t, w.page("/recipes/wiki"), "into main as", "its files are not those that were tested")
	wantAll(t, w.page("/runs/"+string(red.ID)), "Merged into main as", "does not count for main")
	badge("wiki.svg", "level 5", 200)
	red.Merge.Same = true
	w.update(red)
	eventually(t, func() bool { // the bus ends the cached badge
		_, body := w.get("/badge/wiki.svg")
		return strings.Contains(body, "cc-ci: failed, level 1<")
	})
	badge("wiki.svg?branch=main", "failed, level 1", 200)
	wantAll(t, w.page("/recipes/wiki"), "The verdict is about main at "+swept.Commit.Short()+", tested as pull request #7 at "+red.Commit.Short()+", with the same files.")
	wantAll(t, w.page("/runs/"+string(red.ID)), "this verdict counts for main too")
	wantAll(t, w.page("/runs/"+string(swept.ID)), "Release 1.2.0+3.4, tested by the sweep")
}

// U7, N7: wherever a level stands its skips stand beside it, and the pages behind a badge and a
// comment say what levels mean. A stored level stays as it was stored.
func TestU7_PagesSayWhatLevelsMean(t *testing.T) {
	w := newWorld(t)
	runs := w.populate()
	const meter = `level 4<span class="sr"> of 5</span>, <span title="skipped: upgrade, backup, restore">3 skipped</span>`
	for _, path := range []string{"/", "/recipes/matrix-synapse", "/runs/" + string(runs["skips"].ID), "/runs"} {
		wantAll(t, w.page(path), meter, `<i class="on"></i><i class="skip"></i><i class="skip"></i><i class="on"></i><i></i>`)
	}
	for _, path := range []string{"/recipes/matrix-synapse", "/runs/" + string(runs["skips"].ID), "/runs/" + string(runs["running"].ID), "/recipes/gitea"} {
		body := w.page(path)
		wantAll(t, body, `id="levels"`, "What the levels mean", ccci.LevelRule)
		for _, rung := range ccci.Ladder() {
			wantAll(t, body, fmt.Sprintf("<dt>Level %d", rung.Level), rung.Proves)
		}
	}
	if _, body := w.get("/badge/matrix-synapse.svg"); !strings.Contains(body, "<title>cc-ci: level 4 (skipped: upgrade, backup, restore)</title>") || !strings.Contains(body, ">level 4, 3 skipped<") {
		t.Error(body)
	}
	wantAll(t, w.page("/recipes/matrix-synapse"), "/badge/matrix-synapse.svg)](", "/recipes/matrix-synapse)")
}

func TestA28_BadgeFollowsTheBus(t *testing.T) {
	w := newWorld(t)
	w.populate()
	if _, body := w.get("/badge/miniflux.svg"); !strings.Contains(body, "failed") {
		t.Fatal("miniflux does not fail")
	}
	w.add("miniflux", 0, ccci.StatusPassed, func(r *ccci.Run) { r.Level = 5 })
	// The clock stands still, so only the hint can have ended the cached badge.
	eventually(t, func() bool {
		_, body := w.get("/badge/miniflux.svg")
		return strings.Contains(body, "cc-ci: level 5<")
	})
}

func TestA28_BadgeGrowsStaleByItself(t *testing.T) {
	w := newWorld(t)
	w.populate()
	if _, body := w.get("/badge/pocketbase.svg"); !strings.Contains(body, "level 5<") {
		t.Fatal("pocketbase has no level 5")
	}
	w.clock.advance(61 * 24 * time.Hour)
	if _, body := w.get("/badge/pocketbase.svg"); !strings.Contains(body, "level 5, stale<") {
		t.Errorf("after 61 days: %s", body)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to be in 10 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestFeed(t *testing.T) {
	w := newWorld(t, func(c *dashboard.Config) { c.URL = "https://ci.example.org/" })
	runs := w.populate()
	var f struct {
		Schema  int
		Recipes []struct {
			Recipe, Status, Verdict, Version, Commit, RunUrl, Active string
			Level                                                    *int
			Skipped                                                  []string
			Finished                                                 time.Time
			Stale, Enrolled                                          bool
		}
	}
	if err := json.Unmarshal([]byte(w.page("/feed.json")), &f); err != nil {
		t.Fatal(err)
	}
	if f.Schema != 1 || len(f.Recipes) != 9 {
		t.Fatalf("schema %d, %d recipes", f.Schema, len(f.Recipes))
	}
	for _, r := range f.Recipes {
		switch r.Recipe {
		case "pocketbase":
			if *r.Level != 5 || r.Status != "passed" || !r.Enrolled || r.RunUrl != "https://ci.example.org/runs/"+string(runs["passed"].ID) ||
				!r.Finished.Equal(runs["passed"].Finished) || r.Commit != string(runs["passed"].Commit) {
				t.Errorf("pocketbase: %+v", r)
			}
		case "matrix-synapse":
			if *r.Level != 4 || strings.Join(r.Skipped, " ") != "upgrade backup restore" {
				t.Errorf("matrix-synapse: %+v", r)
			}
		case "gitea":
			if r.Level != nil || r.Status != "" {
				t.Errorf("gitea: %+v", r)
			}
		case "hedgedoc":
			if *r.Level != 3 || r.Active != string(runs["running"].ID) {
				t.Errorf("hedgedoc: %+v", r)
			}
		case "cryptpad":
			if !r.Stale {
				t.Errorf("cryptpad: %+v", r)
			}
		}
	}
}

func TestPullPagesAndComments(t *testing.T) {
	w := newWorld(t)
	w.populate()
	wantAll(t, w.page("/pulls"), "recipes/pocketbase", "Upgrade PocketBase to 0.36.8", "closed", `href="/pulls/recipes/miniflux/1"`)
	const path = "/pulls/recipes/pocketbase/1"
	body := w.page(path)
	wantAll(t, body, "Did you mean <strong><code>stages</code></strong>", "<summary>How to run it at home</summary>", `class="language-text"`, "passed, level 5", "Comment as ada")
	if strings.Contains(body, "hidden -->") || strings.Contains(body, "raw HTML omitted") || strings.Contains(body, "style=") {
		t.Error("an HTML comment or an inline style is on the page")
	}
	token := regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(body)[1]
	post := func(form url.Values, header ...string) *http.Response {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+path+"/comments", strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i+1 < len(header); i += 2 {
			if header[i] == "Host" {
				req.Host = header[i+1]
			} else {
				req.Header.Set(header[i], header[i+1])
			}
		}
		client := *w.client
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	good := url.Values{"token": {token}, "body": {"!testme\r\n"}}
	for name, res := range map[string]*http.Response{
		"other origin":       post(good, "Origin", "https://evil.example"),
		"other site":         post(good, "Sec-Fetch-Site", "cross-site"),
		"rebound name":       post(good, "Host", "evil.example"),
		"no token":           post(url.Values{"body": {"!testme"}}),
		"somebody's token":   post(url.Values{"token": {otherToken(token)}, "body": {"!testme"}}),
		"nothing in it":      post(url.Values{"token": {token}, "body": {" \n"}}),
		"no such request":    nil,
		"a rebound read too": nil,
	} {
		if res != nil && (res.StatusCode < 400 || res.StatusCode >= 500) {
			t.Errorf("%s: %s", name, res.Status)
		}
	}
	if n := len(w.forge.thread); n != 5 {
		t.Fatalf("%d comments: a refused one was written", n)
	}
	if res, _ := w.get(path, "Host", "evil.example"); res.StatusCode != http.StatusForbidden {
		t.Errorf("a page with a token is read under a foreign name: %s", res.Status)
	}
	res := post(good, "Origin", w.server.URL, "Sec-Fetch-Site", "same-origin")
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != path+"#comment-6" {
		t.Fatalf("a good comment: %s to %q", res.Status, res.Header.Get("Location"))
	}
	if c := w.forge.thread[len(w.forge.thread)-1]; c.Body != "!testme" || c.Author.Name != "ada" {
		t.Errorf("written: %+v", c)
	}
	if res, _ := w.get("/pulls/recipes/pocketbase/99"); res.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown pull request: %s", res.Status)
	}
}

func TestWithoutALocalForgeThereAreNoPullPages(t *testing.T) {
	w := newWorld(t, func(c *dashboard.Config) { c.Forge = nil })
	if res, body := w.get("/pulls"); res.StatusCode != http.StatusNotFound || strings.Contains(body, `href="/pulls"`) {
		t.Errorf("GET /pulls: %s", res.Status)
	}
}

func TestCommentsCannotHurt(t *testing.T) {
	w := newWorld(t)
	runs := w.populate()
	pr := runs["passed"].PR
	w.forge.thread = []ccci.Comment{{ID: "1", PR: pr, Author: ccci.User{ID: "9", Name: `"><script>name`}, Created: noon, Body: strings.Join([]string{
		"<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "text <b onclick=alert(3)>bold</b>", "![p](https://evil.example/pixel.png)",
		"![own](/badge/pocketbase.svg)", "[a](javascript:alert(4))", "[b](https://other.example/)", "</details></main><details open ontoggle=alert(5)>", "<details>\n\nnever closed", "[c](data:text/html,x)",
	}, "\n\n")}}
	body := w.page("/pulls/recipes/pocketbase/1")
	for _, bad := range []string{"<script>", "onerror=", "onclick=", "ontoggle=", "javascript:alert", "data:text", `src="https://evil`} {
		if i := strings.Index(body, bad); i >= 0 && !strings.HasPrefix(body[i:], "<script>name") {
			t.Errorf("%q is on the page: …%s…", bad, body[max(0, i-80):min(len(body), i+80)])
		}
	}
	wantAll(t, body, `<a href="https://evil.example/pixel.png" rel="nofollow noopener noreferrer">p</a>`, `<img src="/badge/pocketbase.svg" alt="own">`, `rel="nofollow noopener noreferrer">b</a>`)
	if strings.Count(body, "<details") != strings.Count(body, "</details>") || strings.Count(body, "</main>") != 1 {
		t.Error("a comment reaches beyond itself")
	}
}

func TestU16_ArtifactsAreServedHarmless(t *testing.T) {
	w := newWorld(t)
	runs := w.populate()
	base := "/runs/" + string(runs["passed"].ID) + "/files/"
	for path, want := range map[string]string{"screenshot-upgrade.png": "image/png", "logs/app.1.log": "text/plain; charset=utf-8", "report.html": "application/octet-stream", ccci.ReproArchive: "application/octet-stream", "result.json": "text/plain; charset=utf-8"} {
		res, _ := w.get(base + path)
		h := res.Header
		if res.StatusCode != http.StatusOK || h.Get("Content-Type") != want || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %s %v", path, res.Status, h)
		}
		if attached := strings.HasPrefix(h.Get("Content-Disposition"), "attachment"); attached != (path == "report.html" || path == ccci.ReproArchive) {
			t.Errorf("%s: Content-Disposition %q", path, h.Get("Content-Disposition"))
		}
		if again, _ := w.get(base+path, "If-None-Match", h.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s asked for again: %s", path, again.Status)
		}
	}
	for _, path := range []string{base + "nothing.png", base + "..%2f..%2fsecret", base + "logs//app.log", "/runs/x/files/result.json", "/runs/260314-000000-zzzzzz/files/a"} {
		if res, _ := w.get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	spoil(t, w.files, "<script>alert(1)</script>")
	if res, body := w.get(base + "report.html"); res.StatusCode != http.StatusInternalServerError || strings.Contains(body, "alert") {
		t.Errorf("a corrupt artifact is served: %s", res.Status) // C20
	}
}

// spoil turns one letter in the stored file that holds text.
func spoil(t *testing.T, dir, text string) {
	t.Helper()
	done := false
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(body, []byte(text)) {
			return err
		}
		done = true
		return os.WriteFile(path, bytes.Replace(body, []byte(text), []byte(strings.ToUpper(text)), 1), 0o600)
	})
	if err != nil || !done {
		t.Fatalf("spoiling a file: %v, found %v", err, done)
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	w := newWorld(t)
	runs := w.populate()
	for _, path := range []string{"/", "/runs", "/queue", "/pulls", "/recipes/pocketbase", "/runs/" + string(runs["failed"].ID), "/nothing", "/feed.json", "/badge/gitea.svg", "/healthz"} {
		res, body := w.get(path)
		h := res.Header
		if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, h)
		}
		for _, bad := range []string{" style=\"", " onclick=", "<script>", "http://fonts", "https://cdn"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s holds %q", path, bad)
			}
		}
	}
	res, body := w.get("/nothing")
	if res.StatusCode != http.StatusNotFound || !strings.Contains(body, `href="/"`) {
		t.Errorf("404: %s", res.Status)
	}
}

func TestErrorsAreOursAndSaySo(t *testing.T) {
	w := newWorld(t)
	_ = w.store.Close()
	res, body := w.get("/")
	if res.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "Something went wrong on our side") || strings.Contains(body, "sql") {
		t.Errorf("%s\n%s", res.Status, body)
	}
	if res, _ := w.get("/healthz"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("healthz without a store: %s", res.Status)
	}
}

func TestStaticFilesKeepForEver(t *testing.T) {
	w := newWorld(t)
	for _, m := range regexp.MustCompile(`"(/static/[^"]+)"`).FindAllStringSubmatch(w.page("/"), -1) {
		res, _ := w.get(m[1])
		if res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s", m[1], res.Status)
		}
	}
}

// otherToken is as long as a token and differs from it in its first character.
func otherToken(token string) string {
	if token[0] == 'x' {
		return "y" + token[1:]
	}
	return "x" + token[1:]
}
