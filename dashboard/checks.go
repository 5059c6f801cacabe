package dashboard

import (
	"context"
	"fmt"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// checkTable is what each check of a recipe says now, and since when (P17).
type checkTable struct {
	Words string
	Rows  []checkRow
}

// checkRow is the line of one check.
type checkRow struct {
	ccci.Turn
	Run    ccci.RunID  // the first one of the streak that is known
	Commit ccci.Commit // which it tested, as it is on the recipe's own line
	At     time.Time
	Flaky  string // its rate; "" when it never was
}

// checkHistory is how many runs the table looks at.
const checkHistory = 100

// checksOf reads the checks of the recipe's own line: its releases and its default branch. It
// returns nil when nothing is kept of them.
func (d *Dashboard) checksOf(ctx context.Context, recipe string) (*checkTable, error) {
	observations, err := d.cfg.Store.CheckHistory(ctx, ccci.CheckFilter{Recipe: recipe, About: ccci.SubjectRecipe, Limit: checkHistory})
	if err != nil {
		return nil, fmt.Errorf("reading the checks of %s: %w", recipe, err)
	}
	return tableOf(ccci.Turns(observations)), nil
}

func tableOf(turns []ccci.Turn) *checkTable {
	if len(turns) == 0 {
		return nil
	}
	t := &checkTable{}
	counts := map[string]int{}
	flaky := 0
	for _, turn := range turns {
		run := turn.Since.Run
		row := checkRow{Turn: turn, Run: run.ID, Commit: run.Commit, At: turn.Since.At}
		if run.Merge.Same && run.Merge.Default {
			row.Commit = run.Merge.Commit
		}
		if turn.Rate.Flaky > 0 {
			row.Flaky = turn.Rate.String()
			flaky++
		}
		counts[turn.Row().Word()]++
		t.Rows = append(t.Rows, row)
	}
	t.Words = fmt.Sprintf("Of %d checks %s", len(turns), countWords(counts))
	if flaky > 0 {
		t.Words += fmt.Sprintf("; %d had a flaky run among the last %d", flaky, ccci.FlakeWindow)
	}
	t.Words += "."
	return t
}

// countWords words how many checks say what, as "20 passed, 1 failed".
func countWords(counts map[string]int) string {
	var parts []string
	for _, word := range []string{ccci.Pass.Word(), ccci.Fail.Word(), ccci.StatusRefused.Word(), ccci.Flaky.Word(), ccci.Unverified.Word(), ccci.Skip.Word()} {
		if n := counts[word]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	return strings.Join(parts, ", ")
}
