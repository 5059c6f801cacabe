package ccci_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// past makes observations of one check, newest first, of words as "a+": a commit and what the check
// said to it: + passed, - failed, ~ flaky, ? unverified, and nothing when it was not asked.
func past(words string) (all []ccci.Observation) {
	for i, word := range strings.Fields(words) {
		run := ccci.Run{ID: ccci.RunID(fmt.Sprintf("run-%02d", i)), Commit: ccci.Commit(word[:1]), Status: ccci.StatusPassed}
		o := ccci.Observation{Run: run, Checks: []ccci.CheckOutcome{{Name: "install/serves", Status: ccci.Pass, Duration: time.Second}}}
		status := map[string]ccci.CheckStatus{"+": ccci.Pass, "-": ccci.Fail, "~": ccci.Flaky, "?": ccci.Unverified}[word[1:]]
		if status != "" {
			o.Checks = append(o.Checks, ccci.CheckOutcome{Name: "checks/home", Status: status, Duration: time.Duration(i+1) * time.Second})
		}
		if status != ccci.Pass {
			o.Run.Status = ccci.StatusFailed
		}
		all = append(all, o)
	}
	return all
}

// N14: a check flakes when it says so, and when it says something else of the commit that it knew.
func TestN14_FlakeRate(t *testing.T) {
	for words, want := range map[string]string{
		"":                                  "0 of the last 0 runs",
		"a+":                                "0 of 1 run",
		"a~":                                "1 of 1 run",
		"b- a+":                             "0 of the last 2 runs", // the commit changed
		"a- a+":                             "1 of the last 2 runs",
		"a+ a- a+":                          "2 of the last 3 runs",
		"a+ b- a-":                          "1 of the last 3 runs", // in between is another commit
		"a+ a~ a-":                          "1 of the last 3 runs", // it counts once
		"a+ a? a+ a a+":                     "0 of the last 3 runs", // no answers
		"a~ " + strings.Repeat("b+ ", 19):   "1 of the last 20 runs",
		strings.Repeat("b+ ", 20) + "a~":    "0 of the last 20 runs", // too long ago
		strings.Repeat("b+ ", 20) + "b- b-": "1 of the last 20 runs", // the change lies within the window
	} {
		got := ccci.FlakeRate(past(words), "checks/home")
		if got.String() != want || got.Check != "checks/home" {
			t.Errorf("%q: %s, want %s", words, got, want)
		}
	}
}

// P17: the first run of the streak, and whether it is known to be the first.
func TestP17_Turns(t *testing.T) {
	for words, want := range map[string]string{
		"c+ b+ a-": "pass since b in 2 runs, took 2s",
		"c- b+ a-": "fail since c in 1 runs, took 2s",
		"c- b- a-": "fail since before a in 3 runs, took 2s",
		"c~ b~ a+": "flaky since b in 2 runs, took 2s",
		"c b+":     "unverified since c in 1 runs, took 2s", // the last run did not come to it
		"c? b? a+": "unverified since b in 2 runs, took 3s",
	} {
		turns := ccci.Turns(past(words))
		if len(turns) != 2 || turns[0].Check != "install/serves" || turns[1].Check != "checks/home" {
			t.Errorf("%q: %+v", words, turns)
			continue
		}
		turn, before := turns[1], "before "
		if turn.Whole {
			before = ""
		}
		if got := fmt.Sprintf("%s since %s%s in %d runs, took %s", turn.Now, before, turn.Since.Run.Commit, turn.Runs, turn.Took); got != want {
			t.Errorf("%q: %s, want %s", words, got, want)
		}
	}
	// In a refused run the check that refuses did not fail, and what a waiver changes is no flake.
	waived := past("b- b- b+ a+")
	waived[0].Run.Status, waived[1].Run.Status = ccci.StatusRefused, ccci.StatusRefused
	if turn := ccci.Turns(waived)[1]; turn.Row().Word() != "refused" || turn.Runs != 2 || !turn.Whole || turn.Rate.Flaky != 0 {
		t.Errorf("of a refused run: %+v", turn)
	}
	if turn := ccci.Turns(waived)[0]; turn.Row().Word() != "passed" {
		t.Errorf("what passed in a refused run: %+v", turn)
	}
	waived[1].Run.Status = ccci.StatusFailed
	if turn := ccci.Turns(waived)[1]; turn.Runs != 1 || turn.Rate.Flaky != 1 {
		t.Errorf("refused after it failed: %+v", turn)
	}
	gone := past("b a+")
	gone[0].Run.Status = ccci.StatusPassed
	if turns := ccci.Turns(gone); len(turns) != 1 {
		t.Errorf("a check that a passed run does not ask: %+v", turns)
	}
	vain := past("d c- b+")
	vain[0].Run.Status = ccci.StatusErrored
	if turn := ccci.Turns(vain)[1]; turn.Now != ccci.Fail || turn.Since.Run.Commit != "c" {
		t.Errorf("after a run that came to no answer: %+v", turn)
	}
	if turn := ccci.Turns(vain[:1])[0]; turn.Now != ccci.Pass {
		t.Errorf("where no run came to an answer: %+v", turn)
	}
	if turns := ccci.Turns([]ccci.Observation{{}, {}}); turns != nil {
		t.Errorf("without checks: %+v", turns)
	}
}

func TestN14_OutcomesOfAResult(t *testing.T) {
	r := ccci.Result{Stages: []ccci.Stage{
		{Checks: []ccci.Check{{Name: "install/serves", Status: ccci.Pass, Duration: time.Second}, {Name: "install/images", Status: ccci.Fail, Code: ccci.CodeInfra}}},
		{Checks: []ccci.Check{{Name: "checks/a", Status: ccci.Flaky}, {Name: "checks/a", Status: ccci.Fail, Code: ccci.CodeRecipe}, {Name: "checks/a", Status: ccci.Pass}}},
	}}
	for range 1000 {
		name := fmt.Sprintf("checks/%d", len(r.Stages[1].Checks))
		r.Stages[1].Checks = append(r.Stages[1].Checks, ccci.Check{Name: name, Status: ccci.Pass})
	}
	got := r.Outcomes()
	if len(got) != 500 {
		t.Errorf("%d outcomes", len(got))
	}
	want := []ccci.CheckOutcome{{Name: "install/serves", Status: ccci.Pass, Duration: time.Second}, {Name: "install/images", Status: ccci.Unverified}, {Name: "checks/a", Status: ccci.Fail}}
	for i, w := range want {
		if got[i] != w {
			t.Errorf("outcome %d: %+v, want %+v", i, got[i], w)
		}
	}
}
