package drone

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/engine/enginetest"
)

// U12: Drone is killed and comes back while the harness works.
func testServerDies(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	e, _ := open(t, w.options(t, place, 1))
	job := stage.Job()
	ref := begin(t, e, job)
	a := stage.NextFor(job)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	log, err := e.Logs(ctx, ref, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	a.Do("print before")
	got := make([]byte, len("before\n"))
	if _, err := io.ReadFull(log, got); err != nil || string(got) != "before\n" {
		t.Fatalf("the log begins with %q, %v", got, err)
	}
	w.Stop()
	if _, err := e.Status(t.Context(), ref); err == nil || errors.Is(err, ccci.ErrNotFound) || ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("while Drone is away: %v, want CodeInfra and not ErrNotFound", err)
	}
	if _, err := e.Start(t.Context(), stage.Job()); err == nil {
		t.Error("a build was started without Drone")
	}
	a.Do("print meanwhile")
	w.StartAgain()
	a.Do("print after")
	a.Exit(4)
	rest, err := io.ReadAll(log)
	if err != nil || string(rest) != "meanwhile\nafter\n" {
		t.Errorf("the log goes on with %q, %v", rest, err)
	}
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndExited || b.ExitCode != 4 {
		t.Errorf("it ended as %s with code %d", b.Ending, b.ExitCode)
	}
}

// U12: the runner is killed while the harness works. Drone calls the build
// running for a day; the machine knows better.
func testRunnerDies(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	opts.LostAfter = time.Second
	e, _ := open(t, opts)
	job, next := stage.Job(), stage.Job()
	ref := begin(t, e, job)
	a := stage.NextFor(job)
	until(t, e, ref, "running", func(b ccci.Build) bool { return b.State == ccci.BuildRunning })
	t.Cleanup(w.StartRunner)
	w.StopRunner()
	waiting := begin(t, e, next)
	if b, err := e.Status(t.Context(), ref); err != nil || b.State != ccci.BuildRunning {
		t.Errorf("its harness works, and it is %+v, %v", b, err)
	}
	a.Exit(0) // which nobody hears
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndLost {
		t.Errorf("it ended as %s, want lost", b.Ending)
	}
	// Its slot on the server becomes free. Drone hands that on when a runner asks, or
	// within a minute: so the runner comes back afterwards.
	for limit := time.Now().Add(patience); ; {
		d, err := e.build(t.Context(), ref)
		if err == nil && over(d.Status) {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("Drone still has the build: %+v, %v", d, err)
		}
	}
	w.StartRunner()
	stage.NextFor(next).Exit(0)
	enginetest.Finished(t, e, waiting)
	if b, err := e.Status(t.Context(), ref); err != nil || b.Ending != ccci.EndLost {
		t.Errorf("afterwards it is %+v, %v; want lost still", b, err)
	}
}

// N5: Drone's word does not reach the harness (its runner is dead, or Drone has
// forgotten to tell it): the machine tells it.
func testCancelUnheard(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	e, _ := open(t, w.options(t, place, 1))
	job := stage.Job()
	ref := begin(t, e, job)
	a := stage.NextFor(job)
	until(t, e, ref, "running", func(b ccci.Build) bool { return b.State == ccci.BuildRunning })
	t.Cleanup(w.StartRunner)
	w.StopRunner()
	if err := e.Cancel(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	a.AskedToEnd()
	if b, err := e.Status(t.Context(), ref); err != nil || b.State != ccci.BuildRunning {
		t.Errorf("while it tears down: %+v, %v", b, err)
	}
	a.Exit(143)
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndCancelled {
		t.Errorf("it ended as %s", b.Ending)
	}
}

// A16: what does not listen is killed, and the next run begins.
func testGrace(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	opts.Grace = time.Second
	e, _ := open(t, opts)
	job, next := stage.Job(), stage.Job()
	ref, waiting := begin(t, e, job), begin(t, e, next)
	a := stage.NextFor(job)
	if err := e.Cancel(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	a.AskedToEnd()
	a.Gone()
	if b, _ := enginetest.Finished(t, e, ref); b.Ending != ccci.EndCancelled {
		t.Errorf("it ended as %s", b.Ending)
	}
	stage.NextFor(next).Exit(0)
	enginetest.Finished(t, e, waiting)
}
