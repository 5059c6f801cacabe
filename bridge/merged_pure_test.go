package bridge

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A28: of each pull request the newest whole run is asked about, the more rarely the older it is.
func TestA28_WhoseMergeIsAskedFor(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const period = 2 * time.Minute
	run := func(id ccci.RunID, pr int, age time.Duration, change ...func(*ccci.Run)) ccci.Run {
		r := ccci.Run{ID: id, PR: ccci.PRRef{Number: pr}, Status: ccci.StatusPassed, Finished: now.Add(-age)}
		for _, f := range change {
			f(&r)
		}
		return r
	}
	partial := func(r *ccci.Run) { r.Options.Quick = true }
	known := func(r *ccci.Run) { r.Merge = ccci.Merge{Branch: "main", Commit: "x"} }
	swept := func(r *ccci.Run) { r.Trigger = ccci.TriggerSweep }
	for name, test := range map[string]struct {
		runs  []ccci.Run // newest first
		asked map[int]time.Time
		want  []ccci.RunID
	}{
		"never asked":         {[]ccci.Run{run("b", 2, time.Hour), run("a", 1, time.Second)}, nil, []ccci.RunID{"b", "a"}},
		"the newest alone":    {[]ccci.Run{run("b", 1, time.Hour), run("a", 1, 2*time.Hour)}, nil, []ccci.RunID{"b"}},
		"a part says nothing": {[]ccci.Run{run("b", 1, time.Hour, partial), run("a", 1, 2*time.Hour)}, nil, []ccci.RunID{"a"}},
		"known already":       {[]ccci.Run{run("b", 1, time.Hour, known), run("a", 1, 2*time.Hour)}, nil, nil},
		"of no pull request":  {[]ccci.Run{run("a", 0, time.Hour, swept)}, nil, nil},
		"asked a moment ago":  {[]ccci.Run{run("a", 1, time.Second)}, map[int]time.Time{1: now.Add(-time.Minute)}, nil},
		"asked a period ago":  {[]ccci.Run{run("a", 1, time.Second)}, map[int]time.Time{1: now.Add(-period)}, []ccci.RunID{"a"}},
		"older, a period ago": {[]ccci.Run{run("a", 1, time.Hour)}, map[int]time.Time{1: now.Add(-period)}, nil},
		"older, longer ago":   {[]ccci.Run{run("a", 1, time.Hour)}, map[int]time.Time{1: now.Add(-8 * time.Minute)}, []ccci.RunID{"a"}},
		"weeks old, an hour":  {[]ccci.Run{run("a", 1, 500*time.Hour)}, map[int]time.Time{1: now.Add(-time.Hour)}, []ccci.RunID{"a"}},
		"months old":          {[]ccci.Run{run("a", 1, 61*24*time.Hour)}, nil, nil},
		"longest ago goes first": {[]ccci.Run{run("c", 3, time.Second), run("b", 2, time.Second), run("a", 1, time.Second)},
			map[int]time.Time{3: now.Add(-time.Hour), 2: now.Add(-2 * time.Hour)}, []ccci.RunID{"a", "b", "c"}},
	} {
		var got []ccci.RunID
		for _, r := range mergeable(test.runs, now, test.asked, period) {
			got = append(got, r.ID)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
