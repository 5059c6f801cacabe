package bridge_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// treeOf makes the files of a commit.
func (a *appliance) treeOf(text string) string {
	blob := exec.Command("git", "-C", a.git, "hash-object", "-w", "--stdin")
	blob.Stdin = strings.NewReader(text)
	out, err := blob.Output()
	if err != nil {
		a.t.Fatal(err)
	}
	tree := exec.Command("git", "-C", a.git, "mktree")
	tree.Stdin = strings.NewReader("100644 blob " + strings.TrimSpace(string(out)) + "\tcompose.yml\n")
	if out, err = tree.Output(); err != nil {
		a.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// on makes a commit on top of another.
func (a *appliance) on(parent, text string) string {
	return a.run("commit-tree", a.treeOf(text), "-p", parent, "-m", text)
}

// prOf opens a pull request of one commit.
func (a *appliance) prOf(branch, commit string) ccci.PRRef {
	a.run("update-ref", "refs/heads/"+branch, commit)
	pr, err := a.forge.OpenPullRequest(a.t.Context(), repo, branch, branch, "main", "mallory")
	if err != nil {
		a.t.Fatal(err)
	}
	return pr.Ref
}

// ended stores a run that has ended: of the sweep, or number i of a pull request.
func (a *appliance) ended(i int, pr ccci.PRRef, trigger ccci.Trigger, commit string, status ccci.Status, created time.Time) ccci.RunID {
	id := ccci.RunID(created.UTC().Format("060102-150405-") + fmt.Sprintf("%06x", i))
	run := ccci.Run{ID: id, Key: ccci.RunKey("local", ccci.CommentID(fmt.Sprint(1000+i)), 0), Recipe: "miniflux", PR: pr, Trigger: trigger,
		Commit: ccci.Commit(commit), Status: ccci.StatusQueued, Attempt: 1, Created: created}
	if trigger != "" {
		run.Key, run.Branch = "sweep/"+string(id), "main"
	}
	if _, fresh, err := a.store.ClaimRun(context.Background(), run); err != nil || !fresh {
		a.t.Fatal(err, fresh)
	}
	run.Status, run.Started, run.Finished, run.Level = status, created.Add(time.Second), created.Add(time.Minute), 3
	if err := a.store.UpdateRun(context.Background(), run); err != nil {
		a.t.Fatal(err)
	}
	return id
}

// speaker is the run that the recipe's badge shows.
func (a *appliance) speaker() ccci.Run {
	runs, err := a.store.LatestOf(context.Background(), "miniflux", ccci.SubjectRecipe)
	if err != nil {
		a.t.Fatal(err)
	}
	var best ccci.Run
	var since time.Time
	for _, r := range runs {
		if at, ok := r.SpeaksFor()[ccci.SubjectRecipe]; ok && (best.ID == "" || at.After(since)) {
			best, since = r, at
		}
	}
	return best
}

func (a *appliance) awaitMerge(id ccci.RunID) {
	a.t.Helper()
	a.await("the merge of "+string(id), func() bool {
		for _, r := range a.runs(ccci.RunFilter{}) {
			if r.ID == id && !r.Merge.IsZero() {
				return true
			}
		}
		return false
	})
}

// A28: of two pull requests on top of each other the upper one is pushed to the default branch.
// Its verdict is the recipe's, not that of the lower one, which the branch never was.
func TestA28_TheLowerOfAStackDoesNotSpeak(t *testing.T) {
	a := newAppliance(t)
	x := a.on(a.run("rev-parse", "main"), "good")
	y := a.on(x, "bad")
	root := a.run("rev-parse", "main")
	lower, upper, first := a.prOf("lower", x), a.prOf("upper", y), a.prOf("first", root)
	now := time.Now()
	red := a.ended(1, upper, "", y, ccci.StatusFailed, now.Add(-2*time.Hour))
	a.ended(2, lower, "", x, ccci.StatusPassed, now.Add(-3*time.Hour))
	last := a.ended(3, first, "", root, ccci.StatusPassed, now.Add(-4*time.Hour)) // the oldest is asked about last
	a.run("update-ref", "refs/heads/main", y)
	_, stop := a.bridge()
	defer stop()
	a.awaitMerge(last)
	if s := a.speaker(); s.ID != red {
		t.Errorf("the default branch is at %s, which failed; the recipe's verdict is %s at %s", y[:8], s.Status, s.Commit.Short())
	}
}

// A28: of two commits of one pull request the older one is pushed to the default branch. Its verdict
// is the recipe's, though the newer one was tested since.
func TestA28_AnOlderCommitOfAPullRequestIsMerged(t *testing.T) {
	a := newAppliance(t)
	x := a.on(a.run("rev-parse", "main"), "good")
	pr := a.prOf("change", x)
	now := time.Now()
	green := a.ended(1, pr, "", x, ccci.StatusPassed, now.Add(-3*time.Hour))
	y := a.on(x, "bad")
	a.run("update-ref", "refs/heads/change", y)
	a.ended(2, pr, "", y, ccci.StatusFailed, now.Add(-2*time.Hour))
	a.run("update-ref", "refs/heads/main", x)
	_, stop := a.bridge()
	defer stop()
	a.awaitMerge(green)
	if s := a.speaker(); s.ID != green {
		t.Errorf("the default branch is at %s, which passed; the recipe's verdict is %s at %s", x[:8], s.Status, s.Commit.Short())
	}
}

// A28: a pull request of an old commit of the default branch, which the branch was at long ago, does
// not outdo what was found out about the branch since.
func TestA28_AnOldCommitDoesNotSpeak(t *testing.T) {
	a := newAppliance(t)
	x := a.on(a.run("rev-parse", "main"), "good")
	a.run("update-ref", "refs/heads/main", x)
	y := a.on(x, "bad")
	a.run("update-ref", "refs/heads/main", y)
	red := a.ended(1, ccci.PRRef{}, ccci.TriggerSweep, y, ccci.StatusFailed, time.Now())
	pr := a.prOf("old", x)
	green := a.ended(2, pr, "", x, ccci.StatusPassed, time.Now())
	_, stop := a.bridge()
	defer stop()
	a.awaitMerge(green)
	if s := a.speaker(); s.ID != red {
		t.Errorf("the default branch is at %s, which failed; the recipe's verdict is %s at %s", y[:8], s.Status, s.Commit.Short())
	}
}
