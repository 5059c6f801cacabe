package bridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/bus/inproc"
	"github.com/recipe-maintainers/cc-ci/internal/engine/localengine"
	"github.com/recipe-maintainers/cc-ci/internal/forge/localforge"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

const harnessArg = "bridge-test-harness"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == harnessArg {
		os.Exit(harness(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// harness is a process that keeps a harness's side of the contract: job in,
// markers out, result into the blobs, torn down at SIGTERM. A job that starts from
// version "wait" lasts until it is asked to end.
func harness(jobFile, blobDir string) int {
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	var job ccci.Job
	data, err := os.ReadFile(jobFile)
	if err == nil {
		err = json.Unmarshal(data, &job)
	}
	var blobs *dirblob.Blobs
	if err == nil {
		blobs, err = dirblob.Open(blobDir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	// The commit is really there, under its full name.
	if out, err := exec.Command("git", "-C", job.CloneURL, "cat-file", "-e", string(job.Commit)).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", out, err)
		return 3
	}
	status, code := ccci.StatusPassed, 0
	fmt.Println(ccci.Marker{Stage: ccci.StageInstall, Begin: true})
	if job.Options.From == "wait" {
		<-terms
		status, code = ccci.StatusCancelled, 143
	} else {
		fmt.Println(ccci.Marker{Stage: ccci.StageInstall, Status: ccci.Pass})
	}
	result, err := json.Marshal(resultOf(job, status))
	if err == nil {
		_, err = blobs.Put(context.Background(), ccci.ResultKey(job.RunID), bytes.NewReader(result))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	return code
}

// appliance is the embedded profile without its dashboard, on real files.
type appliance struct {
	t      *testing.T
	forge  *localforge.Forge
	engine *localengine.Engine
	store  *sqlstore.Store
	bus    *inproc.Bus
	locker *inproc.Locker
	blobs  *dirblob.Reader
	git    string // the bare repository
	tree   string // a tree to make commits of
}

func newAppliance(t *testing.T) *appliance {
	t.Helper()
	dir := t.TempDir()
	a := &appliance{t: t, bus: &inproc.Bus{}, locker: &inproc.Locker{}}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	check(err)
	a.store, err = sqlstore.Open(t.Context(), filepath.Join(dir, "cc-ci.db"))
	check(err)
	t.Cleanup(func() { a.store.Close() })
	_, err = dirblob.Open(filepath.Join(dir, "blobs"))
	check(err)
	a.blobs, err = dirblob.OpenReader(filepath.Join(dir, "blobs"))
	check(err)
	a.forge, err = localforge.Open(t.Context(), localforge.Options{Dir: filepath.Join(dir, "forge"), OnComment: func(r ccci.RepoRef) {
		_ = a.bus.Publish(context.Background(), ccci.TopicForge, r.String())
	}})
	check(err)
	t.Cleanup(func() { a.forge.Close() })
	a.engine, err = localengine.New(localengine.Options{Dir: filepath.Join(dir, "engine"), Capacity: 2, Grace: 30 * time.Second,
		Command: func(job ccci.Job, build string) (string, []string, []string) {
			return exe, []string{harnessArg, filepath.Join(build, "job.json"), filepath.Join(dir, "blobs")}, []string{"GORACE=atexit_sleep_ms=0"}
		}})
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		a.engine.Close()
	})
	a.git, err = a.forge.CreateRepo(t.Context(), repo)
	check(err)
	check(a.forge.AddMember(t.Context(), "recipes", "ada"))
	a.tree = a.run("mktree")
	a.run("update-ref", "refs/heads/main", a.commit("first"))
	return a
}

// run runs git in the bare repository.
func (a *appliance) run(args ...string) string {
	cmd := exec.Command("git", append([]string{"-C", a.git}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@localhost", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@localhost")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		a.t.Errorf("git %v: %v: %s", args, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

func (a *appliance) commit(message string) string {
	return a.run("commit-tree", a.tree, "-m", message)
}

func (a *appliance) openPR(branch string) ccci.PRRef {
	a.t.Helper()
	a.run("update-ref", "refs/heads/"+branch, a.commit("head of "+branch))
	pr, err := a.forge.OpenPullRequest(a.t.Context(), repo, "change "+branch, branch, "main", "mallory")
	if err != nil {
		a.t.Fatal(err)
	}
	return pr.Ref
}

func (a *appliance) say(pr ccci.PRRef, author, body string) ccci.CommentID {
	a.t.Helper()
	id, err := a.forge.AddComment(a.t.Context(), pr, author, body)
	if err != nil {
		a.t.Fatal(err)
	}
	return id
}

func (a *appliance) bridge() (b *bridge.Bridge, stop func()) {
	a.t.Helper()
	b, err := bridge.New(bridge.Config{
		Forge: a.forge, Engine: a.engine, Store: a.store, Bus: a.bus, Locker: a.locker, Blobs: a.blobs,
		Repos: []bridge.Repo{{Ref: repo, Recipe: "miniflux", Org: "recipes"}}, Capacity: 2, DashboardURL: "http://127.0.0.1:1",
		Bases: func(context.Context, string, ccci.Commit) (ccci.Bases, error) {
			return ccci.Bases{Usable: []string{"wait"}}, nil
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	return b, sync.OnceFunc(func() { cancel(); <-done })
}

// await waits until what is written about the pull requests satisfies ok.
func (a *appliance) await(what string, ok func() bool) {
	a.t.Helper()
	deadline := time.After(3 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			a.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func (a *appliance) bots(pr ccci.PRRef) (bodies []string) {
	thread, err := a.forge.ThreadOf(a.t.Context(), pr)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, c := range thread {
		if c.Author.Name == "cc-ci" {
			bodies = append(bodies, c.Body)
		}
	}
	return bodies
}

func (a *appliance) runs(filter ccci.RunFilter) []ccci.Run {
	filter.Limit = 10_000
	runs, err := a.store.FindRuns(a.t.Context(), filter)
	if err != nil {
		a.t.Fatal(err)
	}
	return runs
}

// A4, A7, A8, A11, N5: the way of a wish over forge, store and engine as they are shipped.
func TestA10_OnTheShippedAdapters(t *testing.T) {
	a := newAppliance(t)
	pr := a.openPR("upgrade")
	_, stop := a.bridge()
	defer func() { stop() }()

	said := time.Now()
	a.say(pr, "mallory", "!testme")
	id := a.say(pr, "ada", "!testme")
	a.await("the verdict", func() bool { b := a.bots(pr); return len(b) == 2 && strings.Contains(b[1], "✅ passed") })
	runs := a.runs(ccci.RunFilter{})
	if len(runs) != 1 || runs[0].Comment != id || string(runs[0].Commit) != a.run("rev-parse", "upgrade") {
		t.Fatalf("runs %+v", runs)
	}
	t.Logf("from comment to harness: %s", runs[0].Started.Sub(said))
	if d := runs[0].Started.Sub(said); d > 5*time.Second {
		t.Errorf("from comment to harness: %s", d)
	}
	a.await("the status", func() bool {
		s, err := a.forge.Statuses(t.Context(), repo, runs[0].Commit)
		return err == nil && slices.ContainsFunc(s, func(s ccci.CommitStatus) bool { return s.State == ccci.StateSuccess && s.Context == "cc-ci/testme" })
	})

	// The bridge goes away in the middle of a run; the run does not.
	a.say(pr, "ada", "!testme from=wait")
	a.await("the first stage, from which on the harness hears SIGTERM", func() bool {
		running := a.runs(ccci.RunFilter{Statuses: []ccci.Status{ccci.StatusRunning}})
		return len(running) == 1 && len(running[0].Stages) == 1
	})
	stop()
	a.say(pr, "ada", "!cancel")
	_, stop = a.bridge()
	a.await("the end", func() bool { return len(a.runs(ccci.RunFilter{Statuses: []ccci.Status{ccci.StatusCancelled}})) == 1 })
	a.await("the proof", func() bool {
		return slices.ContainsFunc(a.bots(pr), func(s string) bool {
			return strings.Contains(s, "Cancelled by `ada`") && strings.Contains(s, "**Teardown:** complete")
		})
	})
	a.await("a refusal, two runs and an answer", func() bool { return len(a.bots(pr)) == 4 })
}

// N2: what was written while no bridge ran is served once, in every order of restarts: each
// comment has its run, or an answer that names the run of the same test.
func TestU14_TwoHundredCommentsAcrossRestarts(t *testing.T) {
	a := newAppliance(t)
	var prs []ccci.PRRef
	branches := 20
	if testing.Short() {
		branches = 2
	}
	wishes := 10 * branches
	for i := range branches {
		prs = append(prs, a.openPR(fmt.Sprintf("b%d", i)))
	}
	accepted := map[ccci.CommentID]bool{}
	write := func(n int) {
		for range n {
			for _, pr := range prs {
				accepted[a.say(pr, "ada", "!testme")] = true
				a.say(pr, "mallory", "!testme")
			}
		}
	}
	write(2)
	for range 4 {
		_, stop := a.bridge()
		write(1)
		stop()
		write(1)
		// The forge tells everything again from the beginning.
		if err := a.store.SaveCursor(t.Context(), a.forge.Name(), repo, ""); err != nil {
			t.Fatal(err)
		}
	}
	_, stop := a.bridge()
	defer stop()
	green, answered := 0, 0
	a.await("a verdict or an answer for each", func() bool {
		green, answered = 0, 0
		for _, pr := range prs {
			for _, body := range a.bots(pr) {
				if strings.Contains(body, "✅ passed") {
					green++
				}
				if strings.Contains(body, "it was not queued a second time") {
					answered++
				}
			}
		}
		return green+answered == wishes
	})
	runs := a.runs(ccci.RunFilter{})
	if len(accepted) != wishes || len(runs) != green || green < branches || answered == 0 {
		t.Errorf("%d accepted comments, %d runs, %d green, %d answered", len(accepted), len(runs), green, answered)
	}
	for _, run := range runs {
		if !accepted[run.Comment] || run.Status != ccci.StatusPassed {
			t.Errorf("run %+v", run)
		}
	}
	for _, pr := range prs {
		if n := len(a.bots(pr)); n != 11 { // one for each comment, and one refusal
			t.Errorf("%d comments on %s", n, pr)
		}
	}
}

func TestN1_PushAgainstAcceptance(t *testing.T) {
	a := newAppliance(t)
	_, stop := a.bridge()
	defer stop()
	const tries = 60
	agreed := map[ccci.CommentID]string{}
	rnd := rand.New(rand.NewPCG(5, 6))
	var pushes sync.WaitGroup
	for i := range tries {
		branch := fmt.Sprintf("r%d", i)
		pr := a.openPR(branch)
		next := a.commit("sneaked into " + branch)
		head := a.run("rev-parse", branch)
		delay := time.Duration(rnd.IntN(40)) * time.Millisecond
		id := a.say(pr, "ada", "!testme")
		pushes.Go(func() {
			<-time.After(delay)
			a.run("update-ref", "refs/heads/"+branch, next)
		})
		agreed[id] = head
	}
	pushes.Wait()
	refused := 0
	a.await("an answer to each", func() bool {
		refused = 0
		for i := range tries {
			for _, body := range a.bots(ccci.PRRef{Repo: repo, Number: i + 1}) {
				if strings.Contains(body, "was pushed to") {
					refused++
				}
			}
		}
		return refused+len(a.runs(ccci.RunFilter{})) == tries && len(a.runs(ccci.RunFilter{Unfinished: true})) == 0
	})
	for _, run := range a.runs(ccci.RunFilter{}) {
		superseded := run.Status == ccci.StatusCancelled && run.Superseded.Head != "" // it waited when the push came
		if string(run.Commit) != agreed[run.Comment] || run.Status != ccci.StatusPassed && !superseded {
			t.Errorf("comment %s agreed to %s, ran %s: %s %s", run.Comment, agreed[run.Comment], run.Commit, run.Status, run.Cause)
		}
	}
	t.Logf("%d refused, %d run", refused, tries-refused)
}
