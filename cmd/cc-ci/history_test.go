package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
)

// pastRuns is a store with runs of one recipe, and their results.
type pastRuns struct {
	t     *testing.T
	store *sqlstore.Store
	blobs *dirblob.Blobs
	n     int
}

func newPastRuns(t *testing.T) *pastRuns {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlstore.Open(t.Context(), filepath.Join(dir, "cc-ci.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	blobs, err := dirblob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	return &pastRuns{t: t, store: store, blobs: blobs}
}

// claim stores a run that is under way, and returns it with what its harness found.
func (p *pastRuns) claim(commit string, check ccci.CheckStatus) (ccci.Run, *ccci.Result) {
	p.t.Helper()
	p.n++
	run := ccci.Run{ID: ccci.RunID(fmt.Sprintf("260301-1200%02d-aaaaaa", p.n)), Key: fmt.Sprintf("local/%d/0", p.n), Recipe: "wiki", Commit: ccci.Commit(commit),
		Status: ccci.StatusQueued, Attempt: 1, Created: time.Date(2026, 3, 1, 12, 0, p.n, 0, time.UTC), Trigger: ccci.TriggerSweep}
	if _, _, err := p.store.ClaimRun(p.t.Context(), run); err != nil {
		p.t.Fatal(err)
	}
	run.Status = map[ccci.CheckStatus]ccci.Status{ccci.Pass: ccci.StatusPassed, ccci.Fail: ccci.StatusFailed, ccci.Flaky: ccci.StatusFlaky}[check]
	result := &ccci.Result{Schema: ccci.ResultSchema, RunID: run.ID, Recipe: run.Recipe, Commit: run.Commit, Attempt: 1, Status: run.Status,
		Stages: []ccci.Stage{{Name: ccci.StageChecks, Checks: []ccci.Check{{Name: "checks/home", Status: check, Code: ccci.CodeRecipe}}}}}
	if check != ccci.Pass {
		result.Cause = &ccci.Cause{Check: "checks/home"}
	}
	return run, result
}

func (p *pastRuns) end(run ccci.Run) {
	p.t.Helper()
	if err := p.store.UpdateRun(p.t.Context(), run); err != nil {
		p.t.Fatal(err)
	}
}

// N14: the rate of a check is of the recipe's own line and of the commit, this run included. It is
// the same when the run is remembered again, as after a crash.
func TestN14_ARunKnowsHowOftenItsChecksFlaked(t *testing.T) {
	p := newPastRuns(t)
	for i, c := range []struct {
		commit string
		check  ccci.CheckStatus
		pull   bool
		want   string
	}{
		{"a", ccci.Pass, false, ""},
		{"a", ccci.Fail, false, "1 of the last 2 runs"}, // another answer of one commit
		{"b", ccci.Flaky, false, "2 of the last 3 runs"},
		{"c", ccci.Flaky, true, "3 of the last 4 runs"}, // of a pull request, which counts for its commit alone
		{"b", ccci.Pass, false, ""},
		{"d", ccci.Fail, false, "2 of the last 5 runs"},
		{"c", ccci.Flaky, true, "4 of the last 7 runs"},
	} {
		run, result := p.claim(c.commit, c.check)
		if c.pull {
			run.Trigger = ""
		}
		for range 2 {
			if err := ccci.Remember(t.Context(), p.store, &run, result); err != nil {
				t.Fatal(err)
			}
		}
		p.end(run)
		got := ""
		for _, f := range run.Flakes {
			got += f.String()
		}
		if got != c.want {
			t.Errorf("run %d: %q, want %q", i, got, c.want)
		}
	}
}

// P17: what versions before kept no checks of is read from the stored results, once.
func TestP17_ChecksOfEarlierRunsAreRead(t *testing.T) {
	p := newPastRuns(t)
	for i, status := range []ccci.CheckStatus{ccci.Pass, ccci.Fail, ccci.Pass, ccci.Pass} {
		run, result := p.claim(fmt.Sprint(i), status)
		p.end(run)
		text, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0: // its result was removed
			continue
		case 2:
			text = []byte("no result")
		}
		if _, err := p.blobs.Put(t.Context(), ccci.ResultKey(run.ID), strings.NewReader(string(text))); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := fillChecks(t.Context(), p.store, p.blobs); err != nil {
			t.Fatal(err)
		}
	}
	past, err := p.store.CheckHistory(t.Context(), ccci.CheckFilter{Recipe: "wiki", About: ccci.SubjectRecipe})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range past {
		got = append(got, fmt.Sprintf("%s %v", o.Run.Commit, o.Checks))
	}
	if want := "3 [{checks/home pass 0s}], 2 [], 1 [{checks/home fail 0s}], 0 []"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", strings.Join(got, ", "), want)
	}
}
