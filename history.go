package ccci

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// CheckOutcome is what a run's history keeps of one check.
type CheckOutcome struct {
	Name     string        `json:"name"`
	Status   CheckStatus   `json:"status"`
	Duration time.Duration `json:"duration"` // nanoseconds
}

// answers reports whether the outcome says something about the check: it was asked, and nothing of
// ours kept the app from answering.
func (o CheckOutcome) answers() bool {
	return o.Status == Pass || o.Status == Fail || o.Status == Flaky
}

// outcomesLimit bounds what is kept of one run.
const outcomesLimit = 500

// Outcomes are the checks of a result as the history keeps them. A failure that is not the
// recipe's is unverified there. Of checks with one name the worst counts.
func (r *Result) Outcomes() []CheckOutcome {
	rank := map[CheckStatus]int{Skip: 1, Pass: 2, Unverified: 3, Flaky: 4, Fail: 5}
	var all []CheckOutcome
	at := map[string]int{}
	for _, s := range r.Stages {
		for _, c := range s.Checks {
			o := CheckOutcome{c.Name, c.Status, c.Duration}
			if c.Status == Fail && (c.Code == CodeInfra || c.Code == CodeConflict) {
				o.Status = Unverified
			}
			i, known := at[c.Name]
			switch {
			case known && rank[o.Status] > rank[all[i].Status]:
				all[i] = o
			case !known && len(all) < outcomesLimit:
				at[c.Name] = len(all)
				all = append(all, o)
			}
		}
	}
	return all
}

// Observation is a run with what its checks said.
type Observation struct {
	Run    Run
	At     time.Time      // since when it speaks for the subject that was asked for; for none, when the run was created
	Checks []CheckOutcome // in the order in which they were asked; empty: nothing is kept of them
}

// refused reports whether the recipe was refused in a check: what fails in a refused run is that.
func (o Observation) refused(c CheckOutcome) bool {
	return o.Run.Status == StatusRefused && c.Status == Fail
}

// find returns the outcome of a check, if it was asked.
func (o Observation) find(check string) (CheckOutcome, bool) {
	i := slices.IndexFunc(o.Checks, func(c CheckOutcome) bool { return c.Name == check })
	if i < 0 {
		return CheckOutcome{}, false
	}
	return o.Checks[i], true
}

// Flake is how often a check was flaky.
type Flake struct {
	Check string `json:"check"`
	Flaky int    `json:"flaky"` // of the last Of runs in which it answered
	Of    int    `json:"of"`
}

// String words a rate: "3 of the last 20 runs".
func (f Flake) String() string {
	if f.Of == 1 {
		return fmt.Sprintf("%d of 1 run", f.Flaky)
	}
	return fmt.Sprintf("%d of the last %d runs", f.Flaky, f.Of)
}

// FlakeWindow is the number of answers that a rate is made of.
const FlakeWindow = 20

// FlakeRate is the rate of a check among its last [FlakeWindow] answers. An answer counts as flaky
// when it is, and when the answer before it to the same commit was another one. The observations
// are ordered newest first.
func FlakeRate(observations []Observation, check string) Flake {
	f := Flake{Check: check}
	later := map[Commit]CheckStatus{} // the answer after the one that is looked at
	for _, o := range observations {
		c, asked := o.find(check)
		if !asked || !c.answers() || o.refused(c) { // a waiver lifts a refusal, whatever the commit
			continue
		}
		if next, known := later[o.Run.Commit]; known && next != c.Status && next != Flaky && c.Status != Flaky {
			f.Flaky++ // the later one of the pair, which is within the window
		}
		if f.Of == FlakeWindow {
			return f
		}
		f.Of++
		later[o.Run.Commit] = c.Status
		if c.Status == Flaky {
			f.Flaky++
		}
	}
	return f
}

// Turn is where a check came to say what it says now.
type Turn struct {
	Check   string
	Now     CheckStatus
	Refused bool        // it fails since the recipe is refused in it
	Since   Observation // the first one of the streak
	Runs    int         // in the streak
	// Whole is false when the streak began before the oldest observation.
	Whole bool
	Took  time.Duration // half of its answers took less
	Rate  Flake
}

// Row is the check as lists show it now, with its word.
func (t Turn) Row() StageRow { return StageRow{Status: t.Now, Refused: t.Refused} }

// Turns returns each check of a line of runs with its turn, in the order in which the checks are
// asked. The observations are of one subject and ordered newest first. A check that the newest run
// did not come to is unverified; one that a passed run did not ask is gone. The newest runs say
// nothing of it when they came to no answer themselves and an older one did ([Speaker]).
func Turns(observations []Observation) []Turn {
	observations = slices.DeleteFunc(slices.Clone(observations), func(o Observation) bool { return len(o.Checks) == 0 })
	if len(observations) == 0 {
		return nil
	}
	all := observations
	if i := slices.IndexFunc(all, func(o Observation) bool { return o.Run.Status.Answers() }); i > 0 {
		observations = all[i:]
	}
	var turns []Turn
	known := map[string]bool{}
	for _, o := range observations {
		for _, c := range o.Checks {
			if !known[c.Name] {
				known[c.Name] = true
				turn := turnOf(observations, c.Name)
				turn.Rate = FlakeRate(all, c.Name)
				turns = append(turns, turn)
			}
		}
		if o.Run.Status == StatusPassed {
			break
		}
	}
	return turns
}

func turnOf(observations []Observation, check string) Turn {
	row := func(o Observation) StageRow {
		c, asked := o.find(check)
		if !asked {
			return StageRow{Status: Unverified}
		}
		return StageRow{Status: c.Status, Refused: o.refused(c)}
	}
	now := row(observations[0])
	t := Turn{Check: check, Now: now.Status, Refused: now.Refused}
	for _, o := range observations {
		if t.Whole = row(o) != now; t.Whole {
			break
		}
		t.Since, t.Runs = o, t.Runs+1
	}
	var took []time.Duration
	for _, o := range observations {
		if c, asked := o.find(check); asked && c.answers() {
			took = append(took, c.Duration)
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		t.Took = took[len(took)/2]
	}
	return t
}

// Remember keeps the checks of a run that has ended, and says in run.Flakes how often those that
// decided it were flaky: on the recipe's own line and at the same commit.
func Remember(ctx context.Context, store Store, run *Run, result *Result) error {
	checks := result.Outcomes()
	if err := store.KeepChecks(ctx, run.ID, checks); err != nil {
		return fmt.Errorf("keeping the checks of run %s: %w", run.ID, err)
	}
	run.Flakes = nil
	names := decisive(result)
	if len(names) == 0 {
		return nil
	}
	past := []Observation{{Run: *run, At: run.Created, Checks: checks}}
	for _, filter := range []CheckFilter{{About: SubjectRecipe}, {Commit: run.Commit}} {
		filter.Recipe, filter.Limit = run.Recipe, 2*FlakeWindow
		more, err := store.CheckHistory(ctx, filter)
		if err != nil {
			return fmt.Errorf("reading the history of the checks of %s: %w", run.Recipe, err)
		}
		for _, o := range more {
			if !slices.ContainsFunc(past, func(p Observation) bool { return p.Run.ID == o.Run.ID }) {
				past = append(past, o)
			}
		}
	}
	slices.SortStableFunc(past[1:], func(a, b Observation) int {
		return cmp.Or(b.Run.Created.Compare(a.Run.Created), cmp.Compare(b.Run.ID, a.Run.ID))
	})
	for _, name := range names {
		if rate := FlakeRate(past, name); rate.Flaky > 0 {
			run.Flakes = append(run.Flakes, rate)
		}
	}
	return nil
}

// decisive names the checks of which a person asks whether they flake: those that did, and the one
// that failed.
func decisive(r *Result) (names []string) {
	for _, c := range r.Flaky() {
		names = append(names, c.Name)
	}
	if r.Status == StatusFailed && r.Cause != nil && !slices.Contains(names, r.Cause.Check) && r.Check(r.Cause.Check) != nil {
		names = append(names, r.Cause.Check)
	}
	return names[:min(len(names), 20)]
}
