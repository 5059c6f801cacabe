package dashboard_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// event is one server-sent event.
type event struct{ id, name, data string }

// listen opens a stream and returns a function that waits for its next event;
// at the stream's end it returns an event without a name.
func (w *world) listen(path string, header ...string) (next func() event, hangUp func()) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("GET %s: %s %v", path, res.Status, res.Header)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	return func() event {
		var e event
		for lines.Scan() {
			key, value, _ := strings.Cut(lines.Text(), ": ")
			switch key {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				if e.name != "" {
					return e
				}
			}
		}
		return event{}
	}, func() { res.Body.Close() }
}

func linesOf(t *testing.T, e event) []string {
	t.Helper()
	var d struct {
		Lines      []string
		Begin, End string
	}
	if err := json.Unmarshal([]byte(e.data), &d); err != nil {
		t.Fatalf("event %+v: %v", e, err)
	}
	if d.Begin != "" {
		return []string{"<" + d.Begin}
	}
	if d.End != "" {
		return []string{d.End + ">"}
	}
	return d.Lines
}

// P19: whoever is cut off goes on at the byte where they were, and misses and
// repeats nothing, whichever event was the last.
func TestLogStreamResumesAtAnyEvent(t *testing.T) {
	w := newWorld(t)
	run := w.add("miniflux", 0, ccci.StatusRunning, nil)
	w.engine.log(run.Build).write(logText("miniflux", true), true)
	run.Status, run.Finished = ccci.StatusFailed, noon
	w.update(run)
	path := "/runs/" + string(run.ID) + "/events"

	read := func(next func() event) (events []event, lines []string) {
		for {
			e := next()
			if e.name != "log" {
				if e.name != "end" {
					t.Fatalf("the stream ended with %+v", e)
				}
				return events, lines
			}
			events = append(events, e)
			lines = append(lines, linesOf(t, e)...)
		}
	}
	next, _ := w.listen(path)
	events, whole := read(next)
	if len(whole) < 50 || !slices.Contains(whole, "<upgrade") || !slices.Contains(whole, "upgrade>") {
		t.Fatalf("%d lines: %q", len(whole), whole)
	}
	if last := events[len(events)-1].id; last != fmt.Sprint(len(logText("miniflux", true))) {
		t.Errorf("the last offset is %s, the log has %d bytes", last, len(logText("miniflux", true)))
	}
	seen := 0
	for _, e := range events {
		seen += len(linesOf(t, e))
		next, hangUp := w.listen(path, "Last-Event-ID", e.id)
		if _, rest := read(next); !slices.Equal(rest, whole[seen:]) {
			t.Errorf("after %s: %q, want %q", e.id, rest, whole[seen:])
		}
		hangUp()
	}
}

func TestLogStreamFollowsARunToItsEnd(t *testing.T) {
	w := newWorld(t)
	run := w.add("miniflux", 0, ccci.StatusQueued, nil)
	next, _ := w.listen("/runs/" + string(run.ID) + "/events")
	run.Status, run.Build, run.Started = ccci.StatusRunning, "b", noon
	log := w.engine.log("b")
	w.update(run)
	if e := next(); e.name != "changed" {
		t.Fatalf("the start of the run: %+v", e)
	}
	log.write("one\nha", false)
	if e := next(); e.id != "4" || !slices.Equal(linesOf(t, e), []string{"one"}) {
		t.Fatalf("a whole line: %+v", e)
	}
	log.write("lf\n##[stage install begin]\n", false)
	if e := next(); !slices.Equal(linesOf(t, e), []string{"half"}) {
		t.Fatalf("the other half: %+v", e)
	}
	if e := next(); !slices.Equal(linesOf(t, e), []string{"<install"}) {
		t.Fatalf("the stage: %+v", e)
	}
	log.write("no line end", true)
	if e := next(); !slices.Equal(linesOf(t, e), []string{"no line end"}) {
		t.Fatalf("the last line: %+v", e)
	}
	run.Status, run.Finished = ccci.StatusPassed, noon
	w.update(run)
	if e := next(); e.name != "changed" {
		t.Fatalf("the end of the run: %+v", e)
	}
	if e := next(); e.name != "end" {
		t.Fatalf("the end of the stream: %+v", e)
	}
}

func TestPagesAreToldOfChanges(t *testing.T) {
	w := newWorld(t)
	next, _ := w.listen("/events")
	w.add("miniflux", 0, ccci.StatusQueued, nil)
	if e := next(); e.name != "changed" {
		t.Fatalf("a new run: %+v", e)
	}
	_ = w.bus.Publish(t.Context(), ccci.TopicForge, "recipes/miniflux")
	if e := next(); e.name != "changed" {
		t.Fatalf("a new comment: %+v", e)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	w := newWorld(t)
	run := w.add("miniflux", 0, ccci.StatusRunning, nil)
	w.engine.log(run.Build).write("one\n", false)
	all, _ := w.listen("/events")
	one, _ := w.listen("/runs/" + string(run.ID) + "/events")
	if e := one(); e.name != "log" {
		t.Fatalf("%+v", e)
	}
	if err := w.dash.Close(); err != nil {
		t.Fatal(err)
	}
	for _, next := range []func() event{all, one} {
		for e := next(); e.name != ""; e = next() {
			if e.name != "changed" { // a hint from before
				t.Errorf("after Close: %+v", e)
			}
		}
	}
	if err := w.dash.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestRawLog(t *testing.T) {
	w := newWorld(t)
	runs := w.populate()
	path := "/runs/" + string(runs["failed"].ID) + "/log"
	res, body := w.get(path)
	if body != logText("miniflux", true) || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%s %v %d bytes", res.Status, res.Header, len(body))
	}
	if _, rest := w.get(path + "?offset=100"); rest != body[100:] {
		t.Errorf("from byte 100: %q", rest)
	}
	if _, body := w.get("/runs/" + string(runs["running"].ID) + "/log?follow=0"); body != logText("hedgedoc", false) {
		t.Errorf("what a running run wrote so far: %q", body)
	}
	if res, _ := w.get("/runs/" + string(runs["queued"].ID) + "/log"); res.StatusCode != http.StatusNotFound {
		t.Errorf("the log of a queued run: %s", res.Status)
	}
	if res, _ := w.get(path + "?offset=-1"); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a negative offset: %s", res.Status)
	}
	w.put(ccci.ArtifactKey(runs["errored"].ID, "log.txt"), []byte("kept\n"))
	if _, body := w.get("/runs/" + string(runs["errored"].ID) + "/log"); body != "kept\n" {
		t.Errorf("a kept log: %q", body)
	}
}
