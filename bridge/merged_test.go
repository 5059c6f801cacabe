package bridge_test

import (
	"errors"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// merge merges a pull request with files of a name.
func (w *world) merge(ref ccci.PRRef, m ccci.Merge, files string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.merges[ref], w.trees[m.Commit] = m, files
}

// A28: a merge of what was tested carries its verdict over, also where the merge made another
// commit; one of other files does not.
func TestA28_AMergeCarriesTheVerdictOver(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		same, unlike, fork := pr1, ccci.PRRef{Repo: repo, Number: 2}, ccci.PRRef{Repo: repo, Number: 3}
		w.addPR(unlike)
		w.addPR(fork)
		w.prs[fork].Fork = true
		var made []ccci.Comment
		for _, pr := range []ccci.PRRef{same, unlike, fork} {
			w.trees[w.prs[pr].Head] = pr.String()
			made = append(made, w.write(pr, ada, "!testme"))
		}
		_, stop := w.start(w.config())
		idle(4 * time.Minute)
		for i, branch := range []string{"fix", "fix", ""} {
			if run := w.runFor(made[i]); run.Status != ccci.StatusPassed || run.Branch != branch || !run.Merge.IsZero() {
				t.Fatalf("before any merge: %+v", run)
			}
		}
		at := time.Now()
		w.merge(same, ccci.Merge{Branch: "main", Default: true, Commit: commitN(77), At: at}, same.String())
		w.merge(unlike, ccci.Merge{Branch: "main", Default: true, Commit: commitN(78), At: at.Add(time.Hour)}, "other files")
		w.mu.Lock()
		w.forgeErr = func(call string) error { // an outage changes nothing
			if call == "Merge" {
				return errors.New("503")
			}
			return nil
		}
		w.mu.Unlock()
		idle(10 * time.Minute)
		if run := w.runFor(made[0]); !run.Merge.IsZero() {
			t.Errorf("during the outage: %+v", run.Merge)
		}
		w.mu.Lock()
		w.forgeErr = nil
		w.mu.Unlock()
		idle(10 * time.Minute)
		if got, want := w.runFor(made[0]).Merge, (ccci.Merge{Branch: "main", Default: true, Commit: commitN(77), Same: true, At: at}); got != want {
			t.Errorf("merged as tested: %+v, want %+v", got, want)
		}
		if got := w.runFor(made[1]).Merge; got.Same || got.Commit != commitN(78) || got.At.After(time.Now()) {
			t.Errorf("merged with other files: %+v", got)
		}
		if got := w.runFor(made[2]).Merge; !got.IsZero() {
			t.Errorf("not merged: %+v", got)
		}
		// What is known is not asked for again, and what is open ever more rarely.
		asked := func() int { w.mu.Lock(); defer w.mu.Unlock(); return w.calls["Merge"] }
		before := asked()
		idle(24 * time.Hour)
		if n := asked() - before; n < 20 || n > 60 {
			t.Errorf("%d questions in a day about one open pull request", n)
		}
		stop()
	})
}
