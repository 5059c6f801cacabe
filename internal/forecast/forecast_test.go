package forecast

import (
	"fmt"
	"slices"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func TestForecast(t *testing.T) {
	run := func(id string, status ccci.Status, recipe string, created, started time.Duration) ccci.Run {
		r := ccci.Run{ID: ccci.RunID(id), Status: status, Recipe: recipe, Created: noon.Add(created)}
		if status == ccci.StatusRunning {
			r.Started = noon.Add(started)
		}
		return r
	}
	typical := func(recipe string) time.Duration {
		return map[string]time.Duration{"slow": 10 * time.Minute, "fast": time.Minute}[recipe]
	}
	const q, r = ccci.StatusQueued, ccci.StatusRunning
	cases := []struct {
		name     string
		capacity int
		runs     []ccci.Run // newest first, as the store returns them
		want     []string   // id, position, minutes until start and end; "?" when unknown
	}{
		{"empty", 1, nil, nil},
		{"an idle engine starts at once", 1, []ccci.Run{run("a", q, "fast", 0, 0)}, []string{"a 1 0 1"}},
		{"the oldest first", 1, []ccci.Run{run("c", q, "fast", -1, 0), run("b", q, "slow", -2, 0), run("a", r, "slow", -3, -4*time.Minute)},
			[]string{"a 0 ? 6", "b 1 6 16", "c 2 16 17"}},
		{"two slots", 2, []ccci.Run{run("d", q, "fast", -1, 0), run("c", q, "fast", -2, 0), run("b", r, "slow", -3, 0), run("a", r, "fast", -4, 0)},
			[]string{"a 0 ? 1", "b 0 ? 10", "c 1 1 2", "d 2 2 3"}},
		{"a late run ends any moment", 1, []ccci.Run{run("b", q, "fast", -1, 0), run("a", r, "fast", -2, -5*time.Minute)}, []string{"a 0 ? 0 late", "b 1 0 1 late overdue"}},
		{"behind a late run times are the earliest", 1, []ccci.Run{run("c", q, "fast", -1, 0), run("b", q, "fast", -2, 0), run("a", r, "fast", -3, -5*time.Minute)},
			[]string{"a 0 ? 0 late", "b 1 0 1 late overdue", "c 2 1 2 late"}},
		{"behind the unknown nothing is known", 1, []ccci.Run{run("b", q, "fast", -1, 0), run("a", r, "new", -2, 0)}, []string{"a 0 ? ?", "b 1 ? ? unknown: new"}},
		{"the other slot is known", 2, []ccci.Run{run("c", q, "fast", -1, 0), run("b", r, "slow", -2, 0), run("a", r, "new", -3, 0)},
			[]string{"a 0 ? ?", "b 0 ? 10", "c 1 10 11"}},
		{"a new recipe starts when its turn comes", 1, []ccci.Run{run("b", q, "fast", -1, 0), run("a", q, "new", -2, 0)}, []string{"a 1 0 ?", "b 2 ? ? unknown: new"}},
		{"the same time: by id", 1, []ccci.Run{run("b", q, "fast", 0, 0), run("a", q, "fast", 0, 0)}, []string{"a 1 0 1", "b 2 1 2"}},
	}
	minutes := func(t time.Time) string {
		if t.IsZero() {
			return "?"
		}
		return fmt.Sprint(t.Sub(noon).Minutes())
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, row := range Of(c.runs, c.capacity, typical, noon) {
				line := fmt.Sprintf("%s %d %s %s", row.Run.ID, row.Position, minutes(row.Start), minutes(row.End))
				if row.Late {
					line += " late"
				}
				if row.Position > 0 && row.Overdue(noon) {
					line += " overdue"
				}
				if row.Unknown != "" {
					line += " unknown: " + row.Unknown
				}
				got = append(got, line)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// P3: pages and terminal have one set of words for an expected start.
func TestP3_ExpectedStartInWords(t *testing.T) {
	soon := noon.Add(3 * time.Minute)
	for name, c := range map[string]struct {
		row  Row
		held bool
		want Start
	}{
		"known":           {Row{Start: soon}, false, Start{At: soon}},
		"now":             {Row{Start: noon}, false, Start{Words: "now"}},
		"behind late":     {Row{Start: noon, Late: true}, false, Start{Words: "when the overdue run ends"}},
		"later than that": {Row{Start: soon, Late: true}, false, Start{At: soon, Words: "at the earliest"}},
		"unknown":         {Row{Unknown: "gitea"}, false, Start{Words: "unknown: how long gitea takes is not known yet"}},
		"held":            {Row{Start: soon}, true, Start{Words: Held}},
	} {
		if got := c.row.Expected(noon, c.held); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
