package bridge_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// P2: the comment of a run that goes on lists what the commit changes as soon as the run's process
// knows it, and nothing that another attempt or another run has left.
func TestP2_TheRunningCommentListsWhatACommitChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.harness = 10 * time.Second
		made := w.write(pr1, ada, "!testme")
		_, stop := w.start(w.config())
		defer stop()
		idle(15 * time.Second)
		run := w.runFor(made)
		if run.Status != ccci.StatusRunning {
			t.Fatalf("%+v", run)
		}
		comment := func() string { all := w.said(string(run.ID)); return all[len(all)-1] }
		leave := func(attempt int, commit ccci.Commit) {
			text, err := json.Marshal(ccci.Result{Schema: ccci.ResultSchema, RunID: run.ID, Attempt: attempt, Recipe: run.Recipe, Commit: commit,
				Review: &ccci.Review{Against: "main", Changes: []ccci.Change{{Subject: "service app", Kind: "changed", What: "changed its command", After: "sh"}}}})
			if err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			w.blobs[ccci.ReviewKey(run.ID)] = text
			w.mu.Unlock()
			idle(5 * time.Second)
		}
		const listed = "service app changed its command"
		leave(7, run.Commit)
		leave(run.Attempt, commitN(99))
		if body := comment(); strings.Contains(body, listed) {
			t.Errorf("the review of something else is shown:\n%s", body)
		}
		leave(run.Attempt, run.Commit)
		if body := comment(); !strings.Contains(body, listed) || !strings.Contains(body, "### 🔄 running") {
			t.Errorf("while it runs:\n%s", body)
		}
		idle(4 * time.Minute)
		if body := comment(); strings.Contains(body, listed) || !strings.Contains(body, "passed") {
			t.Errorf("the result has no review, and the comment says:\n%s", body)
		}
	})
}
