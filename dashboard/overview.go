package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forecast"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

type historyBody struct {
	standing
	Runs   []ccci.Run
	Older  string // address of the next page; "" on the last
	First  bool
	Trend  *trend
	Checks *checkTable
	Pulls  []pullVerdict // those among the recent runs
	Embed  string        // Markdown for a README
	Thumb  *picture
	// Tested and Repository are those of one recipe; see [Dashboard.testedBy] and [repositoryOf].
	Tested     *testedView
	Repository string
}

const historyPage = 25

// recipe shows one recipe with the history of its runs (U18).
func (d *Dashboard) recipe(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("recipe")
	if !validName(name) {
		return ccci.ErrNotFound
	}
	latest, err := d.cfg.Store.LatestOf(r.Context(), name, ccci.SubjectRecipe)
	if err != nil {
		return fmt.Errorf("reading the latest runs of %s: %w", name, err)
	}
	enrolled := slices.Contains(d.cfg.Recipes(), name)
	if len(latest) == 0 && !enrolled {
		return ccci.Errorf(ccci.CodeNotFound, "No recipe %q was ever tested here", name).
			WithHint("The overview lists all recipes.")
	}
	b := historyBody{standing: stand(name, ccci.SubjectRecipe, latest, d.now(), d.cfg.StaleAfter)}
	b.Enrolled = enrolled
	b.Thumb = d.thumbnail(r.Context(), b.Speaks)
	if b.Tested, err = d.testedBy(r, b.Speaks); err != nil {
		return err
	}
	if b.Newest != nil {
		b.Repository = repositoryOf(*b.Newest)
	}
	if err := d.pageOf(r, &b, name, "/recipes/"+url.PathEscape(name)); err != nil {
		return err
	}
	recent := b.Runs
	if !b.First || b.Older != "" {
		if recent, err = d.cfg.Store.FindRuns(r.Context(), ccci.RunFilter{Recipe: name, Limit: 2 * trendBars}); err != nil {
			return fmt.Errorf("reading the recent runs of %s: %w", name, err)
		}
	}
	b.Trend = drawTrend(recent)
	b.Pulls = d.pullVerdicts(recent)
	if b.Checks, err = d.checksOf(r.Context(), name); err != nil {
		return err
	}
	site := d.origin(r)
	b.Embed = fmt.Sprintf("[![cc-ci](%s/badge/%s.svg)](%s/recipes/%s)", site, name, site, name)
	return d.render(w, r, http.StatusOK, "recipe", frame{Title: name, Nav: "overview", Live: "/events", Refresh: 30, Body: b})
}

// pageOf fills in one page of runs.
func (d *Dashboard) pageOf(r *http.Request, b *historyBody, recipe, path string) error {
	before := r.URL.Query().Get("before")
	if before != "" && !validRunID(before) {
		return ccci.Errorf(ccci.CodeInvalid, "%q is not a run", before).WithHint("Start again from the newest run.")
	}
	runs, err := d.cfg.Store.FindRuns(r.Context(), ccci.RunFilter{Recipe: recipe, Before: ccci.RunID(before), Limit: historyPage + 1})
	if err != nil {
		return fmt.Errorf("reading the history: %w", err)
	}
	b.First = before == ""
	if len(runs) > historyPage {
		runs = runs[:historyPage]
		b.Older = path + "?before=" + string(runs[historyPage-1].ID)
	}
	b.Runs = runs
	return nil
}

func (d *Dashboard) oldRecipe(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, "/recipes/"+url.PathEscape(r.PathValue("recipe")), http.StatusMovedPermanently)
	return nil
}

// origin is how people reach the site, for text that is copied elsewhere.
func (d *Dashboard) origin(r *http.Request) string {
	if d.base != nil {
		return d.base.String()
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// history shows the runs of all recipes.
func (d *Dashboard) history(w http.ResponseWriter, r *http.Request) error {
	var b historyBody
	if err := d.pageOf(r, &b, "", "/runs"); err != nil {
		return err
	}
	b.Enrolled = len(d.cfg.Recipes()) > 0
	return d.render(w, r, http.StatusOK, "history", frame{Title: "Runs", Nav: "runs", Live: "/events", Refresh: 30, Body: b})
}

type queueBody struct {
	Running, Queued []forecast.Row
	Capacity        int
	Free            int
	Held            string // that no queued run starts, and why; "" when one would
}

// queue shows what is being worked on, what waits, and when its turn comes.
func (d *Dashboard) queue(w http.ResponseWriter, r *http.Request) error {
	runs, err := d.unfinished(r.Context())
	if err != nil {
		return err
	}
	rows, err := d.forecastOf(r.Context(), runs)
	if err != nil {
		return err
	}
	b := queueBody{Capacity: d.cfg.Capacity, Held: report.Held(d.held())}
	for _, row := range rows {
		if row.Position == 0 {
			b.Running = append(b.Running, row)
		} else {
			b.Queued = append(b.Queued, row)
		}
	}
	b.Free = max(d.cfg.Capacity-len(b.Running), 0)
	return d.render(w, r, http.StatusOK, "queue", frame{Title: "Queue", Nav: "queue", Live: "/events", Refresh: 10, Body: b})
}

// held says why no queued run starts, or "".
func (d *Dashboard) held() string {
	if d.cfg.Held == nil {
		return ""
	}
	return d.cfg.Held()
}

// forecastOf plays the queue forward with what past runs of each recipe took.
func (d *Dashboard) forecastOf(ctx context.Context, unfinished []ccci.Run) ([]forecast.Row, error) {
	return forecast.Read(ctx, d.cfg.Store, unfinished, d.cfg.Capacity, d.now())
}
