package localengine

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/engine/enginetest"
)

// Whoever is not the engine follows a log to its end, and none that is not there.
func TestA27_LogsInAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	e, _ := open(t, options(dir))
	l, err := OpenLogs(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, ref := range []ccci.BuildRef{"nobody", "../" + ccci.BuildRef(t.Name())} {
		if _, err := l.Logs(t.Context(), ref, 0); !errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", ref, err)
		}
	}
	stage := enginetest.NewStage(t)
	job := stage.Job()
	ref := start(t, e, job)
	a := stage.NextFor(job)
	r, err := l.Logs(t.Context(), ref, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a.Do("print while it runs")
	buf := make([]byte, 200)
	text := ""
	for !strings.Contains(text, "while it runs") {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", text, err)
		}
		text += string(buf[:n])
	}
	a.Do("print the last words")
	a.Exit(0)
	rest, err := io.ReadAll(r) // ends, because the build does
	if err != nil || !strings.Contains(string(rest), "the last words") {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	closed, err := l.Logs(t.Context(), ref, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := closed.Read(buf); err != io.EOF {
		t.Errorf("a log that is over, beyond its end: %v", err)
	}
	closed.Close()
	if _, err := closed.Read(buf); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed reader: %v", err)
	}
}
