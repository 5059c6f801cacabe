package dashboard

import (
	ccci "github.com/recipe-maintainers/cc-ci"
)

// pullVerdict is one pull request of a recipe, which speaks for itself and not for the recipe.
type pullVerdict struct {
	Number int
	URL    string    // where people look at it; "" where that is not known
	Newest *ccci.Run // of any kind
	Speaks *ccci.Run // its newest whole run; nil when none came to an end
}

// Active is the unfinished run, or nil.
func (p pullVerdict) Active() *ccci.Run {
	if p.Newest.Status.Terminal() {
		return nil
	}
	return p.Newest
}

// pullRows is how many pull requests a recipe's page lists.
const pullRows = 20

// pullVerdicts lists the pull requests of runs, which come newest first.
func (d *Dashboard) pullVerdicts(runs []ccci.Run) []pullVerdict {
	at := map[ccci.PRRef]int{}
	var all []pullVerdict
	for i := range runs {
		run := &runs[i]
		if run.PR.Number == 0 {
			continue
		}
		n, known := at[run.PR]
		if !known {
			if len(all) == pullRows {
				continue
			}
			n = len(all)
			at[run.PR] = n
			all = append(all, pullVerdict{Number: run.PR.Number, Newest: run, URL: d.pullOf(*run)})
		}
		if s := all[n].Speaks; len(run.SpeaksFor()) > 0 && (s == nil || run.Status.Answers() && !s.Status.Answers()) {
			all[n].Speaks = run
		}
	}
	return all
}
