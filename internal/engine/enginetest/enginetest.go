// Package enginetest is the conformance suite of [ccci.Engine]. Each sentence of
// the port's contract is a sub-test. It starts real processes: the test binary
// acts as the harness, and obeys the test over a socket, so that no test waits
// by the clock.
//
// A new adapter proves itself with one test file:
//
//	func TestMain(m *testing.M) {
//		enginetest.ServeHarness()
//		os.Exit(m.Run())
//	}
//
//	func TestConformance(t *testing.T) {
//		enginetest.Run(t, enginetest.Options{
//			Open: func(t *testing.T, place string, capacity int) enginetest.Subject {
//				// an engine that starts what enginetest.Command(job) says
//			},
//		})
//	}
package enginetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Options say what the suite needs to know about an adapter.
type Options struct {
	// Open opens an engine with its state in the directory place, and lets it
	// work. Opening the same place after Stop continues that state.
	Open func(t *testing.T, place string, capacity int) Subject

	// LogEndsWithCancel is set where what the harness prints after it was asked to
	// end may be missing from the engine's log.
	LogEndsWithCancel bool
}

// Subject is an engine under test.
type Subject struct {
	ccci.Engine
	// Stop shuts the engine down in good order. Legal twice; Open registers it with
	// t.Cleanup.
	Stop func()
}

// Run runs the whole suite.
func Run(t *testing.T, opts Options) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Options)
	}{
		{"N2_StartTwiceIsOneBuild", testStartTwice},
		{"N2_StartAgainAfterTheEnd", testStartAfterEnd},
		{"U14_StartAgainAfterARestart", testStartAfterRestart},
		{"A15_QueueInOrder", testOrder},
		{"A15_Capacity", testCapacity},
		{"A11_ExitCodes", testExitCodes},
		{"A11_KilledHarness", testKilled},
		{"N7_NextAttempt", testNextAttempt},
		{"A16_Deadline", testDeadline},
		{"A16_DeadlineFreesTheSlot", testDeadlineFrees},
		{"N5_CancelQueued", testCancelQueued},
		{"N5_CancelRunningAfterTeardown", testCancelRunning},
		{"N5_CancelFinishedAndUnknown", testCancelNothing},
		{"UnknownBuilds", testUnknown},
		{"P19_LogsFollow", testLogsFollow},
		{"P19_LogsFromAnOffset", testLogsOffset},
		{"P19_LogsOfAQueuedBuild", testLogsQueued},
		{"P19_LogsEndWithTheirContext", testLogsContext},
		{"P19_LogsClose", testLogsClose},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, opts) })
	}
}

func start(t *testing.T, e ccci.Engine, job ccci.Job) ccci.BuildRef {
	t.Helper()
	ref, err := e.Start(t.Context(), job)
	if err != nil || ref == "" {
		t.Fatalf("Start(%s) = %q, %v", job.RunID, ref, err)
	}
	return ref
}

func status(t *testing.T, e ccci.Engine, ref ccci.BuildRef) ccci.Build {
	t.Helper()
	b, err := e.Status(t.Context(), ref)
	if err != nil {
		t.Fatalf("Status(%s): %v", ref, err)
	}
	return b
}

func wantState(t *testing.T, e ccci.Engine, ref ccci.BuildRef, want ccci.BuildState) {
	t.Helper()
	if b := status(t, e, ref); b.State != want {
		t.Errorf("build %s is %s, want %s", ref, b.State, want)
	}
}

// Finished waits for a build's end, which the end of its log tells, and returns
// the build with its whole log.
func Finished(t *testing.T, e ccci.Engine, ref ccci.BuildRef) (ccci.Build, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := e.Logs(ctx, ref, 0)
	if err != nil {
		t.Fatalf("Logs(%s): %v", ref, err)
	}
	defer r.Close()
	log, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading the log of %s to its end: %v", ref, err)
	}
	b := status(t, e, ref)
	if b.State != ccci.BuildDone || b.Ending == "" {
		t.Fatalf("the log of %s has ended, and the build is %s %s", ref, b.State, b.Ending)
	}
	if b.Finished.IsZero() || b.Finished.Before(b.Started) || b.Started.Before(b.Created) && !b.Started.IsZero() {
		t.Errorf("times of %s: created %s, started %s, finished %s", ref, b.Created, b.Started, b.Finished)
	}
	return b, string(log)
}

func wantEnd(t *testing.T, e ccci.Engine, ref ccci.BuildRef, ending ccci.Ending, code int) string {
	t.Helper()
	b, log := Finished(t, e, ref)
	if b.Ending != ending || (ending == ccci.EndExited && b.ExitCode != code) {
		t.Errorf("build %s ended as %s with code %d, want %s with %d", ref, b.Ending, b.ExitCode, ending, code)
	}
	return log
}

func testStartTwice(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 2), NewStage(t)
	job, other := stage.Job(), stage.Job()
	refs := make([]ccci.BuildRef, 8)
	var wg sync.WaitGroup
	for i := range refs {
		wg.Go(func() { refs[i], _ = e.Start(t.Context(), job) })
	}
	wg.Wait()
	for _, ref := range refs {
		if ref == "" || ref != refs[0] {
			t.Fatalf("one job got the builds %v", refs)
		}
	}
	first := stage.NextFor(job)
	ref2 := start(t, e, other)
	second := stage.NextFor(other) // and not the first job's once more
	first.Exit(0)
	second.Exit(0)
	wantEnd(t, e, refs[0], ccci.EndExited, 0)
	wantEnd(t, e, ref2, ccci.EndExited, 0)
	if b := status(t, e, refs[0]); b.RunID != job.RunID || b.Ref != refs[0] || b.Attempt != 1 {
		t.Errorf("the build says it is %+v", b)
	}
}

func testStartAfterEnd(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job, other := stage.Job(), stage.Job()
	ref := start(t, e, job)
	stage.NextFor(job).Exit(0)
	wantEnd(t, e, ref, ccci.EndExited, 0)
	if again := start(t, e, job); again != ref {
		t.Errorf("the same job got another build: %s, then %s", ref, again)
	}
	wantState(t, e, ref, ccci.BuildDone)
	ref = start(t, e, other)
	stage.NextFor(other).Exit(0)
	wantEnd(t, e, ref, ccci.EndExited, 0)
}

// The next attempt at a run is a build of its own, and just one.
func testNextAttempt(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job := stage.Job()
	first := start(t, e, job)
	stage.NextFor(job).Exit(3)
	wantEnd(t, e, first, ccci.EndExited, 3)
	job.Attempt = 2
	second := start(t, e, job)
	if again := start(t, e, job); second == first || again != second {
		t.Fatalf("attempt 1 is build %s, attempt 2 is %s and then %s", first, second, again)
	}
	stage.NextFor(job).Exit(0)
	wantEnd(t, e, second, ccci.EndExited, 0)
	if b := status(t, e, second); b.Attempt != 2 || b.RunID != job.RunID {
		t.Errorf("the second build says it is %+v", b)
	}
	wantEnd(t, e, first, ccci.EndExited, 3)
}

func testStartAfterRestart(t *testing.T, o Options) {
	place, stage := t.TempDir(), NewStage(t)
	e := o.Open(t, place, 1)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	a.Do("print hello")
	a.Exit(1)
	before, logBefore := Finished(t, e, ref)
	e.Stop()
	e = o.Open(t, place, 1)
	if again := start(t, e, job); again != ref {
		t.Errorf("after a restart the same job got another build: %s, then %s", ref, again)
	}
	after, logAfter := Finished(t, e, ref)
	if after != before || logAfter != logBefore {
		t.Errorf("the build was %+v %q, is now %+v %q", before, logBefore, after, logAfter)
	}
	other := stage.Job()
	start(t, e, other)
	stage.NextFor(other).Exit(0)
}

func testOrder(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	var jobs []ccci.Job
	var refs []ccci.BuildRef
	for range 4 {
		jobs = append([]ccci.Job{stage.Job()}, jobs...) // by id, later jobs come first
	}
	for _, job := range jobs {
		refs = append(refs, start(t, e, job))
	}
	for i, job := range jobs {
		a := stage.NextFor(job)
		wantState(t, e, refs[i], ccci.BuildRunning)
		for _, waiting := range refs[i+1:] {
			wantState(t, e, waiting, ccci.BuildQueued)
		}
		a.Exit(0)
	}
	for _, ref := range refs {
		wantEnd(t, e, ref, ccci.EndExited, 0)
	}
}

func testCapacity(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 2), NewStage(t)
	a, b, c := stage.Job(), stage.Job(), stage.Job()
	start(t, e, a)
	start(t, e, b)
	third := start(t, e, c)
	first, second := stage.Next(), stage.Next()
	wantState(t, e, third, ccci.BuildQueued)
	first.Exit(0)
	last := stage.NextFor(c)
	wantState(t, e, third, ccci.BuildRunning)
	second.Exit(0)
	last.Exit(0)
}

func testExitCodes(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	for _, code := range []int{0, 1, 3, 4} {
		job := stage.Job()
		ref := start(t, e, job)
		stage.NextFor(job).Exit(code)
		wantEnd(t, e, ref, ccci.EndExited, code)
	}
}

func testKilled(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	if err := syscall.Kill(a.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, e, ref, ccci.EndExited, 137)
}

func testDeadline(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job := stage.Job()
	job.Deadline = time.Second
	ref := start(t, e, job)
	a := stage.NextFor(job)
	a.AskedToEnd()
	wantState(t, e, ref, ccci.BuildRunning) // it is tearing down
	a.Do("print teardown")
	a.Exit(143)
	if log := wantEnd(t, e, ref, ccci.EndDeadline, 0); !o.LogEndsWithCancel && !strings.Contains(log, "teardown") {
		t.Errorf("the log lacks what was printed during the teardown: %q", log)
	}
}

func testDeadlineFrees(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	slow, next := stage.Job(), stage.Job()
	slow.Deadline = time.Second // its harness has to come up
	start(t, e, slow)
	ref := start(t, e, next)
	a := stage.NextFor(slow)
	a.AskedToEnd()
	wantState(t, e, ref, ccci.BuildQueued)
	a.Exit(143)
	stage.NextFor(next).Exit(0)
	wantEnd(t, e, ref, ccci.EndExited, 0)
}

func cancel(t *testing.T, e ccci.Engine, ref ccci.BuildRef) {
	t.Helper()
	if err := e.Cancel(t.Context(), ref); err != nil {
		t.Fatalf("Cancel(%s): %v", ref, err)
	}
}

func testCancelQueued(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	running, unwanted, next := stage.Job(), stage.Job(), stage.Job()
	start(t, e, running)
	a := stage.NextFor(running)
	ref := start(t, e, unwanted)
	last := start(t, e, next)
	cancel(t, e, ref)
	wantEnd(t, e, ref, ccci.EndCancelled, 0)
	if b := status(t, e, ref); !b.Started.IsZero() {
		t.Errorf("it never ran, and was started at %s", b.Started)
	}
	a.Exit(0)
	stage.NextFor(next).Exit(0)
	wantEnd(t, e, last, ccci.EndExited, 0)
}

func testCancelRunning(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job, next := stage.Job(), stage.Job()
	ref := start(t, e, job)
	waiting := start(t, e, next)
	a := stage.NextFor(job)
	cancel(t, e, ref) // returns although the harness goes on
	cancel(t, e, ref)
	a.AskedToEnd()
	wantState(t, e, ref, ccci.BuildRunning)
	wantState(t, e, waiting, ccci.BuildQueued)
	a.Do("print removed 3 services")
	a.Exit(143)
	if log := wantEnd(t, e, ref, ccci.EndCancelled, 0); !o.LogEndsWithCancel && !strings.Contains(log, "removed 3 services") {
		t.Errorf("the log lacks the teardown: %q", log)
	}
	stage.NextFor(next).Exit(0)
}

func testCancelNothing(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	cancel(t, e, "unheard-of")
	job := stage.Job()
	ref := start(t, e, job)
	stage.NextFor(job).Exit(1)
	before, _ := Finished(t, e, ref)
	cancel(t, e, ref)
	if after := status(t, e, ref); after != before {
		t.Errorf("cancelling a finished build changed it: %+v, then %+v", before, after)
	}
}

func testUnknown(t *testing.T, o Options) {
	e := o.Open(t, t.TempDir(), 1)
	for _, ref := range []ccci.BuildRef{"", "unheard-of", "../lock", "lock"} {
		if _, err := e.Status(t.Context(), ref); !errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("Status(%q): %v, want ErrNotFound", ref, err)
		}
		if _, err := e.Logs(t.Context(), ref, 0); !errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("Logs(%q): %v, want ErrNotFound", ref, err)
		}
	}
}
