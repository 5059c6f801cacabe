package dashboard_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
)

// behindProxy lets a test ask in the name of many addresses.
func behindProxy(limits dashboard.Limits) func(*dashboard.Config) {
	limits.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	return func(c *dashboard.Config) { c.Limits = limits }
}

// slowReader asks for path, reads the status line, and no more.
func (w *world) slowReader(path, from string) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		w.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: %s\r\n\r\n", path, from); err != nil {
		w.t.Fatal(err)
	}
	return conn
}

func statusOf(t *testing.T, conn net.Conn) string {
	t.Helper()
	line := make([]byte, len("HTTP/1.1 200"))
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, line); err != nil {
		t.Fatal(err)
	}
	return string(line[len("HTTP/1.1 "):])
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// p99 asks for a badge, a page and a file, some times each, in the name of others.
func (w *world) p99(paths ...string) time.Duration {
	w.t.Helper()
	var took []time.Duration
	for i := range 60 {
		for _, path := range paths {
			begun := time.Now()
			res, _ := w.get(path, "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i%4))
			if res.StatusCode != http.StatusOK {
				w.t.Fatalf("%s: %s", path, res.Status)
			}
			took = append(took, time.Since(begun))
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// 200 readers that do not read, of everything that can be long, cost little memory and
// keep nobody else waiting.
func TestReadersThatDoNotRead(t *testing.T) {
	w := newWorld(t, behindProxy(dashboard.Limits{Patience: 2 * time.Minute}), func(c *dashboard.Config) { c.Forge = nil })
	over := w.add("pocketbase", time.Hour, ccci.StatusPassed, nil)
	w.put(ccci.ArtifactKey(over.ID, "dump.bin"), bytes.Repeat([]byte("0123456789abcdef"), 1<<20))
	w.put(ccci.ArtifactKey(over.ID, "log.txt"), bytes.Repeat([]byte(strings.Repeat("a line of a log ", 12)+"\n"), 40_000))
	w.put(ccci.ArtifactKey(over.ID, "small.txt"), []byte("small"))
	going := w.add("miniflux", time.Minute, ccci.StatusRunning, nil)
	w.engine.log(going.Build).write(strings.Repeat(strings.Repeat("a line of a log ", 12)+"\n", 40_000)+strings.Repeat("x", 4<<20), false)
	others := []string{"/badge/miniflux.svg", "/runs", "/runs/" + string(over.ID) + "/files/small.txt"}
	long := []string{
		"/runs/" + string(over.ID) + "/files/dump.bin", "/runs/" + string(over.ID) + "/log", "/runs/" + string(going.ID) + "/log",
		"/runs/" + string(going.ID) + "/log?follow=0", "/runs/" + string(going.ID) + "/events?offset=0", "/runs/" + string(over.ID) + "/events?offset=0",
		"/runs/" + string(over.ID) + "/files/log.txt",
	}
	before := w.p99(others...)
	empty := heap()
	var served int
	for i := range 200 {
		conn := w.slowReader(long[i%len(long)], fmt.Sprintf("2001:db8:0:%x::1", i))
		if status := statusOf(t, conn); status == "200" {
			served++
		} else {
			t.Errorf("%s: %s", long[i%len(long)], status)
		}
	}
	grown, after := heap()-empty, w.p99(others...)
	t.Logf("%d readers are served and do not read: %.1f MiB of heap; p99 of others %s, before %s", served, float64(grown)/(1<<20), after, before)
	if grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if after > 10*before+500*time.Millisecond {
		t.Errorf("others wait %s, before %s", after, before)
	}
}

// Pages wait for their readers in bounded memory, those of one address in less.
func TestPagesThatAreNotTaken(t *testing.T) {
	w := newWorld(t, behindProxy(dashboard.Limits{Patience: 2 * time.Minute}))
	run := w.add("pocketbase", time.Hour, ccci.StatusPassed, nil)
	line := strings.Repeat("<long & line> ", 140) + "\n"
	w.put(ccci.ArtifactKey(run.ID, "log.txt"), []byte(strings.Repeat(line, 800)))
	page := "/runs/" + string(run.ID)
	if size := len(w.page(page)); size < 1<<20 {
		t.Fatalf("the page has %d bytes", size)
	}
	empty := heap()
	seen := map[string]int{}
	for i := range 40 {
		seen[statusOf(t, w.slowReader(page, fmt.Sprintf("192.0.2.%d", i)))]++
	}
	grown := heap() - empty
	t.Logf("%v, %.1f MiB of heap", seen, float64(grown)/(1<<20))
	if grown > 32<<20 || seen["200"] == 0 || seen["200"]+seen["503"] != 40 {
		t.Errorf("the heap grew by %d MiB, %v", grown>>20, seen)
	}
	// Short pages go on.
	if res, _ := w.get("/runs", "X-Forwarded-For", "198.51.100.1"); res.StatusCode != http.StatusOK {
		t.Errorf("/runs: %s", res.Status)
	}
}

// Who takes nothing is cut off; who takes what there is is not.
func TestFollowerThatNeverReadsIsCutOff(t *testing.T) {
	w := newWorld(t, behindProxy(dashboard.Limits{Patience: 2 * time.Second, StreamsPer: 1}))
	run := w.add("miniflux", time.Minute, ccci.StatusRunning, nil)
	log := w.engine.log(run.Build)
	text := strings.Repeat(strings.Repeat("x", 99)+"\n", 40_000)
	log.write(text, false)
	for _, path := range []string{"/log", "/events?offset=0"} {
		path = "/runs/" + string(run.ID) + path
		var conn net.Conn
		waitFor(t, "there is a place for "+path, func() bool {
			conn = w.slowReader(path, "192.0.2.1")
			return statusOf(t, conn) == "200"
		})
		if res, body := w.get("/events", "X-Forwarded-For", "192.0.2.1"); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("a second stream of one address: %s\n%s", res.Status, body)
		}
		waitFor(t, "the place is free again", func() bool {
			probe := w.slowReader("/events", "192.0.2.1")
			defer probe.Close()
			return statusOf(t, probe) == "200"
		})
		begun := time.Now()
		rest, err := io.ReadAll(conn) // what was under way, and then the end
		t.Logf("%s: %d bytes after it was cut off, in %s: %v", path, len(rest), time.Since(begun), err)
		if len(rest) >= len(text) {
			t.Errorf("%s: all %d bytes arrived", path, len(rest))
		}
	}
	log.write("", true)
	if _, body := w.get("/runs/"+string(run.ID)+"/log", "X-Forwarded-For", "192.0.2.7"); body != text {
		t.Errorf("a reader that reads got %d bytes of %d", len(body), len(text))
	}
}

// countedBlobs counts the results that are read.
type countedBlobs struct {
	ccci.BlobOpener
	mu   sync.Mutex
	read map[string]int
}

func (b *countedBlobs) Get(ctx context.Context, key string) (io.ReadCloser, ccci.BlobInfo, error) {
	b.mu.Lock()
	b.read[key]++
	b.mu.Unlock()
	return b.BlobOpener.Get(ctx, key)
}

// A result is read once, however many readers an overview has at a time, and whatever its size;
// also one that cannot be used.
func TestResultsAreReadOnce(t *testing.T) {
	blobs := &countedBlobs{read: map[string]int{}}
	w := newWorld(t, func(c *dashboard.Config) { blobs.BlobOpener, c.Blobs = c.Blobs, blobs })
	at := map[string]ccci.Run{}
	for name, lines := range map[string]int{"small": 1, "large": 3 << 10} {
		run := w.add(name, time.Hour, ccci.StatusFailed, nil)
		res := w.baseResult(run)
		res.Artifacts = []ccci.Artifact{{Path: "shot-" + name + ".png", Title: "After the install", Kind: "screenshot"}}
		for range lines {
			res.Warnings = append(res.Warnings, strings.Repeat("w", 1<<10))
		}
		w.saveResult(res)
		at[name] = run
	}
	for name, body := range map[string]string{"too-large": `"` + strings.Repeat("x", ccci.ResultLimit) + `"`, "no-json": "{"} {
		at[name] = w.add(name, time.Hour, ccci.StatusFailed, nil)
		w.put(ccci.ResultKey(at[name].ID), []byte(body))
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if res, body := w.get("/"); res.StatusCode != http.StatusOK || !strings.Contains(body, "shot-small.png") || !strings.Contains(body, "shot-large.png") {
				t.Errorf("%s, %d bytes, without the pictures", res.Status, len(body))
			}
		})
	}
	group.Wait()
	for name, run := range at {
		if n := blobs.read[ccci.ResultKey(run.ID)]; n != 1 {
			t.Errorf("the result of %s was read %d times", name, n)
		}
	}
	for _, name := range []string{"too-large", "no-json"} {
		wantAll(t, w.page("/runs/"+string(at[name].ID)), "The run left no result record")
	}
}

// A record that is too long for a page leaves a page that says where it is.
func TestRecordTooLongForAPage(t *testing.T) {
	w := newWorld(t)
	run := w.add("pocketbase", time.Hour, ccci.StatusFailed, func(r *ccci.Run) { r.Cause = "install/health: it answers 500" })
	res := w.baseResult(run)
	for range 1000 {
		res.Warnings = append(res.Warnings, strings.Repeat("'", 2<<10)) // 5 bytes each in HTML
	}
	w.saveResult(res)
	page := w.page("/runs/" + string(run.ID))
	wantAll(t, page, "too long for a page", "/runs/"+string(run.ID)+"/files/result.json", "it answers 500")
	if len(page) > 64<<10 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting until %s", what)
		}
	}
}

// Requests of one address are bounded, whatever it says of itself, and those of others go on.
func TestRequestsOfOneAddressAreBounded(t *testing.T) {
	w := newWorld(t, behindProxy(dashboard.Limits{Patience: time.Minute, PerAddress: 4, Requests: 6}))
	run := w.add("pocketbase", time.Hour, ccci.StatusPassed, nil)
	w.put(ccci.ArtifactKey(run.ID, "dump.bin"), make([]byte, 16<<20))
	path := "/runs/" + string(run.ID) + "/files/dump.bin"
	for i := range 4 {
		if got := statusOf(t, w.slowReader(path, fmt.Sprintf("1.1.1.%d, 2001:db8::%d", i, i))); got != "200" {
			t.Fatal(got)
		}
	}
	res, _ := w.get("/runs", "X-Forwarded-For", "9.9.9.9, 2001:db8::ffff")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a fifth request of one /64: %s", res.Status)
	}
	if res, _ := w.get("/runs", "X-Forwarded-For", "2001:db8:0:1::1"); res.StatusCode != http.StatusOK {
		t.Errorf("another /64: %s", res.Status)
	}
	for range 2 {
		if got := statusOf(t, w.slowReader(path, "2001:db8:0:2::1")); got != "200" {
			t.Fatal(got)
		}
	}
	if res, _ := w.get("/runs", "X-Forwarded-For", "2001:db8:0:3::1"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a seventh request in sum: %s", res.Status)
	}
	if res, _ := w.get("/healthz"); res.StatusCode != http.StatusOK {
		t.Errorf("health is not asked for by readers: %s", res.Status)
	}
}

// Files are served in parts, and none of a file's bytes when one of them is wrong.
func TestC20_FilesInParts(t *testing.T) {
	w := newWorld(t)
	run := w.add("pocketbase", time.Hour, ccci.StatusPassed, nil)
	const big = 20 << 20
	whole := bytes.Repeat([]byte("0123456789"), big/10)
	copy(whole[big-20:], "the very end")
	w.put(ccci.ArtifactKey(run.ID, "dump.bin"), whole)
	path := "/runs/" + string(run.ID) + "/files/dump.bin"
	res, body := w.get(path)
	etag := res.Header.Get("ETag")
	if res.StatusCode != http.StatusOK || body != string(whole) || etag == "" || res.ContentLength != big {
		t.Fatalf("%s, %d bytes, ETag %q", res.Status, len(body), etag)
	}
	for name, c := range map[string]struct {
		header []string
		status int
		want   string
	}{
		"middle":         {[]string{"Range", "bytes=10-14"}, 206, "01234"},
		"end":            {[]string{"Range", fmt.Sprintf("bytes=%d-", big-20)}, 206, string(whole[big-20:])},
		"last":           {[]string{"Range", "bytes=-4"}, 206, string(whole[big-4:])},
		"beyond":         {[]string{"Range", fmt.Sprintf("bytes=%d-", big)}, 416, "invalid range"},
		"several":        {[]string{"Range", "bytes=0-1,0-1,0-1"}, 200, string(whole)},
		"same file":      {[]string{"Range", "bytes=0-1", "If-Range", etag}, 206, "01"},
		"another file":   {[]string{"Range", "bytes=0-1", "If-Range", `"x"`}, 200, string(whole)},
		"has it already": {[]string{"If-None-Match", etag}, 304, ""},
	} {
		res, body := w.get(path, c.header...)
		if res.StatusCode != c.status || !strings.HasPrefix(body, c.want) || c.status < 300 && body != c.want {
			t.Errorf("%s: %s, %d bytes", name, res.Status, len(body))
		}
		if got := res.Header.Get("Content-Security-Policy"); !strings.Contains(got, "sandbox") {
			t.Errorf("%s: policy %q", name, got)
		}
	}
	spoil(t, w.files, "the very end")
	for _, header := range [][]string{nil, {"Range", "bytes=0-9"}} {
		res, body := w.get(path, header...)
		if res.StatusCode != http.StatusInternalServerError || strings.Contains(body, "0123456789") {
			t.Errorf("%v: a corrupt artifact is served: %s, %d bytes", header, res.Status, len(body))
		}
	}
}

// A body that does not arrive ends its request.
func TestN3_BodyWithoutEndIsCutOff(t *testing.T) {
	w := newWorld(t, behindProxy(dashboard.Limits{Patience: 200 * time.Millisecond}))
	conn := w.slowReader("/healthz", "192.0.2.9") // a second request follows on the same connection
	if _, err := fmt.Fprintf(conn, "POST /pulls/recipes/pocketbase/1/comments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nbody=%%21"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection stays: %v", err)
	}
}
