package ccci

import (
	"errors"
	"strconv"
	"time"
)

// Subject names what of a recipe a verdict is about. There is one for the recipe itself
// ([SubjectRecipe]), one for each pull request and one for each branch.
type Subject string

// SubjectRecipe is what people who deploy the recipe get: its releases and its default
// branch. A badge without parameters and the overview speak of it.
const SubjectRecipe Subject = "recipe"

// SubjectPull is a pull request, by its number.
func SubjectPull(number int) Subject { return Subject("pr/" + strconv.Itoa(number)) }

// SubjectBranch is a branch of the recipe's own repository.
func SubjectBranch(name string) Subject { return Subject("branch/" + name) }

// Merge is how a pull request came into its target branch. The zero Merge says that it is not
// known to be merged.
type Merge struct {
	Branch  string `json:"branch"`            // the target branch
	Default bool   `json:"default,omitempty"` // it is the repository's default branch
	Commit  Commit `json:"commit"`            // the head of Branch that the merge made
	// Same says that Commit is the tested commit, or has exactly its files: the verdict holds for
	// it too. It is false where that cannot be proven.
	Same bool `json:"same,omitempty"`
	// At is when it was merged. A forge that does not know leaves it zero.
	At time.Time `json:"at,omitzero"`
}

// IsZero reports whether nothing is known of a merge.
func (m Merge) IsZero() bool { return m == Merge{} }

// Compare sets Same by what can be proven of m.Commit and the tested commit. tree returns what is
// equal for two commits exactly when their files are, as the name of the tree, or ErrNotFound.
func (m Merge) Compare(tested Commit, tree func(Commit) (string, error)) (Merge, error) {
	if m.Same = m.Commit == tested; m.Same {
		return m, nil
	}
	merged, err := tree(m.Commit)
	if err == nil {
		var files string
		files, err = tree(tested)
		m.Same = err == nil && files == merged
	}
	if errors.Is(err, ErrNotFound) { // the repository does not have it any more
		return m, nil
	}
	return m, err
}

// SpeaksFor returns what the run's verdict is about, each with the time since when that was so.
// It is empty for a run that is unfinished, cancelled or restricted by options. [Speaker] says
// which of several runs about one subject counts.
//
// A run of a pull request is about that pull request and its branch. It is about the recipe only
// once the tested files came into the default branch. A run of the sweep is about the recipe.
func (r Run) SpeaksFor() map[Subject]time.Time {
	if !r.Status.Terminal() || r.Status == StatusCancelled || !r.Options.Whole() {
		return nil
	}
	about := map[Subject]time.Time{}
	if r.PR.Number > 0 {
		about[SubjectPull(r.PR.Number)] = r.Created
	}
	if r.Branch != "" {
		about[SubjectBranch(r.Branch)] = r.Created
	}
	if r.Trigger == TriggerSweep {
		about[SubjectRecipe] = r.Created
	}
	if r.Merge.Same {
		about[SubjectBranch(r.Merge.Branch)] = r.Merge.At
		if r.Merge.Default {
			about[SubjectRecipe] = r.Merge.At
		}
	}
	return about
}

// Speaker returns the index of the run that speaks for a subject, of runs that come newest first:
// of those whose verdict is about it the latest, -1 if there is none. A run that came to no answer,
// as one in which the infrastructure failed, says nothing about the recipe: it displaces no run
// that did, and speaks only where there is none.
func Speaker(runs []Run, about Subject) int {
	best := -1
	var since time.Time
	for i, run := range runs {
		at, speaks := run.SpeaksFor()[about]
		if !speaks {
			continue
		}
		better := best < 0 || at.After(since)
		if best >= 0 && run.Status.Answers() != runs[best].Status.Answers() {
			better = run.Status.Answers()
		}
		if better {
			best, since = i, at
		}
	}
	return best
}
