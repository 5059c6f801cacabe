package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

const (
	storedRuns    = 100_000
	storedRecipes = 200
	connections   = 16
	loadRounds    = 2 // of each handler, in turn
	loadTime      = 2500 * time.Millisecond
	// A badge may cost half of what a server can answer at all, and its
	// slowest hundredth twice as long.
	badgeRateBar, badgeTailBar = 0.5, 2.0
	// The latest run of a recipe is found as fast among 100,000 as among 1,000.
	latestBar = 2.0
)

// BenchmarkBadge asks for badges as fast as sixteen readers can, with 100,000
// runs stored, next to a handler that sends the same bytes from memory.
func BenchmarkBadge(b *testing.B) {
	store := filledStore(b, storedRuns)
	small := filledStore(b, storedRuns/100)
	blobs, err := dirblob.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	dash, err := dashboard.New(dashboard.Config{Store: store, Blobs: blobs})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = dash.Close() })
	badges := listen(b, dash)
	header, body := fetch(b, badges, recipeName(7))
	static := listen(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		_, _ = w.Write(body)
	}))
	for b.Loop() {
		var ours, theirs []time.Duration
		for range loadRounds {
			theirs = append(theirs, pull(b, static)...)
			ours = append(ours, pull(b, badges)...)
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		const lasted = loadRounds * loadTime
		rate := func(all []time.Duration) float64 { return float64(len(all)) / lasted.Seconds() }
		share := rate(ours) / rate(theirs)
		b.ReportMetric(rate(ours), "badges/s")
		verdict(b, share >= badgeRateBar, row{
			figure: fmt.Sprintf("badges with %d runs stored, %d connections", storedRuns, connections), ours: fmt.Sprintf("%.0f/s", rate(ours)),
			reference: fmt.Sprintf("from memory %.0f/s", rate(theirs)), ratio: fmt.Sprintf("%.2f", share), bar: fmt.Sprintf("ratio >= %.2f", badgeRateBar),
		})
		tail, bare := quantile(ours, 0.99), quantile(theirs, 0.99)
		verdict(b, tail.Seconds() <= badgeTailBar*bare.Seconds(), row{
			figure: "a badge, 99th percentile", ours: tail.Round(10 * time.Microsecond).String(),
			reference: "from memory " + bare.Round(10*time.Microsecond).String(), ratio: fmt.Sprintf("%.2f", tail.Seconds()/bare.Seconds()), bar: fmt.Sprintf("ratio <= %.2f", badgeTailBar),
		})
		many, few := latest(b, store, small)
		verdict(b, many.Seconds() <= latestBar*few.Seconds(), row{
			figure: fmt.Sprintf("LatestOf, %d runs stored, median", storedRuns), ours: many.Round(time.Microsecond).String(),
			reference: fmt.Sprintf("%d stored %s", storedRuns/100, few.Round(time.Microsecond)), ratio: fmt.Sprintf("%.2f", many.Seconds()/few.Seconds()), bar: fmt.Sprintf("ratio <= %.2f", latestBar),
		})
	}
}

func recipeName(n int) string { return fmt.Sprintf("recipe-%d", n) }

// filledStore is a store of n runs. It is filled where a commit costs nothing,
// if the machine has such a place, and then put on disk.
func filledStore(b *testing.B, n int) *sqlstore.Store {
	b.Helper()
	fast, err := os.MkdirTemp("/dev/shm", "cc-ci-bench-")
	if err != nil {
		fast = b.TempDir()
	}
	defer os.RemoveAll(fast)
	began := time.Now()
	file := filepath.Join(fast, "cc-ci.db")
	s, err := sqlstore.Open(b.Context(), file)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now().Add(-time.Duration(n) * time.Second)
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second)
		run := ccci.Run{
			ID: ccci.RunID(fmt.Sprintf("%s-%06x", at.UTC().Format("060102-150405"), i)), Key: fmt.Sprintf("bench/%d", i), Recipe: recipeName(i % storedRecipes),
			Commit: "6f2c1c0de4a55b7d9b1c3f7a8e9d0c1b2a3f4e5d", Trigger: ccci.TriggerSweep, Branch: "main", Status: ccci.StatusPassed, Level: 5, Stages: make([]ccci.StageRow, 5),
			Created: at, Started: at, Finished: at.Add(30 * time.Second),
		}
		if _, created, err := s.ClaimRun(b.Context(), run); err != nil || !created {
			b.Fatalf("storing run %d: created %v, %v", i, created, err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d runs stored in %.1f s", n, time.Since(began).Seconds())
	text, err := os.ReadFile(file) // closed, it is one file
	if err != nil {
		b.Fatal(err)
	}
	file = filepath.Join(b.TempDir(), "cc-ci.db")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.Fatal(err)
	}
	if s, err = sqlstore.Open(b.Context(), file); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	if found, err := s.FindRuns(b.Context(), ccci.RunFilter{Limit: n + 1}); err != nil || len(found) != n {
		b.Fatalf("the store holds %d runs, want %d: %v", len(found), n, err)
	}
	return s
}

// listen serves a handler on a free port of this machine.
func listen(b *testing.B, h http.Handler) (addr string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	b.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// fetch returns one badge and its headers.
func fetch(b *testing.B, addr, recipe string) (http.Header, []byte) {
	b.Helper()
	answer, err := http.Get("http://" + addr + "/badge/" + recipe + ".svg")
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		b.Fatalf("the badge: %s, %v", answer.Status, err)
	}
	header := answer.Header.Clone()
	header.Del("Date")
	header.Del("Content-Length")
	return header, body
}

// pull asks for the badges of all recipes in turn, on each connection as soon as the
// last answer is there, and returns how long each answer took.
func pull(b *testing.B, addr string) []time.Duration {
	b.Helper()
	end := time.Now().Add(loadTime)
	took := make([][]time.Duration, connections)
	failed := make([]error, connections)
	var group sync.WaitGroup
	for i := range connections {
		group.Go(func() { took[i], failed[i] = pullOne(addr, i, end) })
	}
	group.Wait()
	for _, err := range failed {
		if err != nil {
			b.Fatal(err)
		}
	}
	return slices.Concat(took...)
}

// pullOne is one connection, written to and read from directly, so that most of the
// measured time is the server's.
func pullOne(addr string, from int, end time.Time) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for n := from; ; n++ {
		began := time.Now()
		if began.After(end) {
			return took, nil
		}
		if _, err := fmt.Fprintf(conn, "GET /badge/%s.svg HTTP/1.1\r\nHost: localhost\r\n\r\n", recipeName(n%storedRecipes)); err != nil {
			return nil, err
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			return nil, err
		}
		size, err := io.Copy(io.Discard, answer.Body)
		if err != nil {
			return nil, err
		}
		if answer.StatusCode != http.StatusOK || size < 500 {
			return nil, fmt.Errorf("a badge of %d bytes: %s", size, answer.Status)
		}
		took = append(took, time.Since(began))
	}
}

// latest measures LatestOf on two stores in turn.
func latest(b *testing.B, many, few *sqlstore.Store) (inMany, inFew time.Duration) {
	b.Helper()
	one := func(s *sqlstore.Store, n int) time.Duration {
		began := time.Now()
		runs, err := s.LatestOf(context.WithoutCancel(b.Context()), recipeName(n%storedRecipes), ccci.SubjectRecipe)
		if err != nil || len(runs) != 1 {
			b.Fatalf("%d runs, %v", len(runs), err)
		}
		return time.Since(began)
	}
	var a, c []time.Duration
	for n := range 2000 {
		a, c = append(a, one(many, n)), append(c, one(few, n))
	}
	return median(a), median(c)
}
