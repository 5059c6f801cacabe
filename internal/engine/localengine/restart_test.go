package localengine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/engine/enginetest"
	"github.com/recipe-maintainers/cc-ci/internal/process"
)

// serveEngine makes this test binary an engine in a process of its own, so that
// a test can kill it. It starts the job given as JSON.
func serveEngine() {
	if len(os.Args) != 4 || os.Args[1] != "localengine-engine" {
		return
	}
	var job ccci.Job
	err := json.Unmarshal([]byte(os.Args[3]), &job)
	e, nerr := New(options(os.Args[2]))
	if err == nil && nerr == nil {
		_, err = e.Start(context.Background(), job)
	}
	if err != nil || nerr != nil {
		fmt.Fprintln(os.Stderr, err, nerr)
		os.Exit(1)
	}
	e.Run(context.Background())
}

func engineProcess(t *testing.T, dir string, job ccci.Job) (kill func()) {
	t.Helper()
	data, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "localengine-engine", dir, string(data))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(kill)
	return kill
}

// kill -9 of the engine: the harness is asked to end, its teardown is waited for
// and logged, the build runs again, and is given up the second time (U14, U12).
func TestU14_EngineKilled(t *testing.T) {
	dir, stage := t.TempDir(), enginetest.NewStage(t)
	job := stage.Job()
	kill := engineProcess(t, dir, job)
	first := stage.NextFor(job)
	first.Do("print first attempt")
	kill()
	first.AskedToEnd() // by the parent-death signal

	kill = engineProcess(t, dir, job) // starts it anew, and must not at once
	first.AskedToEnd()                // the new engine found it
	first.Do("print teardown of the first")
	first.Exit(143)
	second := stage.NextFor(job)
	second.Do("print second attempt")
	kill()
	second.AskedToEnd()
	second.Exit(143)

	e, _ := open(t, options(dir))
	ref := start(t, e, job)
	b, log := enginetest.Finished(t, e, ref)
	if b.Ending != ccci.EndLost || b.Attempt != 2 {
		t.Errorf("the build ended as %s in attempt %d, want lost in 2", b.Ending, b.Attempt)
	}
	at := -1
	for _, want := range []string{"first attempt", "teardown of the first", "=== cc-ci: attempt 2, because cc-ci died during attempt 1 ===", "second attempt"} {
		next := strings.Index(log, want)
		if next <= at {
			t.Errorf("the log lacks %q in its place:\n%s", want, log)
		}
		at = next
	}
}

// A machine that died leaves a process number that now means something else.
func TestU14_RebootedMachine(t *testing.T) {
	dir, stage := t.TempDir(), enginetest.NewStage(t)
	job := stage.Job()
	for name, p := range map[string]process.Process{
		"other boot":    {PID: os.Getpid(), Start: process.Of(os.Getpid()).Start, Boot: "another"},
		"reused number": {PID: os.Getpid(), Start: 1, Boot: process.Of(os.Getpid()).Boot},
	} {
		t.Run(name, func(t *testing.T) {
			job.RunID = ccci.RunID(strings.ReplaceAll(name, " ", "-"))
			b := &build{dir: filepath.Join(dir, string(job.RunID)), job: job, state: state{
				Build:   ccci.Build{Ref: ccci.BuildRef(job.RunID), RunID: job.RunID, State: ccci.BuildRunning, Attempt: 1},
				Process: p,
			}}
			if err := b.create(); err != nil {
				t.Fatal(err)
			}
			e, stop := open(t, options(dir))
			stage.NextFor(job).Exit(0)
			if got, _ := enginetest.Finished(t, e, b.state.Ref); got.Attempt != 2 || got.Ending != ccci.EndExited {
				t.Errorf("the build is %+v", got)
			}
			stop()
		})
	}
}

// The engine died after it had started the harness and before it wrote that down.
func TestU14_UnrecordedProcessIsFound(t *testing.T) {
	dir, stage := t.TempDir(), enginetest.NewStage(t)
	job := stage.Job()
	b := &build{dir: filepath.Join(dir, string(job.RunID)), job: job, state: state{
		Build: ccci.Build{Ref: ccci.BuildRef(job.RunID), RunID: job.RunID, State: ccci.BuildRunning, Attempt: 1},
	}}
	if err := b.create(); err != nil {
		t.Fatal(err)
	}
	path, args, _ := enginetest.Command(job)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), marker(b.dir))
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	left := stage.NextFor(job)
	e, _ := open(t, options(dir))
	left.AskedToEnd()
	left.Exit(143)
	again := stage.NextFor(job)
	again.Exit(0)
	if got, _ := enginetest.Finished(t, e, b.state.Ref); got.Attempt != 2 || got.Ending != ccci.EndExited {
		t.Errorf("the build is %+v", got)
	}
}

func TestN5_CancelOfAnOrphan(t *testing.T) {
	dir, stage := t.TempDir(), enginetest.NewStage(t)
	job := stage.Job()
	kill := engineProcess(t, dir, job)
	a := stage.NextFor(job)
	kill()
	a.AskedToEnd()
	e, _ := open(t, options(dir))
	a.AskedToEnd()
	if err := e.Cancel(t.Context(), ccci.BuildRef(job.RunID)); err != nil {
		t.Fatal(err)
	}
	a.Exit(143)
	if b, _ := enginetest.Finished(t, e, ccci.BuildRef(job.RunID)); b.Ending != ccci.EndCancelled {
		t.Errorf("it ended as %s", b.Ending)
	}
}

// Whoever cancels is told that it was cancelled, also when the time was up before.
func TestN5_CancelDuringTeardown(t *testing.T) {
	e, _ := open(t, options(t.TempDir()))
	stage := enginetest.NewStage(t)
	job := stage.Job()
	job.Deadline = 5 * time.Second // time enough for a harness to come up on a busy machine
	ref := start(t, e, job)
	a := stage.NextFor(job)
	a.AskedToEnd()
	if err := e.Cancel(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	a.Exit(143)
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndCancelled {
		t.Errorf("it ended as %s", b.Ending)
	}
}

// A stop in good order asks for teardown, waits, and continues after the start. It
// is no loss: it may happen any number of times.
func TestU14_StoppedAndStarted(t *testing.T) {
	dir, stage := t.TempDir(), enginetest.NewStage(t)
	first, second := stage.Job(), stage.Job()
	e, stop := open(t, options(dir))
	ref := start(t, e, first)
	waiting := start(t, e, second)
	for range 3 {
		a := stage.NextFor(first)
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		a.AskedToEnd()
		a.Exit(143)
		<-stopped
		e, stop = open(t, options(dir))
	}
	a := stage.NextFor(first) // still before the second
	a.Exit(0)
	if b, log := enginetest.Finished(t, e, ref); b.Attempt != 4 || b.Ending != ccci.EndExited || !strings.Contains(log, "attempt 4, because cc-ci was stopped during attempt 3") {
		t.Errorf("the build is %+v with the log %q", b, log)
	}
	stage.NextFor(second).Exit(0)
	enginetest.Finished(t, e, waiting)
}

// A harness that came to its own end while the engine was stopping has a verdict.
func TestStopKeepsAVerdict(t *testing.T) {
	dir, stage := t.TempDir(), enginetest.NewStage(t)
	job := stage.Job()
	e, stop := open(t, options(dir))
	ref := start(t, e, job)
	a := stage.NextFor(job)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	a.AskedToEnd()
	a.Exit(1)
	<-stopped
	e, _ = open(t, options(dir))
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndExited || b.ExitCode != 1 {
		t.Errorf("the build is %+v", b)
	}
}

func TestLoadBadDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".new-260301-120000-aaaaaa"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "somebody-elses"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, stop := open(t, options(dir))
	stop()
	if _, err := os.Stat(filepath.Join(dir, ".new-260301-120000-aaaaaa")); !os.IsNotExist(err) {
		t.Errorf("a half-made build is still there: %v", err)
	}
	b := &build{dir: filepath.Join(dir, "x"), job: ccci.Job{RunID: "x"}, state: state{Build: ccci.Build{Ref: "x"}}}
	if err := b.create(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, stateFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if e, err := New(options(dir)); err == nil || !strings.Contains(err.Error(), b.dir) || ccci.HintOf(err) == "" {
		t.Errorf("a broken state.json: %v, %v; want its path and a hint", e, err)
	}
}
