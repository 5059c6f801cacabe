package bridge

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A28: of each commit that was tested in a pull request the newest whole run with an answer is asked
// about, the more rarely the older it is, and older commits until a verdict was carried over.
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
	merged := func(r *ccci.Run) { r.Merge = ccci.Merge{Branch: "main", Commit: "x", Same: true} }
	of := func(commit ccci.Commit) func(*ccci.Run) { return func(r *ccci.Run) { r.Commit = commit } }
	vain := func(r *ccci.Run) { r.Status = ccci.StatusErrored }
	swept := func(r *ccci.Run) { r.Trigger = ccci.TriggerSweep }
	for name, test := range map[string]struct {
		runs  []ccci.Run // newest first
		asked map[ccci.RunID]time.Time
		want  []ccci.RunID
	}{
		"never asked":         {[]ccci.Run{run("b", 2, time.Hour), run("a", 1, time.Second)}, nil, []ccci.RunID{"b", "a"}},
		"the newest alone":    {[]ccci.Run{run("b", 1, time.Hour), run("a", 1, 2*time.Hour)}, nil, []ccci.RunID{"b"}},
		"a part says nothing": {[]ccci.Run{run("b", 1, time.Hour, partial), run("a", 1, 2*time.Hour)}, nil, []ccci.RunID{"a"}},
		"known already":       {[]ccci.Run{run("b", 1, time.Hour, known), run("a", 1, 2*time.Hour)}, nil, nil},
		"of no pull request":  {[]ccci.Run{run("a", 0, time.Hour, swept)}, nil, nil},
		"asked a moment ago":  {[]ccci.Run{run("a", 1, time.Second)}, map[ccci.RunID]time.Time{"a": now.Add(-time.Minute)}, nil},
		"asked a period ago":  {[]ccci.Run{run("a", 1, time.Second)}, map[ccci.RunID]time.Time{"a": now.Add(-period)}, []ccci.RunID{"a"}},
		"older, a period ago": {[]ccci.Run{run("a", 1, time.Hour)}, map[ccci.RunID]time.Time{"a": now.Add(-period)}, nil},
		"older, longer ago":   {[]ccci.Run{run("a", 1, time.Hour)}, map[ccci.RunID]time.Time{"a": now.Add(-8 * time.Minute)}, []ccci.RunID{"a"}},
		"weeks old, an hour":  {[]ccci.Run{run("a", 1, 500*time.Hour)}, map[ccci.RunID]time.Time{"a": now.Add(-time.Hour)}, []ccci.RunID{"a"}},
		"months old":          {[]ccci.Run{run("a", 1, 61*24*time.Hour)}, nil, nil},
		"longest ago goes first": {[]ccci.Run{run("c", 3, time.Second), run("b", 2, time.Second), run("a", 1, time.Second)},
			map[ccci.RunID]time.Time{"c": now.Add(-time.Hour), "b": now.Add(-2 * time.Hour)}, []ccci.RunID{"a", "b", "c"}},
		"an older commit too":      {[]ccci.Run{run("b", 1, time.Hour, of("2")), run("a", 1, 2*time.Hour, of("1"))}, nil, []ccci.RunID{"b", "a"}},
		"an older one more rarely": {[]ccci.Run{run("b", 1, time.Second, of("2")), run("a", 1, time.Minute, of("1"))}, map[ccci.RunID]time.Time{"a": now.Add(-59 * time.Minute), "b": now.Add(-period)}, []ccci.RunID{"b"}},
		"each hour":                {[]ccci.Run{run("b", 1, time.Second, of("2")), run("a", 1, time.Minute, of("1"))}, map[ccci.RunID]time.Time{"a": now.Add(-time.Hour), "b": now}, []ccci.RunID{"a"}},
		"merged with other files":  {[]ccci.Run{run("b", 1, time.Hour, of("2"), known), run("a", 1, 2*time.Hour, of("1"))}, nil, []ccci.RunID{"a"}},
		"carried over":             {[]ccci.Run{run("b", 1, time.Hour, of("2"), merged), run("a", 1, 2*time.Hour, of("1"))}, nil, nil},
		"carried over without one": {[]ccci.Run{run("b", 1, time.Hour, of("1"), vain, merged), run("a", 1, 2*time.Hour, of("1"))}, nil, []ccci.RunID{"a"}},
		"the newest has no answer": {[]ccci.Run{run("b", 1, time.Hour, of("1"), vain), run("a", 1, 2*time.Hour, of("1"))}, nil, []ccci.RunID{"a"}},
		"none has an answer":       {[]ccci.Run{run("b", 1, time.Hour, of("1"), vain), run("a", 1, 2*time.Hour, of("1"), vain)}, nil, []ccci.RunID{"b"}},
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
