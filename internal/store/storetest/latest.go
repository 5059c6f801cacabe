package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// entry is a run in the tests of what is latest.
type entry struct {
	status ccci.Status
	change func(*ccci.Run)
}

func pull(number int) func(*ccci.Run) {
	return func(r *ccci.Run) { r.PR.Number = number }
}

func swept(r *ccci.Run) {
	r.PR, r.Comment, r.Trigger, r.Branch = ccci.PRRef{}, "", ccci.TriggerSweep, "main"
}

func released(r *ccci.Run) {
	swept(r)
	r.Branch, r.Release = "", "1.0.0+1"
}

// merged makes a run of pull request 7 that was merged so many seconds after the start.
func merged(after int, into ccci.Merge) func(*ccci.Run) {
	return func(r *ccci.Run) {
		into.Commit, into.At = r.Commit, start.Add(time.Duration(after)*time.Second)
		r.Merge = into
	}
}

var (
	intoMain  = ccci.Merge{Branch: "main", Default: true, Same: true}
	intoOther = ccci.Merge{Branch: "stable", Same: true}
	unlike    = ccci.Merge{Branch: "main", Default: true}
)

func both(changes ...func(*ccci.Run)) func(*ccci.Run) {
	return func(r *ccci.Run) {
		for _, change := range changes {
			change(r)
		}
	}
}

func testLatest(t *testing.T, o Options) {
	partial := func(r *ccci.Run) { r.Options.Stages = []ccci.StageName{ccci.StageInstall} }
	from := func(r *ccci.Run) { r.Options.From = "1.0.0+1" }
	s := o.Open(t, t.TempDir())
	n := 0
	var want []ccci.RunID
	for _, test := range []struct {
		recipe  string
		entries []entry // oldest first
		want    []int   // indexes into entries, in the order wanted
	}{
		{"a-single-queued", []entry{{ccci.StatusQueued, swept}}, []int{0}},
		{"b-passed", []entry{{ccci.StatusFailed, swept}, {ccci.StatusPassed, swept}}, []int{1}},
		{"c-failed", []entry{{ccci.StatusPassed, swept}, {ccci.StatusFailed, swept}}, []int{1}},
		{"d-errored", []entry{{ccci.StatusPassed, swept}, {ccci.StatusErrored, swept}}, []int{1, 0}},
		{"d-errored-and-inconclusive", []entry{{ccci.StatusFlaky, swept}, {ccci.StatusErrored, swept}, {ccci.StatusInconclusive, swept}}, []int{2, 0}},
		{"d-errored-first", []entry{{ccci.StatusErrored, swept}, {ccci.StatusInconclusive, swept}}, []int{1}},
		{"d-errored-merged", []entry{{ccci.StatusRefused, swept}, {ccci.StatusErrored, merged(900, intoMain)}}, []int{1, 0}},
		{"d-refused", []entry{{ccci.StatusPassed, swept}, {ccci.StatusRefused, swept}}, []int{1}},
		{"e-running", []entry{{ccci.StatusPassed, swept}, {ccci.StatusFailed, swept}, {ccci.StatusRunning, swept}}, []int{2, 1}},
		{"f-cancelled", []entry{{ccci.StatusPassed, swept}, {ccci.StatusCancelled, swept}}, []int{1, 0}},
		{"g-partial", []entry{{ccci.StatusPassed, swept}, {ccci.StatusFailed, both(swept, partial)}}, []int{1, 0}},
		{"h-nothing-speaks", []entry{{ccci.StatusPassed, both(swept, partial)}, {ccci.StatusCancelled, swept}, {ccci.StatusQueued, swept}}, []int{2}},
		{"h-other-base", []entry{{ccci.StatusPassed, swept}, {ccci.StatusFailed, both(swept, from)}}, []int{1, 0}},
		{"i-several-unfinished", []entry{{ccci.StatusPassed, swept}, {ccci.StatusRunning, swept}, {ccci.StatusQueued, swept}}, []int{2, 0}},
		{"j-pull-request-alone", []entry{{ccci.StatusPassed, pull(7)}, {ccci.StatusFailed, pull(8)}}, []int{1}},
		{"k-pull-request-after-sweep", []entry{{ccci.StatusPassed, swept}, {ccci.StatusFailed, pull(7)}}, []int{1, 0}},
		{"l-release-and-branch", []entry{{ccci.StatusFailed, released}, {ccci.StatusPassed, swept}}, []int{1}},
		{"m-merged", []entry{{ccci.StatusFailed, swept}, {ccci.StatusPassed, merged(900, intoMain)}, {ccci.StatusFailed, pull(8)}}, []int{2, 1}},
		{"n-merged-after-a-newer-sweep", []entry{{ccci.StatusPassed, merged(900, intoMain)}, {ccci.StatusFailed, swept}}, []int{1, 0}},
		{"o-merged-before-a-newer-sweep", []entry{{ccci.StatusPassed, merged(0, intoMain)}, {ccci.StatusFailed, swept}}, []int{1}},
		{"p-merged-with-other-files", []entry{{ccci.StatusFailed, swept}, {ccci.StatusPassed, merged(900, unlike)}}, []int{1, 0}},
		{"q-merged-into-another-branch", []entry{{ccci.StatusFailed, swept}, {ccci.StatusPassed, merged(900, intoOther)}}, []int{1, 0}},
		{"r-merged-partial", []entry{{ccci.StatusFailed, swept}, {ccci.StatusPassed, both(merged(900, intoMain), partial)}}, []int{1, 0}},
	} {
		var of []ccci.RunID
		made := make([]ccci.RunID, len(test.entries))
		for i, e := range test.entries {
			n++
			made[i] = put(t, s, n, test.recipe, e).ID
		}
		for _, i := range test.want {
			of = append(of, made[i])
		}
		want = append(want, of...)
		got, err := s.LatestOf(t.Context(), test.recipe, ccci.SubjectRecipe)
		if err != nil {
			t.Fatalf("LatestOf(%s): %v", test.recipe, err)
		}
		same(t, "LatestOf "+test.recipe, ids(got), of)
	}
	got, err := s.LatestPerRecipe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "LatestPerRecipe", ids(got), want)
	if !slices.IsSortedFunc(got, func(a, b ccci.Run) int { return strings.Compare(a.Recipe, b.Recipe) }) {
		t.Error("LatestPerRecipe is not ordered by recipe")
	}
}

// put stores a run in the way of its life: claimed, and then updated. What an update says of
// what never changes is wrong, which must not matter.
func put(t *testing.T, s ccci.Store, n int, recipe string, e entry) ccci.Run {
	t.Helper()
	run := aRun(n)
	run.Recipe = recipe
	e.change(&run)
	merge := run.Merge
	run.Merge = ccci.Merge{}
	claim(t, s, run)
	run.Status, run.Merge = e.status, merge
	stray := run
	stray.Recipe, stray.PR.Number, stray.Created = "stray", 4711, start.Add(time.Hour)
	update(t, s, stray)
	return run
}

func testLatestSubjects(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	of := func(branch string, number int) func(*ccci.Run) {
		return func(r *ccci.Run) { r.Branch, r.PR.Number = branch, number }
	}
	runs := map[string]ccci.RunID{}
	for i, e := range []struct {
		name, recipe string
		entry
	}{
		{"swept", "wiki", entry{ccci.StatusPassed, swept}},
		{"pull 7", "wiki", entry{ccci.StatusPassed, both(of("update", 7), merged(900, intoMain))}},
		{"pull 8, first", "wiki", entry{ccci.StatusFailed, of("fix", 8)}},
		{"pull 8", "wiki", entry{ccci.StatusPassed, of("fix", 8)}},
		{"pull 9", "wiki", entry{ccci.StatusPassed, both(pull(9), merged(900, intoOther))}}, // of a fork
		{"elsewhere", "blog", entry{ccci.StatusFailed, of("fix", 8)}},
		{"newest", "wiki", entry{ccci.StatusCancelled, of("fix", 8)}},
	} {
		runs[e.name] = put(t, s, i+1, e.recipe, e.entry).ID
	}
	for about, want := range map[ccci.Subject]string{
		ccci.SubjectRecipe: "pull 7", ccci.SubjectPull(7): "pull 7", ccci.SubjectPull(8): "pull 8", ccci.SubjectPull(9): "pull 9",
		ccci.SubjectBranch("main"): "pull 7", ccci.SubjectBranch("update"): "pull 7", ccci.SubjectBranch("fix"): "pull 8", ccci.SubjectBranch("stable"): "pull 9",
		ccci.SubjectPull(1): "", ccci.SubjectPull(4711): "", ccci.SubjectBranch("nowhere"): "", ccci.SubjectBranch("%"): "", ccci.SubjectBranch("' OR 1=1 --"): "",
	} {
		got, err := s.LatestOf(t.Context(), "wiki", about)
		if err != nil {
			t.Fatal(err)
		}
		ids := ids(got)
		if want == "" {
			same(t, string(about), ids, []ccci.RunID{runs["newest"]})
			continue
		}
		same(t, string(about), ids, []ccci.RunID{runs["newest"], runs[want]})
	}
}

// A merge becomes known after the run has ended.
func testLatestLaterMerge(t *testing.T, o Options) {
	place := t.TempDir()
	s := o.Open(t, place)
	run := put(t, s, 1, "wiki", entry{ccci.StatusPassed, pull(7)})
	put(t, s, 2, "wiki", entry{ccci.StatusQueued, pull(8)})
	merged(900, intoMain)(&run)
	update(t, s, run)
	update(t, s, run)
	for _, s := range []ccci.Store{s, o.Open(t, place)} {
		got, err := s.LatestOf(t.Context(), "wiki", ccci.SubjectRecipe)
		if err != nil || len(got) != 2 || got[1].ID != run.ID {
			t.Errorf("LatestOf = %v, %v; want the merged run too", ids(got), err)
		}
		same(t, "the run", find(t, s, run.ID), run)
	}
}
