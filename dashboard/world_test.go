package dashboard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/bus/inproc"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// noon is the time in every test.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// world is a dashboard with everything that stands behind it.
type world struct {
	t      *testing.T
	store  *sqlstore.Store
	blobs  *dirblob.Blobs
	files  string // where the blobs lie
	bus    *inproc.Bus
	engine *memEngine
	forge  *memForge
	clock  *clock
	dash   *dashboard.Dashboard
	server *httptest.Server
	client *http.Client
	runs   int
}

func openStore(t testing.TB) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// newWorld starts a dashboard over an empty store.
func newWorld(t *testing.T, change ...func(*dashboard.Config)) *world {
	t.Helper()
	store := openStore(t)
	files := t.TempDir()
	blobs, err := dirblob.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, blobs: blobs, files: files, bus: &inproc.Bus{},
		engine: &memEngine{logs: map[ccci.BuildRef]*memLog{}}, forge: &memForge{}, clock: &clock{now: noon}}
	cfg := dashboard.Config{
		Store: store, Engine: w.engine, Blobs: w.blobs, Bus: w.bus, Forge: w.forge, User: ccci.User{ID: "1", Name: "ada"},
		Recipes: func() []string { return []string{"pocketbase", "miniflux", "gitea"} }, Capacity: 1, Version: "0.1.0",
		Now: w.clock.Now, Logger: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	if w.dash, err = dashboard.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewUnstartedServer(w.dash)
	w.server.Config.ConnContext = dashboard.ConnContext
	w.server.Config.RegisterOnShutdown(func() { _ = w.dash.Close() })
	w.server.Start()
	jar, _ := cookiejar.New(nil)
	w.client = &http.Client{Jar: jar}
	t.Cleanup(func() {
		_ = w.dash.Close()
		w.server.Close()
	})
	return w
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// add stores a run that began age ago; change sets its other fields. Its pull request was merged as
// it was tested, so that it speaks for its recipe.
func (w *world) add(recipe string, age time.Duration, status ccci.Status, change func(*ccci.Run)) ccci.Run {
	w.t.Helper()
	w.runs++
	created := noon.Add(-age)
	id := ccci.RunID(fmt.Sprintf("%s-%06x", created.Format("060102-150405"), w.runs))
	run := ccci.Run{ID: id, Key: fmt.Sprintf("local/%d/0", w.runs), Recipe: recipe,
		PR:     ccci.PRRef{Repo: ccci.RepoRef{Owner: "recipes", Name: recipe}, Number: 1},
		Commit: ccci.Commit(strings.Repeat(fmt.Sprintf("%08x", 0x6f2c1c0d+w.runs*7919), 5)), RequestedBy: ccci.User{ID: "1", Name: "ada"},
		Status: ccci.StatusQueued, Attempt: 1, Created: created}
	if change != nil { // of what it changes, the pull request is fixed from the beginning
		requested := run
		change(&requested)
		run.PR = requested.PR
	}
	if _, fresh, err := w.store.ClaimRun(w.t.Context(), run); err != nil || !fresh {
		w.t.Fatalf("claiming: %v %v", fresh, err)
	}
	if status != ccci.StatusQueued {
		run.Started = created.Add(2 * time.Second)
		run.Build = ccci.BuildRef("build-" + string(id))
	}
	if status.Terminal() {
		run.Finished = run.Started.Add(94 * time.Second)
		run.Merge = ccci.Merge{Branch: "main", Default: true, Commit: run.Commit, Same: true, At: created.Add(3 * time.Second)}
	}
	run.Status = status
	if change != nil {
		change(&run)
	}
	w.update(run)
	return run
}

func (w *world) update(run ccci.Run) {
	w.t.Helper()
	if err := w.store.UpdateRun(w.t.Context(), run); err != nil {
		w.t.Fatal(err)
	}
	_ = w.bus.Publish(w.t.Context(), ccci.TopicRuns, string(run.ID))
}

func (w *world) saveResult(res ccci.Result) {
	w.t.Helper()
	body, err := json.Marshal(res)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(ccci.ResultKey(res.RunID), body)
}

// put stores a blob.
func (w *world) put(key string, body []byte) {
	w.t.Helper()
	if _, err := w.blobs.Put(w.t.Context(), key, bytes.NewReader(body)); err != nil {
		w.t.Fatal(err)
	}
}

// get returns the answer to a request for path.
func (w *world) get(path string, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(body)
}

// page is get, for a page that must be there.
func (w *world) page(path string) string {
	w.t.Helper()
	res, body := w.get(path)
	if res.StatusCode != http.StatusOK {
		w.t.Fatalf("GET %s: %s\n%s", path, res.Status, body)
	}
	return body
}

func wantAll(t *testing.T, body string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(body, want) && !strings.Contains(html.UnescapeString(body), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// memEngine has logs that grow.
type memEngine struct {
	mu   sync.Mutex
	logs map[ccci.BuildRef]*memLog
}

type memLog struct {
	mu   sync.Mutex
	data []byte
	done bool
	more chan struct{} // closed and replaced at each change
}

func (e *memEngine) log(ref ccci.BuildRef) *memLog {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.logs[ref] == nil {
		e.logs[ref] = &memLog{more: make(chan struct{})}
	}
	return e.logs[ref]
}

func (l *memLog) write(text string, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = append(l.data, text...)
	l.done = l.done || done
	close(l.more)
	l.more = make(chan struct{})
}

func (e *memEngine) Start(context.Context, ccci.Job) (ccci.BuildRef, error) { return "", nil }
func (e *memEngine) Status(context.Context, ccci.BuildRef) (ccci.Build, error) {
	return ccci.Build{}, ccci.ErrNotFound
}
func (e *memEngine) Cancel(context.Context, ccci.BuildRef) error { return nil }

func (e *memEngine) Logs(ctx context.Context, ref ccci.BuildRef, offset int64) (io.ReadCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.logs[ref]
	if l == nil {
		return nil, ccci.ErrNotFound
	}
	return &logReader{ctx: ctx, log: l, at: offset}, nil
}

type logReader struct {
	ctx context.Context
	log *memLog
	at  int64
}

func (r *logReader) Read(p []byte) (int, error) {
	for {
		r.log.mu.Lock()
		more, done := r.log.more, r.log.done
		var n int
		if r.at < int64(len(r.log.data)) {
			n = copy(p, r.log.data[r.at:])
		}
		r.log.mu.Unlock()
		if n > 0 {
			r.at += int64(n)
			return n, nil
		}
		if done {
			return 0, io.EOF
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

func (r *logReader) Close() error { return nil }

// memForge holds pull requests.
type memForge struct {
	mu       sync.Mutex
	pulls    []ccci.PullRequest
	thread   []ccci.Comment
	statuses []ccci.CommitStatus
}

func (f *memForge) Repos(context.Context) ([]ccci.RepoRef, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []ccci.RepoRef
	for _, p := range f.pulls {
		if !slices.Contains(all, p.Ref.Repo) {
			all = append(all, p.Ref.Repo)
		}
	}
	return all, nil
}

func (f *memForge) PullRequests(_ context.Context, repo ccci.RepoRef) ([]ccci.PullRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.pulls), func(p ccci.PullRequest) bool { return p.Ref.Repo != repo }), nil
}

func (f *memForge) PullRequest(_ context.Context, ref ccci.PRRef) (ccci.PullRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pulls {
		if p.Ref == ref {
			return p, nil
		}
	}
	return ccci.PullRequest{}, ccci.ErrNotFound
}

func (f *memForge) ThreadOf(_ context.Context, ref ccci.PRRef) ([]ccci.Comment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.thread), func(c ccci.Comment) bool { return c.PR != ref }), nil
}

func (f *memForge) AddComment(_ context.Context, ref ccci.PRRef, author ccci.User, body string) (ccci.CommentID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := ccci.CommentID(fmt.Sprint(len(f.thread) + 1))
	f.thread = append(f.thread, ccci.Comment{ID: id, PR: ref, Author: author, Body: body, Created: noon})
	return id, nil
}

func (f *memForge) Statuses(context.Context, ccci.RepoRef, ccci.Commit) ([]ccci.CommitStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses, nil
}

// screenshot draws something that looks like an app's page.
func screenshot(accent color.Color, rows int) []byte {
	img := image.NewRGBA(image.Rect(0, 0, 1280, 800))
	box := func(x, y, w, h int, c color.Color) {
		draw.Draw(img, image.Rect(x, y, x+w, y+h), image.NewUniform(c), image.Point{}, draw.Src)
	}
	grey := func(v uint8) color.Color { return color.RGBA{v, v, v, 255} }
	box(0, 0, 1280, 800, grey(248))
	box(0, 0, 1280, 64, accent)
	box(32, 22, 150, 20, grey(255))
	box(0, 64, 240, 736, grey(238))
	for i := range 6 {
		box(32, 104+i*44, 130+i%3*20, 14, grey(190))
	}
	for i := range rows {
		box(280, 104+i*86, 960, 66, grey(255))
		box(304, 122+i*86, 300+i%4*90, 14, grey(120))
		box(304, 146+i*86, 560-i%3*80, 10, grey(205))
	}
	var b bytes.Buffer
	_ = png.Encode(&b, img)
	return b.Bytes()
}

// populate fills the world with recipes in every state, as a page of a busy
// installation has them. It returns runs by name.
func (w *world) populate() map[string]ccci.Run {
	w.t.Helper()
	runs := map[string]ccci.Run{}
	passed := func(level int, version string, took time.Duration) func(*ccci.Run) {
		return func(r *ccci.Run) {
			r.Level, r.Version = level, version
			r.Finished = r.Started.Add(took)
		}
	}
	for i := range 31 {
		age := time.Duration(31-i) * 26 * time.Hour
		switch {
		case i == 9 || i == 17:
			w.add("pocketbase", age, ccci.StatusFailed, func(r *ccci.Run) {
				passed(1, "1.3.0+0.30.1", 61*time.Second)(r)
				r.Cause = "upgrade/converged: swarm rolled app back to the old version"
			})
		case i == 22:
			w.add("pocketbase", age, ccci.StatusErrored, func(r *ccci.Run) { passed(0, "", 12*time.Second)(r); r.Cause = "pulling an image: the disk is full" })
		default:
			w.add("pocketbase", age, ccci.StatusPassed, passed(5, "1.4.0+0.36.8", time.Duration(80+(i*37)%45)*time.Second))
		}
	}
	runs["passed"] = w.add("pocketbase", 12*time.Minute, ccci.StatusPassed, passed(5, "1.4.0+0.36.8", 94*time.Second))
	runs["failed"] = w.add("miniflux", 3*time.Hour, ccci.StatusFailed, func(r *ccci.Run) {
		passed(1, "2.1.0+2.2.3", 75*time.Second)(r)
		r.Cause = "upgrade/converged: swarm rolled app back to the old version"
	})
	w.add("hedgedoc", 50*time.Hour, ccci.StatusPassed, passed(3, "3.0.2+1.10.0", 180*time.Second))
	runs["running"] = w.add("hedgedoc", 70*time.Second, ccci.StatusRunning, func(r *ccci.Run) {
		r.Stages = []ccci.StageRow{{Name: ccci.StageInstall, Status: ccci.Pass, Duration: 31 * time.Second}, {Name: ccci.StageUpgrade, Running: true}}
	})
	runs["skips"] = w.add("matrix-synapse", 9*24*time.Hour, ccci.StatusPassed, func(r *ccci.Run) {
		passed(4, "6.2.0+1.118.0", 240*time.Second)(r)
		r.Stages = []ccci.StageRow{{Name: ccci.StageInstall, Status: ccci.Pass}, {Name: ccci.StageUpgrade, Status: ccci.Skip, Reason: "the recipe has no version tags"},
			{Name: ccci.StageBackup, Status: ccci.Skip}, {Name: ccci.StageRestore, Status: ccci.Skip}, {Name: ccci.StageChecks, Status: ccci.Pass}}
	})
	runs["queued"] = w.add("matrix-synapse", 40*time.Second, ccci.StatusQueued, nil)
	w.add("vaultwarden", 26*time.Hour, ccci.StatusPassed, passed(5, "2.1.0+1.32.7", 70*time.Second))
	runs["queued2"] = w.add("vaultwarden", 20*time.Second, ccci.StatusQueued, nil)
	runs["errored"] = w.add("nextcloud", 20*time.Hour, ccci.StatusErrored, func(r *ccci.Run) { r.Cause = "the disk of this machine is full"; r.Level = 0 })
	runs["stale"] = w.add("cryptpad", 100*24*time.Hour, ccci.StatusPassed, passed(4, "0.5.1+2024.9.0", 130*time.Second))
	w.add("lasuite-docs", 4*24*time.Hour, ccci.StatusPassed, passed(3, "0.8.0+3.2.0", 400*time.Second))
	runs["cancelled"] = w.add("lasuite-docs", 5*time.Hour, ccci.StatusCancelled, func(r *ccci.Run) { r.CancelledBy = "grace" })

	w.keepChecks(runs["passed"], ccci.Pass)
	w.keepChecks(runs["skips"], ccci.Flaky)
	w.savePassed(runs["passed"])
	w.saveFailed(runs["failed"])
	w.engine.log(runs["running"].Build).write(logText(runs["running"].Recipe, false), false)
	w.fillForge(runs)
	return runs
}

func (w *world) fillForge(runs map[string]ccci.Run) {
	pr := runs["passed"].PR
	w.forge.pulls = []ccci.PullRequest{
		{Ref: pr, Title: "Upgrade PocketBase to 0.36.8", Author: ccci.User{ID: "1", Name: "ada"}, Open: true, Head: runs["passed"].Commit, Branch: "upgrade-0.36.8", Base: "main"},
		{Ref: ccci.PRRef{Repo: pr.Repo, Number: 2}, Title: "Keep a week of backups", Author: ccci.User{ID: "2", Name: "grace"}, Open: false, Head: runs["failed"].Commit, Branch: "backups", Base: "main"},
		{Ref: runs["failed"].PR, Title: "Miniflux 2.2.3, with its schema of 99 migrations and a rather long title that has to wrap somewhere", Author: ccci.User{ID: "2", Name: "grace"}, Open: true, Head: runs["failed"].Commit, Branch: "upgrade-2.2.3", Base: "main"},
	}
	say := func(pr ccci.PRRef, author ccci.User, body string) {
		w.forge.thread = append(w.forge.thread, ccci.Comment{ID: ccci.CommentID(fmt.Sprint(len(w.forge.thread) + 1)), PR: pr, Author: author,
			Body: body, Created: noon.Add(-time.Duration(20-len(w.forge.thread)) * time.Minute)})
	}
	ada, bot := ccci.User{ID: "1", Name: "ada"}, ccci.User{ID: "0", Name: "cc-ci"}
	say(pr, ada, "!testme stagse=install")
	say(pr, bot, "There is no option `stagse`. Did you mean **`stages`**? `!help` lists them all.")
	say(pr, ada, "!testme")
	say(pr, bot, "### ✅ passed: `pocketbase` `1.4.0+0.36.8` at `"+runs["passed"].Commit.Short()+"`\n\n**Level 5 of 5.**\n\n"+
		"- ✅ **install** passed in 5.1 s\n- ✅ **upgrade** passed in 10 s\n- ✅ **backup** passed in 15 s\n- ✅ **restore** passed in 20 s\n- ✅ **checks** passed in 25 s\n\n"+
		"**Teardown:** complete, nothing is left. Removed 1 network, 3 secrets, 2 services, 1 volume in 0.8 s.\n\n| stage | took |\n|---|--:|\n| install | 5.1 s |\n\n"+
		"<details><summary>How to run it at home</summary>\n\n```text\ncc-ci repro https://ci.example.org/runs/261121-013000-a1b2c3\n```\n\n</details>\n\n<!-- hidden -->\n[Run](/runs/"+string(runs["passed"].ID)+") · requested by `ada`")
	say(pr, bot, "### ⚠️ infrastructure errored: `pocketbase`\n\n- ✅ **install** passed in 5 s\n- ❌ **upgrade** failed\n- ⏭️ **backup** skipped\n- ❔ **restore** unverified\n- 🔄 **checks** running\n"+
		"- ⬜ checks\n- ➖ lint not asked for\n- ⏳ queued\n- 🚫 cancelled\n\n<details><summary>❌ the first log lines</summary>\n\n```text\n✅ stays text in code\n```\n\n</details>")
	w.forge.statuses = []ccci.CommitStatus{{Context: "cc-ci/testme", State: ccci.StateSuccess, Description: "passed, level 5", URL: "/runs/" + string(runs["passed"].ID)}}
}

func logText(recipe string, fail bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cc-ci 0.1.0 tests %s\nfetching the commit and 14 version tags\n\x1b[32madmitted\x1b[0m: 2 services, 1 volume, 0 errors\n", recipe)
	b.WriteString("##[stage install begin]\ncreating network, 3 secrets, 2 services\n")
	for i := range 40 {
		fmt.Fprintf(&b, "app.1 | starting worker %d of 40\n", i+1)
	}
	b.WriteString("healthy after 3.4 s: GET / answers 200\n##[stage install end pass 31.204s]\n##[stage upgrade begin]\nupgrading 1.0.0+2.0.51 to the head\n")
	if !fail {
		return b.String()
	}
	b.WriteString("db.1 | database system is ready to accept connections\napp.1 | [INFO] migrating to schema 99\n" +
		"app.1 | [FATAL] column \"feed_id\" does not exist\nswarm: rollback completed\n##[stage upgrade end fail 24.1s swarm rolled the upgrade back]\ntearing down\nnothing is left\n")
	return b.String()
}

func stageOf(run ccci.Run, name ccci.StageName, took time.Duration, checks ...ccci.Check) ccci.Stage {
	for i := range checks {
		checks[i].Name = string(name) + "/" + checks[i].Name
		checks[i].Started = run.Started
	}
	s := ccci.Stage{Name: name, Started: run.Started, Duration: took, Checks: checks}
	s.Settle()
	return s
}

func (w *world) baseResult(run ccci.Run) ccci.Result {
	return ccci.Result{Schema: 1, Harness: "0.1.0", RunID: run.ID, Recipe: run.Recipe, PR: run.PR, Commit: run.Commit, Version: run.Version,
		Base:   &ccci.Revision{Version: "1.0.0+0.28.2", Commit: run.Commit, Reason: "the newest release older than the head"},
		Domain: "pock-3f9a1c.ci.localhost", Status: run.Status, Verdict: run.Status.Verdict(), Level: run.Level, Deployments: 1, Upgrades: 1, LintRan: true,
		Images:     []ccci.Image{{Service: "app", Reference: "ghcr.io/muchobien/pocketbase:0.28.2", Digest: "sha256:" + strings.Repeat("4f9d", 16), Size: 48 << 20, Stage: "base"}, {Service: "app", Reference: "ghcr.io/muchobien/pocketbase:0.36.8", Digest: "sha256:" + strings.Repeat("91be", 16), Size: 53 << 20, Stage: "head"}},
		Settings:   ccci.Settings{"health.path": "/api/health", "health.status": "[200]", "timeouts.deploy": "10m0s", "env.ADMIN_PASSWORD": "***", "overlays": ""},
		PeakMemory: 231 << 20, Started: run.Started, Finished: run.Finished, Duration: run.Finished.Sub(run.Started),
		Teardown: &ccci.Teardown{Clean: true, Removed: map[string]int{"service": 2, "network": 1, "secret": 3, "volume": 1, "config": 0}, Duration: 812 * time.Millisecond}}
}

func (w *world) savePassed(run ccci.Run) {
	res := w.baseResult(run)
	ok := func(name, message string, took time.Duration) ccci.Check {
		return ccci.Check{Name: name, Status: ccci.Pass, Message: message, Duration: took}
	}
	res.Stages = []ccci.Stage{
		stageOf(run, ccci.StageInstall, 5100*time.Millisecond, ok("deployed-once", "", 2*time.Second), ok("health", "GET /api/health answers 200", 310*time.Millisecond)),
		stageOf(run, ccci.StageUpgrade, 10*time.Second, ok("converged", "", 8*time.Second), ok("chaos-label", "equals the head", 3*time.Millisecond), ok("data-kept", "the marker written before was read back", 120*time.Millisecond)),
		stageOf(run, ccci.StageBackup, 15*time.Second, ok("snapshot-listed", "", time.Second), ok("expected-paths", "pb_data/data.db, 1.4 MiB", 30*time.Millisecond)),
		stageOf(run, ccci.StageRestore, 20*time.Second, ok("data-restored", "A was seeded, B written, A read back", 200*time.Millisecond)),
		stageOf(run, ccci.StageChecks, 25*time.Second, ok("sign-in", "", 2*time.Second), ccci.Check{Name: "send-mail", Status: ccci.Skip, Message: "declared: needs a mail server"}),
	}
	res.Lint = []ccci.Finding{{Rule: "R009", Severity: "warning", File: "compose.yml", Line: 14, Message: "the image is not pinned by digest", Hint: "Pin it, or say why not."}}
	res.Review = &ccci.Review{
		Against: "main", Commit: "1111111111111111111111111111111111111111",
		Changes:  []ccci.Change{{Subject: "service app", Kind: "changed", What: "changed its command", After: "sh -c <b>"}},
		Proposed: []string{"tests/pocketbase/recipe.yml"},
		Findings: []ccci.Finding{{Rule: "settings", Severity: "error", File: "tests/pocketbase/recipe.yml", Line: 3, Message: "helth: there is no such setting", Hint: "health"}},
		Note:     "half of it",
	}
	res.Changes = []ccci.Change{
		{Subject: "env", Kind: "added", What: "SMTP_HOST is new in .env.sample and has no default: an operator must decide on it"},
		{Subject: "image app", Kind: "changed", What: "changed", Before: "ghcr.io/muchobien/pocketbase:0.28.2", After: "ghcr.io/muchobien/pocketbase:0.36.8"},
		{Subject: "service app", Kind: "changed", What: "changed the proxy label traefik.http.routers.<stack>.rule", Before: "Host(`${DOMAIN}`)", After: "Host(`${DOMAIN}`) || Host(`<b>docs</b>.${DOMAIN}`)"},
	}
	res.Warnings = []string{"docker/cli ignores the key init_containers of service app"}
	res.Artifacts = []ccci.Artifact{{Path: "screenshot-install.png", Title: "Before the upgrade", Kind: "screenshot", Size: 14000}, {Path: "screenshot-upgrade.png", Title: "After the upgrade", Kind: "screenshot", Size: 15000}, {Path: "difference-upgrade.png", Title: "What differs after the upgrade: 9.1 % of the picture", Kind: "difference", Size: 9000}, {Path: "logs/app.1.log", Title: "Log of app", Kind: "log", Size: 2048}, {Path: "report.html", Title: "Test report", Kind: "report", Size: 512}}
	w.saveResult(res)
	w.put(ccci.ArtifactKey(run.ID, "screenshot-install.png"), screenshot(color.RGBA{20, 22, 40, 255}, 4))
	w.put(ccci.ArtifactKey(run.ID, "screenshot-upgrade.png"), screenshot(color.RGBA{48, 40, 110, 255}, 7))
	w.put(ccci.ArtifactKey(run.ID, "difference-upgrade.png"), screenshot(color.RGBA{214, 0, 90, 255}, 5))
	w.put(ccci.ArtifactKey(run.ID, "logs/app.1.log"), []byte("ready\n"))
	w.put(ccci.ArtifactKey(run.ID, "report.html"), []byte("<script>alert(1)</script>"))
	w.put(ccci.ArtifactKey(run.ID, ccci.ReproArchive), []byte("<html>"))
	w.engine.log(run.Build).write(logText(run.Recipe, false)+"all good\n##[stage upgrade end pass 10.000s]\n", true)
}

func (w *world) saveFailed(run ccci.Run) {
	res := w.baseResult(run)
	res.LevelReason = "upgrade: swarm rolled app back to the old version"
	detail := []string{"app.1 | [INFO] migrating to schema 99", "app.1 | [FATAL] column \"feed_id\" does not exist"}
	res.Cause = &ccci.Cause{Check: "upgrade/converged", Code: ccci.CodeRecipe, Message: "Swarm rolled app back to the old version: task: non-zero exit (1)", Hint: "Look at the migration: it expects a column that the old schema does not have.", Detail: detail}
	res.Stages = []ccci.Stage{
		stageOf(run, ccci.StageInstall, 31*time.Second, ccci.Check{Name: "deployed-once", Status: ccci.Pass, Duration: 2 * time.Second}, ccci.Check{Name: "health", Status: ccci.Pass, Message: "GET / answers 200", Duration: 310 * time.Millisecond}),
		stageOf(run, ccci.StageUpgrade, 24*time.Second, ccci.Check{Name: "converged", Status: ccci.Fail, Message: "swarm rolled app back to the old version", Detail: detail, Code: ccci.CodeRecipe, Duration: 23 * time.Second}),
		{Name: ccci.StageBackup, Status: ccci.Unverified, Reason: "the run ended before it"},
		{Name: ccci.StageRestore, Status: ccci.Skip, Reason: "declared: the database cannot be restored in place"},
	}
	res.Teardown.Clean, res.Teardown.Leftovers = false, []string{"volume mini-3f9a1c_stray-data"}
	res.Artifacts = []ccci.Artifact{{Path: "screenshot-install.png", Title: "Before the upgrade", Kind: "screenshot", Size: 14000}}
	w.saveResult(res)
	w.put(ccci.ArtifactKey(run.ID, "screenshot-install.png"), screenshot(color.RGBA{30, 90, 160, 255}, 6))
	w.engine.log(run.Build).write(logText(run.Recipe, true), true)
}
