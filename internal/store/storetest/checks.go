package storetest

import (
	"errors"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func outcomes(names ...string) (checks []ccci.CheckOutcome) {
	for i, name := range names {
		checks = append(checks, ccci.CheckOutcome{Name: name, Status: ccci.CheckStatuses[i%len(ccci.CheckStatuses)], Duration: time.Duration(i) * time.Second})
	}
	return checks
}

func history(t *testing.T, s ccci.Store, f ccci.CheckFilter) []ccci.Observation {
	t.Helper()
	f.Recipe = "wiki"
	all, err := s.CheckHistory(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func testChecks(t *testing.T, o Options) {
	place := t.TempDir()
	s := o.Open(t, place)
	if err := s.KeepChecks(t.Context(), "260301-000000-cccccc", outcomes("install/serves")); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("checks of an unknown run: %v, want ErrNotFound", err)
	}
	run := put(t, s, 1, "wiki", entry{ccci.StatusFlaky, swept})
	want := outcomes("install/serves", "upgrade/verify", "checks/it’s \x00 <b>", "checks/x", "checks/y")
	for _, checks := range [][]ccci.CheckOutcome{outcomes("a/z", "a/y", "a/x", "a/w", "a/v", "a/u"), want, want} { // each replaces the one before
		if err := s.KeepChecks(t.Context(), run.ID, checks); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []ccci.Store{s, o.Open(t, place)} {
		same(t, "the history", history(t, s, ccci.CheckFilter{About: ccci.SubjectRecipe}), []ccci.Observation{{Run: run, At: run.Created, Checks: want}})
	}
	if err := s.KeepChecks(t.Context(), run.ID, nil); err != nil {
		t.Fatal(err)
	}
	same(t, "without checks", history(t, s, ccci.CheckFilter{About: ccci.SubjectRecipe}), []ccci.Observation{{Run: run, At: run.Created}})
}

func testCheckHistory(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	other := func(r *ccci.Run) { r.Commit = "1111111111111111111111111111111111111111" }
	runs := map[string]ccci.Run{}
	for i, e := range []struct {
		name, recipe string
		kept         bool
		entry
	}{
		{"merged", "wiki", true, entry{ccci.StatusPassed, merged(900, intoMain)}},
		{"swept", "wiki", true, entry{ccci.StatusFailed, both(swept, other)}},
		{"forgotten", "wiki", false, entry{ccci.StatusPassed, swept}},
		{"pull 8", "wiki", true, entry{ccci.StatusFlaky, pull(8)}},
		{"elsewhere", "blog", true, entry{ccci.StatusPassed, swept}},
		{"running", "wiki", true, entry{ccci.StatusRunning, swept}},
	} {
		runs[e.name] = put(t, s, i+1, e.recipe, e.entry)
		if e.kept {
			if err := s.KeepChecks(t.Context(), runs[e.name].ID, outcomes("checks/"+e.name[:4])); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		filter ccci.CheckFilter
		want   []string
	}{
		"a subject":      {ccci.CheckFilter{About: ccci.SubjectRecipe}, []string{"merged", "forgotten", "swept"}},
		"a bound":        {ccci.CheckFilter{About: ccci.SubjectRecipe, Limit: 2}, []string{"merged", "forgotten"}},
		"a pull request": {ccci.CheckFilter{About: ccci.SubjectPull(8)}, []string{"pull 8"}},
		"a commit":       {ccci.CheckFilter{Commit: runs["merged"].Commit}, []string{"running", "pull 8", "merged"}},
		"its bound":      {ccci.CheckFilter{Commit: runs["merged"].Commit, Limit: 1}, []string{"running"}},
		"nothing":        {ccci.CheckFilter{About: ccci.SubjectPull(4711)}, nil},
	} {
		var want, got []ccci.RunID
		for _, run := range c.want {
			want = append(want, runs[run].ID)
		}
		for _, o := range history(t, s, c.filter) {
			got = append(got, o.Run.ID)
			at := o.Run.Created
			if o.Run.ID == runs["merged"].ID && c.filter.About != "" {
				at = o.Run.Merge.At
			}
			if !o.At.Equal(at) {
				t.Errorf("%s: run %s since %s, want %s", name, o.Run.ID, o.At, at)
			}
			if kept := o.Run.ID != runs["forgotten"].ID; kept != (len(o.Checks) == 1) {
				t.Errorf("%s: run %s with checks %v", name, o.Run.ID, o.Checks)
			}
		}
		same(t, name, got, want)
	}
}
