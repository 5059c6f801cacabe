package enginetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func logs(t *testing.T, e ccci.Engine, ref ccci.BuildRef, offset int64) io.ReadCloser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := e.Logs(ctx, ref, offset)
	if err != nil {
		t.Fatalf("Logs(%s, %d): %v", ref, offset, err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func wantNext(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("the log goes on with %q, %v; want %q", got, err, want)
	}
}

func testLogsFollow(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	early, other := logs(t, e, ref, 0), logs(t, e, ref, 0)
	want := ""
	for _, line := range []string{"one", "two", "three"} {
		// The reader is likely to wait when the line is written.
		got := make(chan string, 1)
		go func() {
			buf := make([]byte, len(line)+1)
			_, err := io.ReadFull(early, buf)
			if err != nil {
				buf = []byte(err.Error())
			}
			got <- string(buf)
		}()
		verb := "print "
		if line == "two" {
			verb = "complain " // standard error belongs to the log
		}
		a.Do(verb + line)
		if g := <-got; g != line+"\n" {
			t.Fatalf("the follower read %q, want %q", g, line)
		}
		want += line + "\n"
	}
	a.Exit(0)
	if rest, err := io.ReadAll(early); err != nil || len(rest) != 0 {
		t.Errorf("at the end the follower read %q, %v; want the end", rest, err)
	}
	if all, err := io.ReadAll(other); err != nil || string(all) != want {
		t.Errorf("a second reader read %q, %v; want %q", all, err, want)
	}
	if log := wantEnd(t, e, ref, ccci.EndExited, 0); log != want {
		t.Errorf("afterwards the log is %q, want %q", log, want)
	}
}

func testLogsOffset(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	a.Do("print 0123456789")
	wantNext(t, logs(t, e, ref, 4), "456789\n")
	beyond := logs(t, e, ref, 14) // three bytes into what comes next
	a.Do("print abcdef")
	wantNext(t, beyond, "def\n")
	if _, err := e.Logs(t.Context(), ref, -1); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("a negative offset: %v, want an Error with CodeInvalid", err)
	}
	a.Exit(0)
	for offset, want := range map[int64]string{0: "0123456789\nabcdef\n", 11: "abcdef\n", 18: "", 1000: ""} {
		if got, err := io.ReadAll(logs(t, e, ref, offset)); err != nil || string(got) != want {
			t.Errorf("from %d: %q, %v; want %q", offset, got, err, want)
		}
	}
}

func testLogsQueued(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	running, waiting, unwanted := stage.Job(), stage.Job(), stage.Job()
	start(t, e, running)
	a := stage.NextFor(running)
	early := logs(t, e, start(t, e, waiting), 0)
	ref := start(t, e, unwanted)
	never := logs(t, e, ref, 0)
	cancel(t, e, ref)
	if got, err := io.ReadAll(never); err != nil || strings.TrimSpace(string(got)) != "" {
		t.Errorf("the log of a build that never ran: %q, %v", got, err)
	}
	a.Exit(0)
	b := stage.NextFor(waiting)
	b.Do("print at last")
	wantNext(t, early, "at last\n")
	b.Exit(0)
}

func testLogsContext(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := e.Logs(ctx, ref, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := r.Read(make([]byte, 1))
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("reading ended with %v, want the context's error", err)
	}
	a.Exit(0)
}

func testLogsClose(t *testing.T, o Options) {
	e, stage := o.Open(t, t.TempDir(), 1), NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	r := logs(t, e, ref, 0)
	ended := make(chan error, 1)
	go func() {
		_, err := r.Read(make([]byte, 1))
		ended <- err
	}()
	r.Close()
	if err := <-ended; err == nil || err == io.EOF {
		t.Errorf("reading a closed log ended with %v, want an error", err)
	}
	other := logs(t, e, ref, 0) // the watch of others goes on
	a.Do("print still here")
	wantNext(t, other, "still here\n")
	a.Exit(0)
}
