package storetest

import (
	"slices"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func testLatest(t *testing.T, o Options) {
	whole := ccci.Options{}
	partial := ccci.Options{Stages: []ccci.StageName{ccci.StageInstall}}
	from := ccci.Options{From: "1.0.0+1"}
	type entry struct {
		options ccci.Options
		status  ccci.Status
	}
	s := o.Open(t, t.TempDir())
	n := 0
	var want []ccci.RunID
	for _, test := range []struct {
		recipe  string
		entries []entry // oldest first
		want    []int   // indexes into entries, in the order wanted
	}{
		{"a-single-queued", []entry{{whole, ccci.StatusQueued}}, []int{0}},
		{"b-passed", []entry{{whole, ccci.StatusFailed}, {whole, ccci.StatusPassed}}, []int{1}},
		{"c-failed", []entry{{whole, ccci.StatusPassed}, {whole, ccci.StatusFailed}}, []int{1}},
		{"d-errored", []entry{{whole, ccci.StatusPassed}, {whole, ccci.StatusErrored}}, []int{1}},
		{"e-running", []entry{{whole, ccci.StatusPassed}, {whole, ccci.StatusFailed}, {whole, ccci.StatusRunning}}, []int{2, 1}},
		{"f-cancelled", []entry{{whole, ccci.StatusPassed}, {whole, ccci.StatusCancelled}}, []int{1, 0}},
		{"g-partial", []entry{{whole, ccci.StatusPassed}, {partial, ccci.StatusFailed}}, []int{1, 0}},
		{"h-nothing-speaks", []entry{{partial, ccci.StatusPassed}, {whole, ccci.StatusCancelled}, {whole, ccci.StatusQueued}}, []int{2}},
		{"h-other-base", []entry{{whole, ccci.StatusPassed}, {from, ccci.StatusFailed}}, []int{1, 0}},
		{"i-several-unfinished", []entry{{whole, ccci.StatusPassed}, {whole, ccci.StatusRunning}, {whole, ccci.StatusQueued}}, []int{2, 0}},
	} {
		var of []ccci.RunID
		made := make([]ccci.RunID, len(test.entries))
		for i, e := range test.entries {
			n++
			run := aRun(n)
			run.Recipe, run.Options = test.recipe, e.options
			claim(t, s, run)
			run.Status = e.status
			update(t, s, run)
			made[i] = run.ID
		}
		for _, i := range test.want {
			of = append(of, made[i])
		}
		want = append(want, of...)
		got, err := s.LatestOf(t.Context(), test.recipe)
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
	if !slices.IsSortedFunc(got, func(a, b ccci.Run) int {
		if a.Recipe < b.Recipe {
			return -1
		} else if a.Recipe > b.Recipe {
			return 1
		}
		return 0
	}) {
		t.Error("LatestPerRecipe is not ordered by recipe")
	}
}
