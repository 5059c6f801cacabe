package drone

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drone/drone-go/drone"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/engine/enginetest"
)

const patience = 30 * time.Second

func begin(t *testing.T, e *Engine, job ccci.Job) ccci.BuildRef {
	t.Helper()
	ref, err := e.Start(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// until waits for what e says of a build.
func until(t *testing.T, e *Engine, ref ccci.BuildRef, what string, is func(ccci.Build) bool) ccci.Build {
	t.Helper()
	limit := time.Now().Add(2 * patience)
	for {
		b, err := e.Status(t.Context(), ref)
		if err == nil && is(b) {
			return b
		}
		if time.Now().After(limit) {
			t.Fatalf("build %s is not %s: %+v, %v", ref, what, b, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func builds(t *testing.T, w *world, repo ccci.RepoRef) []*drone.Build {
	t.Helper()
	var all []*drone.Build
	if err := json.Unmarshal(w.API(http.MethodGet, "/api/repos/"+repo.String()+"/builds?per_page=100", nil), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// A9: how long it takes from Start to the first word of the step's program. After
// 30 s of nothing to do the runner sleeps up to 10 s; that is not measured here.
func testTrigger(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	e, _ := open(t, w.options(t, place, 1))
	var took []time.Duration
	for range 5 {
		job := stage.Job()
		began := time.Now()
		ref := begin(t, e, job)
		a := stage.NextFor(job)
		took = append(took, time.Since(began).Round(time.Millisecond))
		a.Exit(0)
		enginetest.Finished(t, e, ref)
	}
	slices.Sort(took)
	t.Logf("trigger to step: median %s of %v", took[len(took)/2], took)
}

// A13: .drone.yml has the pipeline recipe-ci alone, for custom builds. Where somebody adds
// another one, its builds are none of the engine's.
func testPipelines(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	shipped := pipeline(t, place, 1)
	if n := strings.Count(shipped, "kind:"); n != 1 {
		t.Errorf(".drone.yml has %d pipelines", n)
	}
	opts.Repo = w.AddRepository("with-a-test-of-pushes", shipped+"\n---\nkind: pipeline\ntype: exec\nname: self-test\ntrigger: {event: [push]}\nsteps: [{name: test, commands: [\"true\"]}]\n")
	e, _ := open(t, opts)
	job := stage.Job()
	ref := begin(t, e, job)
	stage.NextFor(job).Exit(0)
	enginetest.Finished(t, e, ref)
	w.Push(opts.Repo, ".ci/run", "#!/bin/sh\n")
	limit := time.Now().Add(patience)
	var got map[string][]string
	for len(got) < 2 && time.Now().Before(limit) {
		got = map[string][]string{}
		for _, b := range builds(t, w, opts.Repo) {
			var whole drone.Build
			if err := json.Unmarshal(w.API(http.MethodGet, "/api/repos/"+opts.Repo.String()+"/builds/"+string(refOf(b.Number)), nil), &whole); err != nil {
				t.Fatal(err)
			}
			for _, s := range whole.Stages {
				got[b.Event] = append(got[b.Event], s.Name)
			}
			if b.Event == "push" { // it is none of the engine's
				if _, err := e.Status(t.Context(), refOf(b.Number)); !errors.Is(err, ccci.ErrNotFound) {
					t.Errorf("the build of a push: %v, want ErrNotFound", err)
				}
			}
		}
	}
	if !slices.Equal(got["custom"], []string{"recipe-ci"}) || !slices.Equal(got["push"], []string{"self-test"}) {
		t.Errorf("pipelines by event: %v", got)
	}
}

// N3: with a commit, what is pushed to the default branch afterwards does not run on the
// host; without one it does.
func testPinned(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	pinned := opts
	pinned.Commit = w.Head(opts.Repo)
	mark := filepath.Join(t.TempDir(), "mark")
	w.Replace(opts.Repo, ".drone.yml", fmt.Sprintf("kind: pipeline\ntype: exec\nname: recipe-ci\nclone: {disable: true}\ntrigger: {event: [custom]}\nsteps: [{name: evil, commands: ['touch \"%s\"']}]\n", mark))

	e, _ := open(t, pinned)
	job := stage.Job()
	ref := begin(t, e, job)
	stage.NextFor(job).Exit(0)
	enginetest.Finished(t, e, ref)
	if _, err := os.Stat(mark); err == nil {
		t.Error("what was pushed has run, in spite of the commit")
	}
	e, _ = open(t, opts)
	enginetest.Finished(t, e, begin(t, e, stage.Job()))
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("without a commit, what was pushed has not run: %v", err)
	}
}

func testTimeOutIsSet(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	w.API(http.MethodPatch, "/api/repos/"+opts.Repo.String(), map[string]int{"timeout": 7})
	e, _ := open(t, opts)
	job := stage.Job()
	begin(t, e, job)
	stage.NextFor(job).Exit(0)
	var repo drone.Repo
	if err := json.Unmarshal(w.API(http.MethodGet, "/api/repos/"+opts.Repo.String(), nil), &repo); err != nil || repo.Timeout != 60 {
		t.Errorf("the repository's time-out is %d min, %v; want 60", repo.Timeout, err)
	}
}

// A16: the last resort, when nobody else ends a run: Drone's own limit. Its
// smallest is a minute.
func testTimeOut(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	opts.Timeout = time.Minute
	e, err := New(opts) // and nobody runs it
	if err != nil {
		t.Fatal(err)
	}
	job := stage.Job()
	job.Deadline = time.Hour
	ref := begin(t, e, job)
	a := stage.NextFor(job)
	// The stage waits for at most half a minute, and this takes a whole one.
	var b ccci.Build
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); time.Sleep(200 * time.Millisecond) {
		d, err := e.build(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if over(d.Status) {
			break
		}
	}
	if b, err = e.Status(t.Context(), ref); err != nil || b.State != ccci.BuildRunning {
		t.Errorf("while it tears down: %+v, %v", b, err)
	}
	a.AskedToEnd()
	a.Exit(143)
	fresh, err := New(opts) // by the record alone
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := enginetest.Finished(t, fresh, ref); b.Ending != ccci.EndDeadline {
		t.Errorf("it ended as %s, want by the deadline", b.Ending)
	}
}

// N2: the answer to the request that made the build is lost, and so is the
// process that had asked.
func testStartAfterCrash(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	job, other, third := stage.Job(), stage.Job(), stage.Job()
	faults := &faults{next: http.DefaultTransport}
	opts.Transport = faults
	first, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	faults.set(func(r *http.Request) fault {
		if r.Method == http.MethodPost {
			return dropAnswer
		}
		return none
	})
	if ref, err := first.Start(t.Context(), job); err == nil {
		t.Fatalf("the answer was lost, and Start says %s", ref)
	}
	faults.set(nil)
	a := stage.NextFor(job)
	second, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	second.pageSize = 1 // the build is pages away
	begin(t, second, other)
	begin(t, second, third)
	third2, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	third2.pageSize = 1
	ref := begin(t, third2, job)
	runs := slices.DeleteFunc(builds(t, w, opts.Repo), func(b *drone.Build) bool { return b.Event != "custom" }) // a push starts one too
	if ref != "1" || len(runs) != 3 {
		t.Errorf("the run is build %s, and there are %d builds of runs; want 1 and 3", ref, len(runs))
	}
	a.Exit(0)
	stage.NextFor(other).Exit(0)
	stage.NextFor(third).Exit(0)
	enginetest.Finished(t, third2, ref)
}

// N2: two processes have started the same run at the same instant.
func testSecondBuild(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 2)
	job := stage.Job()
	e, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ref := begin(t, e, job)
	a := stage.NextFor(job)
	params, err := Parameters(job)
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{}
	for name, value := range params {
		q.Set(name, value)
	}
	w.API(http.MethodPost, "/api/repos/"+opts.Repo.String()+"/builds?"+q.Encode(), nil)
	if again := begin(t, e, job); again != ref {
		t.Errorf("the run is build %s, was %s", again, ref)
	}
	open(t, opts)
	limit := time.Now().Add(patience)
	for builds(t, w, opts.Repo)[0].Status != drone.StatusKilled {
		if time.Now().After(limit) {
			t.Fatal("the second build lives")
		}
	}
	if b, err := e.Status(t.Context(), ref); err != nil || b.State != ccci.BuildRunning {
		t.Errorf("the first build: %+v, %v", b, err)
	}
	a.Exit(0)
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndExited {
		t.Errorf("the first build ended as %s", b.Ending)
	}
}

// U17: what a job holds can neither name a variable nor run a command.
func testParameters(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	e, _ := open(t, w.options(t, place, 1))
	job := stage.Job()
	trap := filepath.Join(place, "trap")
	job.Recipe = "x&PATH=/evil; $(touch " + trap + ") `touch " + trap + "`\nPATH=/evil ${PATH}"
	ref := begin(t, e, job)
	a := stage.NextFor(job)
	a.Do("env")
	a.Exit(0)
	_, log := enginetest.Finished(t, e, ref)
	if !strings.Contains(log, "\nRECIPE="+job.Recipe+"\n") {
		t.Errorf("the recipe's name is not there verbatim:\n%s", log)
	}
	// Its second line looks like a variable; without it there is one PATH, the runner's.
	log = strings.Replace(log, "RECIPE="+job.Recipe, "RECIPE=", 1)
	var names []string
	for line := range strings.Lines(log) {
		name, value, _ := strings.Cut(line, "=")
		if slices.Contains([]string{"PATH", "RUN_ID", "RECIPE", "REF", "PR", "SRC", JobVariable}, name) {
			names = append(names, name)
		}
		if strings.Contains(value, "evil") {
			t.Errorf("what the job holds is in %s", line)
		}
	}
	slices.Sort(names)
	if want := []string{JobVariable, "PATH", "PR", "RECIPE", "REF", "RUN_ID", "SRC"}; !slices.Equal(names, want) {
		t.Errorf("the step has the variables %v, want each once of %v:\n%s", names, want, log)
	}
	if found, _ := filepath.Glob(trap); found != nil {
		t.Error("a command in a parameter was run")
	}
}

// A15: Drone frees its slot at a cancellation; the next harness waits for the
// former's teardown, and may be cancelled there.
func testCancelWaiting(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	e, _ := open(t, opts)
	first, second, third := stage.Job(), stage.Job(), stage.Job()
	ref1 := begin(t, e, first)
	a := stage.NextFor(first)
	ref2, ref3 := begin(t, e, second), begin(t, e, third)
	if err := e.Cancel(t.Context(), ref1); err != nil {
		t.Fatal(err)
	}
	a.AskedToEnd()
	limit := time.Now().Add(patience)
	for { // until the second harness waits at the machine
		if p, err := opts.Host(t.Context(), second.RunID); err != nil || time.Now().After(limit) {
			t.Fatalf("no second harness: %v", err)
		} else if p == Waiting {
			break
		}
	}
	if b, err := e.Status(t.Context(), ref2); err != nil || b.State != ccci.BuildQueued {
		t.Errorf("the second build, whose harness waits: %+v, %v", b, err)
	}
	if err := e.Cancel(t.Context(), ref2); err != nil {
		t.Fatal(err)
	}
	if b, _ := enginetest.Finished(t, e, ref2); b.Ending != ccci.EndCancelled {
		t.Errorf("the second build ended as %s", b.Ending)
	}
	if b, err := e.Status(t.Context(), ref1); err != nil || b.State != ccci.BuildRunning {
		t.Errorf("the first build, which tears down: %+v, %v", b, err)
	}
	unfinished, err := e.Builds(t.Context())
	if err != nil || len(unfinished) == 0 || unfinished[len(unfinished)-1].Ref != ref3 {
		t.Errorf("unfinished: %+v, %v", unfinished, err)
	}
	a.Exit(143)
	stage.NextFor(third).Exit(0)
	enginetest.Finished(t, e, ref3)
}
