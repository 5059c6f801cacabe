package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func testClaim(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	first := aRun(1)
	same(t, "the claimed run", claim(t, s, first), first)

	second := aRun(2)
	second.Key = first.Key
	held, created, err := s.ClaimRun(t.Context(), second)
	if err != nil || created {
		t.Fatalf("second claim of the key = created %t, %v; want false, nil", created, err)
	}
	same(t, "the run that is held", held, first)

	held, created, err = s.ClaimRun(t.Context(), first)
	if err != nil || created {
		t.Fatalf("claiming the very same run again = created %t, %v; want false, nil", created, err)
	}
	same(t, "the run that is held", held, first)
	if _, err := s.FindRun(t.Context(), second.ID); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("the second claim left a run: %v", err)
	}

	moved := first
	moved.Status = ccci.StatusRunning
	update(t, s, moved)
	held, _, err = s.ClaimRun(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "a claim returns the present state", held, moved)
}

func testClaimRaces(t *testing.T, o Options) {
	place := t.TempDir()
	handles := []ccci.Store{o.Open(t, place), o.Open(t, place)}
	const comments, rivals = 20, 4
	var mu sync.Mutex
	wins := map[string]int{}
	holders := map[string][]ccci.RunID{}
	var wg sync.WaitGroup
	for rival := range rivals {
		wg.Go(func() {
			for c := range comments {
				run := aRun(rival*1000 + c)
				run.Key = ccci.RunKey("forge", ccci.CommentID(fmt.Sprint(c)), 0)
				held, created, err := handles[rival%2].ClaimRun(t.Context(), run)
				if err != nil {
					t.Errorf("claiming: %v", err)
					return
				}
				mu.Lock()
				if created {
					wins[run.Key]++
				}
				holders[run.Key] = append(holders[run.Key], held.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for key, got := range holders {
		if wins[key] != 1 {
			t.Errorf("%s was claimed %d times, want once", key, wins[key])
		}
		if len(slices.Compact(slices.Clone(got))) != 1 {
			t.Errorf("%s: rivals were told different runs: %v", key, got)
		}
	}
	runs, err := handles[0].FindRuns(t.Context(), ccci.RunFilter{Limit: 1000})
	if err != nil || len(runs) != comments {
		t.Errorf("the store holds %d runs (%v), want %d", len(runs), err, comments)
	}
}

func testClaimTakenID(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	claim(t, s, aRun(1))
	other := aRun(2)
	other.ID = aRun(1).ID
	_, created, err := s.ClaimRun(t.Context(), other)
	if err == nil || created {
		t.Fatalf("two keys with one id = created %t, %v; want an error", created, err)
	}
	same(t, "the run that was there", find(t, s, other.ID), aRun(1))
}

func testClaimIncomplete(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	for name, spoil := range map[string]func(*ccci.Run){
		"no id":                        func(r *ccci.Run) { r.ID = "" },
		"no key":                       func(r *ccci.Run) { r.Key = "" },
		"no status":                    func(r *ccci.Run) { r.Status = "" },
		"a status that does not exist": func(r *ccci.Run) { r.Status = "green" },
	} {
		run := aRun(1)
		spoil(&run)
		if _, _, err := s.ClaimRun(t.Context(), run); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v, want an Error with CodeInvalid", name, err)
		}
	}
}

func testRoundTrip(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	run := aRun(1)
	run.Options = ccci.Options{Stages: []ccci.StageName{ccci.StageInstall}, From: "1.0.0+2", Retest: "260301-000000-bbbbbb"}
	claim(t, s, run)
	run.Status = ccci.StatusFailed
	run.Attempt = 2
	run.Build, run.Earlier = "build/2", []ccci.BuildRef{"build/1"}
	run.Stages = []ccci.StageRow{{Name: ccci.StageInstall, Status: ccci.Fail, Reason: "it’s \x00 \"quoted\" <b>", Duration: 3 * time.Second}}
	run.Level, run.Version, run.Cause, run.CancelledBy = 3, "1.2.0+3.4", "no answer\nafter 5 m", "bob"
	run.Head, run.Superseded = run.Commit, ccci.Supersession{Run: "260101-000000-000000", Head: run.Commit}
	run.Started, run.Finished = start.Add(time.Minute), start.Add(time.Hour)
	run.Branch, run.Release = "main", "1.2.0+3.4"
	run.Merge = ccci.Merge{Branch: "main", Default: true, Commit: run.Commit, Same: true, At: start.Add(2 * time.Hour)}
	update(t, s, run)
	same(t, "the run", find(t, s, run.ID), run)
	update(t, s, run) // the same update again is legal, also on a terminal run
	same(t, "the run", find(t, s, run.ID), run)
}

func testUpdateFixedFields(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	want := aRun(1)
	claim(t, s, want)
	changed := want
	changed.Key, changed.Recipe, changed.Commit = "other", "other", "ffffffffffffffffffffffffffffffffffffffff"
	changed.PR.Number, changed.Created = 99, start.Add(48*time.Hour)
	changed.Status, changed.Level = ccci.StatusRunning, 2
	update(t, s, changed)
	want.Status, want.Level = ccci.StatusRunning, 2
	same(t, "the run", find(t, s, want.ID), want)
	if runs, err := s.FindRuns(t.Context(), ccci.RunFilter{Recipe: "other"}); err != nil || len(runs) != 0 {
		t.Errorf("the run is found under a recipe it does not have: %v %v", ids(runs), err)
	}
}

func testUpdateMoves(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	all := ccci.Statuses
	n := 0
	for _, from := range all {
		for _, to := range all {
			n++
			run := aRun(n)
			claim(t, s, run)
			run.Status, run.Cause = from, "before"
			update(t, s, run)
			next := run
			next.Status, next.Cause = to, "after"
			err := s.UpdateRun(t.Context(), next)
			if from.CanBecome(to) {
				if err != nil {
					t.Errorf("%s -> %s: %v, want nil", from, to, err)
				}
				same(t, "the moved run", find(t, s, run.ID), next)
				continue
			}
			if ccci.CodeOf(err) != ccci.CodeConflict || err == nil {
				t.Errorf("%s -> %s: %v, want an Error with CodeConflict", from, to, err)
			}
			same(t, fmt.Sprintf("after the refused move %s -> %s, the run", from, to), find(t, s, run.ID), run)
		}
	}
	bad := aRun(1)
	bad.Status = "green"
	if err := s.UpdateRun(t.Context(), bad); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("an unknown status: %v, want an Error with CodeInvalid", err)
	}
}

// Of rivals that each want another end, one wins and the others are refused.
func testUpdateRaces(t *testing.T, o Options) {
	place := t.TempDir()
	handles := []ccci.Store{o.Open(t, place), o.Open(t, place)}
	ends := slices.DeleteFunc(slices.Clone(ccci.Statuses), func(s ccci.Status) bool { return !s.Terminal() })
	for n := range 10 {
		run := aRun(n)
		claim(t, handles[0], run)
		var wg sync.WaitGroup
		won := make([]bool, len(ends))
		for i, end := range ends {
			wg.Go(func() {
				rival := run
				rival.Status, rival.Cause = end, string(end)
				err := handles[i%2].UpdateRun(t.Context(), rival)
				won[i] = err == nil
				if err != nil && ccci.CodeOf(err) != ccci.CodeConflict {
					t.Errorf("losing: %v, want CodeConflict", err)
				}
			})
		}
		wg.Wait()
		held := find(t, handles[1], run.ID)
		for i, end := range ends {
			if won[i] != (held.Status == end) {
				t.Errorf("%s was told %t, the store holds %s", end, won[i], held.Status)
			}
		}
		if held.Cause != string(held.Status) {
			t.Errorf("status %s with the cause of %s", held.Status, held.Cause)
		}
	}
}

// A request to cancel is recorded once, in an unfinished run alone, and no update takes it away.
func testCancel(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	run := aRun(1)
	claim(t, s, run)
	cancel := func(by string) ccci.Run {
		t.Helper()
		got, err := s.CancelRun(t.Context(), run.ID, by)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "what CancelRun returns", got, find(t, s, run.ID))
		return got
	}
	if got := cancel("ada"); got.CancelledBy != "ada" || got.Status != ccci.StatusQueued {
		t.Errorf("after the first request it is %s, cancelled by %q", got.Status, got.CancelledBy)
	}
	if got := cancel("bob"); got.CancelledBy != "ada" {
		t.Errorf("after the second request it is cancelled by %q", got.CancelledBy)
	}
	run.Status = ccci.StatusRunning // read before the request
	update(t, s, run)
	if got := find(t, s, run.ID); got.CancelledBy != "ada" || got.Status != ccci.StatusRunning {
		t.Errorf("after an update it is %s, cancelled by %q", got.Status, got.CancelledBy)
	}
	over := aRun(2)
	over.Status = ccci.StatusPassed
	claim(t, s, over)
	if got, err := s.CancelRun(t.Context(), over.ID, "ada"); err != nil || got.CancelledBy != "" || got.Status != ccci.StatusPassed {
		t.Errorf("a run that has ended: %+v, %v", got, err)
	}
}

// A request and an update of another process take nothing from each other, whichever comes first.
func testCancelRaces(t *testing.T, o Options) {
	place := t.TempDir()
	handles := []ccci.Store{o.Open(t, place), o.Open(t, place)}
	for n := range 20 {
		run := aRun(n)
		claim(t, handles[0], run)
		var wg sync.WaitGroup
		wg.Go(func() {
			started := run
			started.Status, started.Build = ccci.StatusRunning, "build"
			if err := handles[0].UpdateRun(t.Context(), started); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := handles[1].CancelRun(t.Context(), run.ID, "ada"); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if got := find(t, handles[1], run.ID); got.Status != ccci.StatusRunning || got.Build != "build" || got.CancelledBy != "ada" {
			t.Errorf("it is %s with build %q, cancelled by %q", got.Status, got.Build, got.CancelledBy)
		}
	}
}

func testUnknownRun(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	if _, err := s.FindRun(t.Context(), "260301-000000-cccccc"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("FindRun: %v, want ErrNotFound", err)
	}
	if err := s.UpdateRun(t.Context(), aRun(1)); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("UpdateRun: %v, want ErrNotFound", err)
	}
	if _, err := s.CancelRun(t.Context(), "260301-000000-cccccc", "ada"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("CancelRun: %v, want ErrNotFound", err)
	}
	for name, list := range map[string]func() ([]ccci.Run, error){
		"FindRuns":        func() ([]ccci.Run, error) { return s.FindRuns(t.Context(), ccci.RunFilter{}) },
		"LatestPerRecipe": func() ([]ccci.Run, error) { return s.LatestPerRecipe(t.Context()) },
		"LatestOf":        func() ([]ccci.Run, error) { return s.LatestOf(t.Context(), "unheard-of", ccci.SubjectRecipe) },
	} {
		if runs, err := list(); err != nil || len(runs) != 0 {
			t.Errorf("%s of an empty store = %v, %v; want none, nil", name, ids(runs), err)
		}
	}
}

func testFilters(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	put := func(n int, recipe string, pr int, status ccci.Status) {
		run := aRun(n)
		run.Recipe, run.PR.Repo.Name, run.PR.Number = recipe, recipe, pr
		claim(t, s, run)
		run.Status = status
		update(t, s, run)
	}
	put(1, "a", 1, ccci.StatusPassed)
	put(2, "a", 2, ccci.StatusFailed)
	put(3, "b", 1, ccci.StatusRunning)
	put(4, "a", 1, ccci.StatusQueued)
	put(5, "b", 1, ccci.StatusCancelled)
	pr := ccci.PRRef{Repo: ccci.RepoRef{Owner: "recipes", Name: "a"}, Number: 1}
	for _, test := range []struct {
		name   string
		filter ccci.RunFilter
		want   []int
	}{
		{"everything, newest first", ccci.RunFilter{}, []int{5, 4, 3, 2, 1}},
		{"recipe", ccci.RunFilter{Recipe: "a"}, []int{4, 2, 1}},
		{"pull request", ccci.RunFilter{PR: pr}, []int{4, 1}},
		{"repository", ccci.RunFilter{PR: ccci.PRRef{Repo: pr.Repo}}, []int{4, 2, 1}},
		{"number", ccci.RunFilter{Recipe: "a", PR: ccci.PRRef{Number: 1}}, []int{4, 1}},
		{"statuses", ccci.RunFilter{Statuses: []ccci.Status{ccci.StatusPassed, ccci.StatusFailed}}, []int{2, 1}},
		{"unfinished", ccci.RunFilter{Unfinished: true}, []int{4, 3}},
		{"before", ccci.RunFilter{Before: aRun(3).ID}, []int{2, 1}},
		{"limit", ccci.RunFilter{Limit: 2}, []int{5, 4}},
		{"all together", ccci.RunFilter{Recipe: "a", PR: pr, Unfinished: true, Before: aRun(5).ID, Limit: 1}, []int{4}},
		{"nothing fits", ccci.RunFilter{Recipe: "c"}, nil},
	} {
		runs, err := s.FindRuns(t.Context(), test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var want []ccci.RunID
		for _, n := range test.want {
			want = append(want, aRun(n).ID)
		}
		same(t, test.name, ids(runs), want)
	}
}

func testPages(t *testing.T, o Options) {
	s := o.Open(t, t.TempDir())
	for n := range 130 {
		claim(t, s, aRun(n))
	}
	runs, err := s.FindRuns(t.Context(), ccci.RunFilter{})
	if err != nil || len(runs) != 100 {
		t.Fatalf("without a limit: %d runs, %v; want 100", len(runs), err)
	}
	rest, err := s.FindRuns(t.Context(), ccci.RunFilter{Before: runs[99].ID})
	if err != nil || len(rest) != 30 || rest[0].ID != aRun(29).ID {
		t.Errorf("the second page: %v, %v; want the 30 oldest", ids(rest), err)
	}
}
