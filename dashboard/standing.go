package dashboard

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// standing is what is known of one subject of a recipe: the one record behind its card, its
// badge and its line in the feed, so that they cannot disagree.
type standing struct {
	Recipe   string
	Subject  ccci.Subject
	Enrolled bool
	Newest   *ccci.Run // whatever came last of the recipe; nil when nothing ever ran
	// Speaks is the run that the level is taken from ([ccci.Speaker]). nil when there is none.
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

// Aside is a finished newest run that does not speak for the recipe: one of a pull request,
// partial, cancelled or without an answer. nil when the newest speaks or is active.
func (s standing) Aside() *ccci.Run {
	if s.Newest == nil || s.Active() != nil || s.Speaks != nil && s.Speaks.ID == s.Newest.ID {
		return nil
	}
	return s.Newest
}

// NoAnswer is a finished newest run about the subject that came to no answer, so that an older one
// speaks; nil when there is none.
func (s standing) NoAnswer() *ccci.Run {
	run := s.Aside()
	if run == nil || s.Speaks == nil || run.Status.Answers() {
		return nil
	}
	if _, about := run.SpeaksFor()[s.Subject]; !about {
		return nil
	}
	return run
}

// Class sorts a recipe into one of the overview's filters: passed, failed,
// refused, errored, inconclusive, flaky, stale or untested.
func (s standing) Class() string {
	switch {
	case s.Speaks == nil:
		return "untested"
	case s.Stale:
		return "stale"
	}
	return string(s.Speaks.Status)
}

// stand reads the runs of one recipe as Store.LatestOf returns them for a subject.
func stand(recipe string, about ccci.Subject, runs []ccci.Run, now time.Time, staleAfter time.Duration) standing {
	s := standing{Recipe: recipe, Subject: about}
	if len(runs) > 0 {
		s.Newest = &runs[0]
	}
	if i := ccci.Speaker(runs, about); i >= 0 {
		s.Speaks = &runs[i]
	}
	s.Stale = s.Speaks != nil && now.Sub(s.Speaks.Finished) > staleAfter
	return s
}

// About says in words what the verdict of Speaks is about, "" when nothing speaks: the part of a
// sentence that follows "the verdict is about".
func (s standing) About() string {
	if s.Speaks == nil {
		return ""
	}
	run, m := *s.Speaks, s.Speaks.Merge
	tested := "pull request #" + strconv.Itoa(run.PR.Number)
	switch into := ccci.SubjectBranch(m.Branch); {
	case m.Same && (s.Subject == into || s.Subject == ccci.SubjectRecipe && m.Default):
		if m.Commit != run.Commit {
			tested += " at " + run.Commit.Short() + ", with the same files"
		}
		return m.Branch + " at " + m.Commit.Short() + ", tested as " + tested
	case run.Release != "":
		return "release " + run.Release + " at " + run.Commit.Short()
	case run.PR.Number > 0:
		return tested + " at " + run.Commit.Short()
	case run.Branch != "":
		return run.Branch + " at " + run.Commit.Short()
	}
	return "commit " + run.Commit.Short() + ", tested by the sweep"
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
		s := stand(name, ccci.SubjectRecipe, runs, now, d.cfg.StaleAfter)
		s.Enrolled = slices.Contains(enrolled, name)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b standing) int { return strings.Compare(a.Recipe, b.Recipe) })
	return all, nil
}
