package localengine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/engine/enginetest"
)

func TestMain(m *testing.M) {
	enginetest.ServeHarness()
	serveEngine()
	goleak.VerifyTestMain(m)
}

func options(dir string) Options {
	return Options{
		Dir:      dir,
		Capacity: 1,
		Grace:    time.Minute,
		Command:  func(job ccci.Job, _ string) (string, []string, []string) { return enginetest.Command(job) },
	}
}

// open starts an engine; stop waits for it. The harnesses of the suite do not end at
// SIGTERM by themselves, so those that are left when a test ends die by the grace.
func open(t *testing.T, opts Options) (e *Engine, stop func()) {
	t.Helper()
	e, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// A11, A16, N2, N5, U14 too: each test of the suite bears its own.
func TestA15_Conformance(t *testing.T) {
	enginetest.Run(t, enginetest.Options{
		Open: func(t *testing.T, place string, capacity int) enginetest.Subject {
			opts := options(place)
			opts.Capacity = capacity
			e, stop := open(t, opts)
			return enginetest.Subject{Engine: e, Stop: stop}
		},
	})
}

func start(t *testing.T, e *Engine, job ccci.Job) ccci.BuildRef {
	t.Helper()
	ref, err := e.Start(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// A15: of what waits, what was asked for first runs first, also when it came last.
func TestA15_QueueIsInTheOrderOfAsking(t *testing.T) {
	opts := options(t.TempDir())
	opts.Capacity = 1
	e, _ := open(t, opts)
	stage := enginetest.NewStage(t)
	at := time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)
	job := func(after time.Duration) ccci.Job {
		job := stage.Job()
		job.Asked = at.Add(after)
		return job
	}
	running, third, first, second, alike := job(time.Hour), job(3*time.Second), job(time.Second), job(2*time.Second), job(2*time.Second)
	start(t, e, running)
	a := stage.NextFor(running)
	for _, waiting := range []ccci.Job{third, second, alike, first} {
		start(t, e, waiting)
	}
	a.Exit(0)
	for _, next := range []ccci.Job{first, second, alike, third} {
		stage.NextFor(next).Exit(0)
	}
}

func TestNewRefuses(t *testing.T) {
	good := options(t.TempDir())
	for name, spoil := range map[string]func(*Options){
		"no directory":        func(o *Options) { o.Dir = "" },
		"no command":          func(o *Options) { o.Command = nil },
		"a negative capacity": func(o *Options) { o.Capacity = -1 },
	} {
		opts := good
		spoil(&opts)
		if _, err := New(opts); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v, want CodeInvalid", name, err)
		}
	}
}

func TestSecondEngineIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, stop := open(t, options(dir))
	if _, err := New(options(dir)); ccci.CodeOf(err) != ccci.CodeConflict || ccci.HintOf(err) == "" {
		t.Errorf("a second engine: %v, want CodeConflict and a hint", err)
	}
	stop()
	e, err := New(options(dir))
	if err != nil {
		t.Fatalf("after the first has stopped: %v", err)
	}
	e.Close()
}

func TestStartRefusesOddIDs(t *testing.T) {
	e, _ := open(t, options(t.TempDir()))
	for _, id := range []ccci.RunID{"", "lock", "..", "../x", "a/b", ".new-x", "a b"} {
		if _, err := e.Start(t.Context(), ccci.Job{RunID: id}); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("run id %q: %v, want CodeInvalid", id, err)
		}
	}
}

// A37: while the machine is too full builds wait; they are not failed, and start by themselves.
func TestA37_BuildsWaitWhileTheMachineIsFull(t *testing.T) {
	var full atomic.Bool
	var asked atomic.Int64
	full.Store(true)
	opts := options(t.TempDir())
	opts.Hold = func() string {
		asked.Add(1)
		if full.Load() {
			return "the disk is full"
		}
		return ""
	}
	e, _ := open(t, opts)
	stage := enginetest.NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	for asked.Load() < 3 {
		e.poke()
		time.Sleep(time.Millisecond)
	}
	if b, err := e.Status(t.Context(), ref); err != nil || b.State != ccci.BuildQueued {
		t.Fatalf("on a full machine the build is %s, %v", b.State, err)
	}
	full.Store(false)
	e.poke()
	a := stage.NextFor(job)
	a.Exit(0)
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndExited {
		t.Errorf("it ended as %s", b.Ending)
	}
}

// What does not listen is killed, with everything that it started (A16).
func TestA16_GraceEndsInKill(t *testing.T) {
	opts := options(t.TempDir())
	opts.Grace = 100 * time.Millisecond
	e, _ := open(t, opts)
	stage := enginetest.NewStage(t)
	job := stage.Job()
	job.Deadline = 5 * time.Second // time enough for a harness to come up on a busy machine
	ref := start(t, e, job)
	a := stage.NextFor(job)
	a.AskedToEnd()
	a.Gone()
	b, log := enginetest.Finished(t, e, ref)
	if b.Ending != ccci.EndDeadline || !strings.Contains(log, "the limit of 5s for the whole run is over") ||
		!strings.Contains(log, "killed: the limit of 100ms for the teardown is over") {
		t.Errorf("it ended as %s with the log %q", b.Ending, log)
	}
}

func TestChildrenOfTheHarnessDieWithIt(t *testing.T) {
	e, _ := open(t, options(t.TempDir()))
	stage := enginetest.NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	a.Do("child")
	child := stage.Next()
	a.Exit(0)
	child.Gone()
	enginetest.Finished(t, e, ref)
}

func TestHarnessLeadsItsOwnGroup(t *testing.T) {
	e, _ := open(t, options(t.TempDir()))
	stage := enginetest.NewStage(t)
	job := stage.Job()
	start(t, e, job)
	a := stage.NextFor(job)
	if group, err := unix.Getpgid(a.PID); err != nil || group != a.PID {
		t.Errorf("its group is %d, %v; want its own, so that Ctrl-C in a terminal does not reach it", group, err)
	}
	a.Exit(0)
}

func TestU17_EnvironmentByAllowList(t *testing.T) {
	t.Setenv("CC_CI_FORGE_TOKEN", "hunter2")
	t.Setenv("SSL_CERT_FILE", "/etc/ssl/x.pem")
	e, _ := open(t, options(t.TempDir()))
	stage := enginetest.NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	a.Do("env")
	a.Exit(0)
	_, log := enginetest.Finished(t, e, ref)
	if strings.Contains(log, "hunter2") || !strings.Contains(log, "SSL_CERT_FILE=/etc/ssl/x.pem") || !strings.Contains(log, "PATH=") {
		t.Errorf("the harness sees:\n%s", log)
	}
	got := Environ([]string{"PATH=/bin", "PATHX=1", "XDG_CACHE_HOME=/c", "GITEA_TOKEN=1", "DOCKER_HOST=unix:///x", "docker_host=1", "LD_PRELOAD=1", "HOME"})
	if diff := cmp.Diff([]string{"PATH=/bin", "XDG_CACHE_HOME=/c", "DOCKER_HOST=unix:///x", "HOME"}, got); diff != "" {
		t.Errorf("Environ (-want +got):\n%s", diff)
	}
}

// A9: a build is parameterised by its whole job: recipe, commit, pull request, source.
func TestA9_TheJobReachesTheHarnessWhole(t *testing.T) {
	dir := t.TempDir()
	opts := options(dir)
	told := make(chan string, 1)
	opts.Command = func(job ccci.Job, dir string) (string, []string, []string) {
		told <- dir
		return enginetest.Command(job)
	}
	e, _ := open(t, opts)
	stage := enginetest.NewStage(t)
	job := stage.Job()
	job.PR = ccci.PRRef{Repo: ccci.RepoRef{Owner: "coop", Name: "wiki"}, Number: 7}
	job.BaseRef, job.Attempt = "main", 1
	job.Options = ccci.Options{Stages: []ccci.StageName{ccci.StageBackup}, From: "1.2.0+3.4.5"}
	start(t, e, job)
	a := stage.NextFor(job)
	data, err := os.ReadFile(filepath.Join(<-told, "job.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got ccci.Job
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(job, got); diff != "" {
		t.Errorf("the job in the file (-want +got):\n%s", diff)
	}
	a.Exit(0)
}

func TestProgramThatIsNotThere(t *testing.T) {
	opts := options(t.TempDir())
	opts.Command = func(ccci.Job, string) (string, []string, []string) { return "/nonexistent/cc-ci", nil, nil }
	e, _ := open(t, opts)
	ref := start(t, e, enginetest.NewStage(t).Job())
	if b, log := enginetest.Finished(t, e, ref); b.Ending != ccci.EndLost || !strings.Contains(log, "/nonexistent/cc-ci") {
		t.Errorf("it ended as %s with the log %q", b.Ending, log)
	}
}

func TestBuildsAndChanged(t *testing.T) {
	opts := options(t.TempDir())
	changes := make(chan ccci.Build, 100)
	opts.Changed = func(b ccci.Build) { changes <- b }
	e, _ := open(t, opts)
	stage := enginetest.NewStage(t)
	second, first := stage.Job(), stage.Job()
	r1 := start(t, e, first)
	a := stage.NextFor(first)
	r2 := start(t, e, second)
	var got []string
	for _, b := range e.Builds() {
		got = append(got, fmt.Sprint(b.Ref, " ", b.State))
	}
	if diff := cmp.Diff([]string{string(r1) + " running", string(r2) + " queued"}, got); diff != "" {
		t.Errorf("Builds (-want +got):\n%s", diff)
	}
	a.Exit(0)
	stage.NextFor(second).Exit(0)
	enginetest.Finished(t, e, r2)
	states := map[ccci.BuildRef][]ccci.BuildState{}
	for range 6 {
		b := <-changes
		states[b.Ref] = append(states[b.Ref], b.State)
	}
	all := []ccci.BuildState{ccci.BuildQueued, ccci.BuildRunning, ccci.BuildDone}
	if diff := cmp.Diff(map[ccci.BuildRef][]ccci.BuildState{r1: all, r2: all}, states); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if len(e.Builds()) != 0 {
		t.Errorf("unfinished: %v", e.Builds())
	}
}

func TestU18_Prune(t *testing.T) {
	dir := t.TempDir()
	e, _ := open(t, options(dir))
	stage := enginetest.NewStage(t)
	old, running := stage.Job(), stage.Job()
	ref := start(t, e, old)
	stage.NextFor(old).Exit(0)
	b, _ := enginetest.Finished(t, e, ref)
	kept := start(t, e, running)
	a := stage.NextFor(running)
	if n, err := e.Prune(b.Finished); n != 0 || err != nil {
		t.Errorf("pruned %d builds before their time, %v", n, err)
	}
	if n, err := e.Prune(b.Finished.Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("pruned %d builds, %v; want the finished one", n, err)
	}
	if _, err := os.Stat(filepath.Join(dir, string(ref))); !os.IsNotExist(err) {
		t.Errorf("its directory: %v", err)
	}
	a.Exit(0)
	enginetest.Finished(t, e, kept)
}
