package dashboard_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
)

// A28: badges are asked for by every reader of a README.
func BenchmarkBadge(b *testing.B) {
	w := newBenchWorld(b)
	for _, cached := range []bool{true, false} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !cached {
					w.clock.advance(time.Minute)
				}
				rec := httptest.NewRecorder()
				w.dash.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/badge/recipe-7.svg", nil))
				if rec.Code != http.StatusOK {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}

func BenchmarkOverview(b *testing.B) {
	w := newBenchWorld(b)
	for b.Loop() {
		rec := httptest.NewRecorder()
		w.dash.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Code)
		}
	}
}

type benchWorld struct {
	dash  *dashboard.Dashboard
	clock *clock
}

func newBenchWorld(b *testing.B) benchWorld {
	store := openStore(b)
	for i := range 2000 {
		created := noon.Add(time.Duration(i-2000) * time.Minute)
		run := ccci.Run{ID: ccci.RunID(fmt.Sprintf("%s-%06x", created.Format("060102-150405"), i)), Key: fmt.Sprint(i), Recipe: fmt.Sprintf("recipe-%d", i%200),
			Commit: "6f2c1c0de4a55b7d9b1c3f7a8e9d0c1b2a3f4e5d", Status: ccci.StatusPassed, Level: 5, Created: created, Started: created, Finished: created}
		if _, _, err := store.ClaimRun(b.Context(), run); err != nil {
			b.Fatal(err)
		}
	}
	blobs, err := dirblob.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	c := &clock{now: noon}
	d, err := dashboard.New(dashboard.Config{Store: store, Blobs: blobs, Now: c.Now})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	return benchWorld{d, c}
}
