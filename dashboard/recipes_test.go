package dashboard_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
)

// longName is a recipe's name of 60 characters.
func longName(i int) string {
	return fmt.Sprintf("recipe-%03d-%s", i, strings.Repeat("with-a-long-name-", 3)[:49])
}

// crowd stores n recipes with names of 60 characters: every tenth failed, every 25th was errored.
func (w *world) crowd(n int) {
	w.t.Helper()
	for i := range n {
		status, cause := ccci.StatusPassed, ""
		switch {
		case i%25 == 24:
			status, cause = ccci.StatusErrored, "pulling an image: the registry answers 503 Service Unavailable"
		case i%10 == 7:
			status, cause = ccci.StatusFailed, "upgrade/converged: swarm rolled app back to the old version: task: non-zero exit (1)"
		}
		w.add(longName(i), time.Duration(n-i)*time.Hour, status, func(r *ccci.Run) {
			r.Level, r.Version, r.Cause = 5, "12.34.56+2026.11.30-alpine3.22", cause
		})
	}
}

var listed = regexp.MustCompile(`<th role="rowheader" scope="row" class="d-name"><a href="/recipes/([^"]+)">`)

func listedOn(body string) (names []string) {
	for _, m := range listed.FindAllStringSubmatch(body, -1) {
		names = append(names, m[1])
	}
	return names
}

// A27: many recipes are a list with pages, those that need a person first. Plain links lead to all.
func TestA27_ManyRecipesAreAList(t *testing.T) {
	w := newWorld(t, func(c *dashboard.Config) { c.Recipes = nil })
	w.crowd(130)
	seen, pages := []string{}, 0
	next := regexp.MustCompile(`href="([^"]+)" rel="next"`)
	for path := "/"; path != ""; pages++ {
		body := w.page(path)
		if strings.Contains(body, `class="card"`) || strings.Contains(body, "<img") {
			t.Errorf("%s has cards", path)
		}
		seen = append(seen, listedOn(body)...)
		path = ""
		if m := next.FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != 130 || pages != 3 {
		t.Fatalf("%d recipes on %d pages, want 130 on 3", len(seen), pages)
	}
	found := map[string]bool{}
	for i, name := range seen {
		if found[name] {
			t.Errorf("%s is listed twice", name)
		}
		found[name] = true
		want := ccci.StatusPassed
		switch {
		case i < 13:
			want = ccci.StatusFailed
		case i < 18:
			want = ccci.StatusErrored
		}
		run, err := w.store.LatestOf(t.Context(), name, ccci.SubjectRecipe)
		if err != nil || run[0].Status != want {
			t.Errorf("place %d: %s %s %v, want %s", i, name, run[0].Status, err, want)
		}
	}
	body := w.page("/")
	wantAll(t, body, "1 to 50 of 130", `href="/?view=cards"`, "swarm rolled app back", `>failed</span> <b>13</b>`)
	wantAll(t, w.page("/?page=3"), "101 to 130 of 130", `href="/?page=2" rel="prev"`)
	wantAll(t, w.page("/?page=99999999999999999999"), "101 to 130 of 130")
	wantAll(t, w.page("/?page=-3"), "1 to 50 of 130")
	wantAll(t, w.page("/?page=77&status=passed"), "101 to 112 of 112", `href="/?page=2&amp;status=passed" rel="prev"`)
	if got := listedOn(w.page("/?q=RECIPE-12&view=list")); len(got) != 10 {
		t.Errorf("the search finds %q", got)
	}
	if body := w.page("/?q=" + strings.Repeat("x", 5000)); strings.Contains(body, strings.Repeat("x", 101)) {
		t.Error("a search text has no bound")
	}
	body = w.page("/?view=cards&page=2")
	if n := strings.Count(body, `<li class="card">`); n != 12 {
		t.Errorf("%d cards on a page", n)
	}
	wantAll(t, body, `href="/?page=3&amp;view=cards" rel="next"`, `href="/?status=failed&amp;view=cards"`, `href="/?view=list"`)
}

// The overview counts what the queue counts.
func TestOverviewCountsAsTheQueue(t *testing.T) {
	w := newWorld(t)
	w.add("miniflux", time.Minute, ccci.StatusRunning, nil)
	for i := range 3 {
		w.add("pocketbase", time.Duration(i+1)*time.Minute, ccci.StatusQueued, nil)
	}
	wantAll(t, w.page("/"), `>running</span> <b>1</b>`, `>queued</span> <b>3</b>`)
	wantAll(t, w.page("/queue"), `Running <span class="count">1 of 1</span>`, `Waiting <span class="count">3</span>`)
}

func TestAFirstStartNamesTheNextCommand(t *testing.T) {
	w := newWorld(t, func(c *dashboard.Config) { c.Recipes, c.Forge = nil, nil })
	wantAll(t, w.page("/"), "No recipe is enrolled yet", "cc-ci enrol OWNER/NAME --write")
	wantAll(t, w.page("/runs"), "cc-ci enrol OWNER/NAME --write")
}
