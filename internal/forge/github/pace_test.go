package github

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// 300 repositories are looked at within 30 s although every answer takes 100 ms and
// the pace keeps below what GitHub allows in a minute, heads included.
func TestA4_ThreeHundredRepositoriesWithinThirtySeconds(t *testing.T) {
	const repositories, workers, sweeps = 300, 4, 6
	synctest.Test(t, func(t *testing.T) {
		var asked, changed atomic.Int32
		github := transport(func(r *http.Request) (*http.Response, error) {
			time.Sleep(100 * time.Millisecond)
			asked.Add(1)
			date := time.Now().UTC().Format(http.TimeFormat)
			if r.Header.Get("If-None-Match") != "" {
				return said(304, "", "Date", date), nil
			}
			changed.Add(1)
			return said(200, "[]", "Date", date, "Content-Type", "application/json", "ETag", `"x"`), nil
		})
		f, err := New(Options{Token: ccci.NewSecret("t"), Transport: github})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		cursors := map[int]ccci.Cursor{}
		for sweep := range sweeps {
			asked.Store(0)
			changed.Store(0)
			start := time.Now()
			todo := make(chan int, repositories)
			for i := range repositories {
				todo <- i
			}
			close(todo)
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for i := range todo {
						mu.Lock()
						cursor := cursors[i]
						mu.Unlock()
						_, next, err := f.Comments(t.Context(), ccci.RepoRef{Owner: "recipes", Name: fmt.Sprint(i)}, cursor)
						if err != nil {
							t.Error(err)
						}
						mu.Lock()
						cursors[i] = next
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			took := time.Since(start)
			t.Logf("sweep %d: %d requests, %d of them not 304, in %s", sweep, asked.Load(), changed.Load(), took)
			if took > 30*time.Second {
				t.Errorf("sweep %d took %s", sweep, took)
			}
			time.Sleep(30*time.Second - took)
		}
		if changed.Load() != 0 {
			t.Errorf("%d requests of the last sweep cost a point", changed.Load())
		}
	})
}
