package drone

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/engine/enginetest"
)

// fault is what a bad proxy makes of a request.
type fault int

const (
	none       fault = iota
	html             // a page, with 200
	redirect         // to such a page
	notFound         // a page of its own, with 404
	gone             // 502 with a page
	truncate         // Drone's answer, cut off after 40 bytes, of streams each time later
	dropAnswer       // Drone has acted, and its answer is lost
	dropAsk          // Drone has heard nothing
	duplicate        // Drone hears it twice
)

// faults is a proxy between engine and Drone.
type faults struct {
	next http.RoundTripper
	mu   sync.Mutex
	pick func(*http.Request) fault
	hits int
	cuts int // streams cut off so far
}

func (f *faults) set(pick func(*http.Request) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pick, f.hits = pick, 0
}

func answer(r *http.Request, code int, kind, text string) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {kind}, "Location": {"/login"}}, Body: io.NopCloser(strings.NewReader(text)),
	}
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	what := none
	if f.pick != nil {
		what = f.pick(r)
	}
	if what != none {
		f.hits++
	}
	f.mu.Unlock()
	const page = "<html><body>All our programmers are busy</body></html>"
	switch what {
	case html:
		return answer(r, 200, "text/html", page), nil
	case redirect:
		return answer(r, 302, "text/html", page), nil
	case notFound:
		return answer(r, 404, "text/html", page), nil
	case gone:
		return answer(r, 502, "text/html", page), nil
	case dropAsk:
		return nil, errors.New("connection reset by peer")
	case duplicate:
		resp, err := f.next.RoundTrip(r.Clone(r.Context()))
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
	}
	resp, err := f.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch what {
	case dropAnswer:
		resp.Body.Close()
		return nil, io.ErrUnexpectedEOF
	case truncate:
		at := 40
		if strings.HasPrefix(r.URL.Path, "/api/stream/") {
			f.mu.Lock()
			f.cuts++
			at += 25 * f.cuts
			f.mu.Unlock()
		}
		resp.Body = &cut{resp.Body, at}
	}
	return resp, nil
}

// cut is a body that breaks off.
type cut struct {
	io.ReadCloser
	left int
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// P19: streams that break in the middle of an event, pages instead of streams: the
// reader notices nothing.
func testFaultyLogs(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	faults := &faults{next: http.DefaultTransport}
	opts.Transport = faults
	e, _ := open(t, opts)
	job := stage.Job()
	ref := begin(t, e, job)
	a := stage.NextFor(job)
	// By chance, and not every fifth: of several who ask in turn, that may be the same one every time.
	dice := rand.New(rand.NewPCG(1, 2))
	faults.set(func(r *http.Request) fault {
		switch stream := strings.HasPrefix(r.URL.Path, "/api/stream/"); {
		case stream && dice.IntN(4) == 0:
			return html
		case stream:
			return truncate
		case dice.IntN(5) == 0:
			return []fault{html, gone, truncate, dropAnswer, notFound, redirect}[dice.IntN(6)]
		}
		return none
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	log, err := e.Logs(ctx, ref, 4)
	for tries := 0; err != nil; tries++ { // opening it may meet a fault
		if tries > 10 || errors.Is(err, ccci.ErrNotFound) {
			t.Fatal(err)
		}
		log, err = e.Logs(ctx, ref, 4)
	}
	defer log.Close()
	want, read := "", 4
	for _, line := range []string{"first", "second: +äöü", "+ third"} {
		a.Do("print " + line)
		want += line + "\n"
		got := make([]byte, len(want)-read) // while the harness lives, so by a stream
		if _, err := io.ReadFull(log, got); err != nil || string(got) != want[read:] {
			t.Fatalf("through the faulty proxy the log goes on with %q, %v; want %q", got, err, want[read:])
		}
		read = len(want)
	}
	a.Do("print last")
	a.Exit(0)
	want += "last\n"
	if rest, err := io.ReadAll(log); err != nil || string(rest) != "last\n" {
		t.Errorf("through the faulty proxy the log ends with %q, %v", rest, err)
	}
	if faults.cuts < 3 {
		t.Errorf("only %d streams were cut off", faults.cuts)
	}
	faults.set(nil)
	if b, log := enginetest.Finished(t, e, ref); b.Ending != ccci.EndExited || log != want {
		t.Errorf("afterwards %s with the log %q", b.Ending, log)
	}
}

// N2: whatever goes wrong between the two, an error is an error, nothing is
// misread, and asking again makes it one build.
func testFaulty(t *testing.T, w *world) {
	place, stage := t.TempDir(), enginetest.NewStage(t)
	opts := w.options(t, place, 1)
	faults := &faults{next: http.DefaultTransport}
	opts.Transport = faults
	e, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []fault{html, redirect, notFound, gone, truncate, dropAnswer, dropAsk, duplicate} {
		job := stage.Job()
		faults.set(func(r *http.Request) fault {
			if r.Method == http.MethodPost {
				return what
			}
			return none
		})
		ref, err := e.Start(t.Context(), job)
		if (err == nil) != (what == duplicate) || errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("fault %d: Start says %q, %v", what, ref, err)
		}
		faults.set(nil)
		again := begin(t, e, job)
		if ref != "" && again != ref {
			t.Errorf("fault %d: build %s, then %s", what, ref, again)
		}
		a := stage.NextFor(job)
		if what != duplicate {
			faults.set(func(*http.Request) fault { return what })
			if b, err := e.Status(t.Context(), again); err == nil || errors.Is(err, ccci.ErrNotFound) {
				t.Errorf("fault %d: Status says %+v, %v", what, b, err)
			}
			if err := e.Cancel(t.Context(), again); err == nil {
				t.Errorf("fault %d: Cancel says all is well", what)
			}
			if _, err := e.Logs(t.Context(), again, 0); err == nil || errors.Is(err, ccci.ErrNotFound) {
				t.Errorf("fault %d: Logs says %v", what, err)
			}
			faults.set(nil)
		}
		a.Exit(0)
		if b, _ := enginetest.Finished(t, e, again); b.Ending != ccci.EndExited || b.ExitCode != 0 {
			t.Errorf("fault %d: it ended as %s with %d", what, b.Ending, b.ExitCode)
		}
	}
	runs := map[string]int{}
	for _, b := range builds(t, w, opts.Repo) {
		if b.Status != "killed" {
			runs[b.Params[runParam]]++
		}
	}
	for run, n := range runs {
		if n != 1 {
			t.Errorf("run %s has %d builds", run, n)
		}
	}
}
