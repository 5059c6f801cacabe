package dashboard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// standing is what is known of one recipe: the one record behind its card, its
// badge and its line in the feed, so that they cannot disagree.
type standing struct {
	Recipe   string
	Enrolled bool
	Newest   *ccci.Run // whatever came last; nil when nothing ever ran
	// Speaks is the newest whole run that came to an end of its own: the one
	// the level is taken from. nil when there is none.
	Speaks *ccci.Run
	Stale  bool // Speaks is too old to be believed
}

// Active is the unfinished run, or nil.
func (s standing) Active() *ccci.Run {
	if s.Newest != nil && !s.Newest.Status.Terminal() {
		return s.Newest
	}
	return nil
}

// Aside is a finished newest run that does not speak for the recipe: partial
// or cancelled. nil when the newest speaks or is active.
func (s standing) Aside() *ccci.Run {
	if s.Newest == nil || s.Active() != nil || s.Speaks != nil && s.Speaks.ID == s.Newest.ID {
		return nil
	}
	return s.Newest
}

// Class sorts a recipe into one of the overview's filters: passed, failed,
// errored, stale or untested.
func (s standing) Class() string {
	switch {
	case s.Speaks == nil:
		return "untested"
	case s.Stale:
		return "stale"
	}
	return string(s.Speaks.Status)
}

// stand reads the runs of one recipe as Store.LatestOf returns them.
func stand(recipe string, runs []ccci.Run, now time.Time, staleAfter time.Duration) standing {
	s := standing{Recipe: recipe}
	for i := range runs {
		run := &runs[i]
		if s.Newest == nil {
			s.Newest = run
		}
		if s.Speaks == nil && run.Status.Terminal() && run.Status != ccci.StatusCancelled && run.Options.Whole() {
			s.Speaks = run
		}
	}
	s.Stale = s.Speaks != nil && now.Sub(s.Speaks.Finished) > staleAfter
	return s
}

// standings returns every recipe that is enrolled or ever ran, by name.
func (d *Dashboard) standings(ctx context.Context) ([]standing, error) {
	runs, err := d.cfg.Store.LatestPerRecipe(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the latest run of each recipe: %w", err)
	}
	enrolled := d.cfg.Recipes()
	byRecipe := map[string][]ccci.Run{}
	for _, name := range enrolled {
		byRecipe[name] = nil
	}
	for _, run := range runs {
		byRecipe[run.Recipe] = append(byRecipe[run.Recipe], run)
	}
	all := make([]standing, 0, len(byRecipe))
	now := d.now()
	for name, runs := range byRecipe {
		s := stand(name, runs, now, d.cfg.StaleAfter)
		s.Enrolled = slices.Contains(enrolled, name)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b standing) int { return strings.Compare(a.Recipe, b.Recipe) })
	return all, nil
}
