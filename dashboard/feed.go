package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// feed is the answer of /feed.json: the last word on every recipe.
type feed struct {
	Schema    int         `json:"schema"` // 1
	Title     string      `json:"title"`
	Harness   string      `json:"harness,omitempty"` // version of cc-ci
	Generated time.Time   `json:"generated"`
	Recipes   []feedEntry `json:"recipes"`
}

// feedEntry is one recipe. Level is null when no run has spoken for it.
type feedEntry struct {
	Recipe   string       `json:"recipe"`
	Enrolled bool         `json:"enrolled"`
	Level    *int         `json:"level"`
	Skipped  []string     `json:"skipped,omitempty"` // stages that the level says nothing of
	Status   ccci.Status  `json:"status,omitempty"`  // of the run that speaks for it
	Verdict  ccci.Verdict `json:"verdict,omitempty"`
	Cause    string       `json:"cause,omitempty"`
	Stale    bool         `json:"stale"`
	Version  string       `json:"version,omitempty"`
	Commit   ccci.Commit  `json:"commit,omitempty"`
	About    string       `json:"about,omitempty"` // what the verdict is about: a release, or a commit of the default branch
	Finished time.Time    `json:"finished,omitzero"`
	Run      ccci.RunID   `json:"run,omitempty"`
	RunURL   string       `json:"runUrl,omitempty"`
	BadgeURL string       `json:"badgeUrl"`
	Active   ccci.RunID   `json:"active,omitempty"` // the run that is queued or running now
}

func (d *Dashboard) feed(w http.ResponseWriter, r *http.Request) error {
	all, err := d.standings(r.Context())
	if err != nil {
		return err
	}
	f := feed{Schema: 1, Title: d.cfg.Title, Harness: d.cfg.Version, Generated: d.now().UTC(), Recipes: []feedEntry{}}
	for _, s := range all {
		e := feedEntry{Recipe: s.Recipe, Enrolled: s.Enrolled, Stale: s.Stale, BadgeURL: d.link("/badge/" + s.Recipe + ".svg")}
		if run := s.Speaks; run != nil {
			e.Level, e.Status, e.Verdict, e.Cause = &run.Level, run.Status, run.Status.Verdict(), run.Cause
			e.Skipped = ccci.Skipped(run.Stages)
			e.Version, e.Commit, e.Finished = run.Version, run.Commit, run.Finished.UTC()
			e.About = s.About()
			e.Run, e.RunURL = run.ID, d.link("/runs/"+string(run.ID))
		}
		if run := s.Active(); run != nil {
			e.Active = run.ID
		}
		f.Recipes = append(f.Recipes, e)
	}
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the feed: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	_, _ = w.Write(append(body, '\n'))
	return nil
}

// link returns the address of a path on this site, complete where the
// configuration says how people reach it.
func (d *Dashboard) link(path string) string {
	if d.base == nil {
		return path
	}
	return d.base.String() + path
}
