package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// busy occupies the engine's one slot with a run of another pull request, which takes 50 s.
func (w *world) busy() {
	ref := ccci.PRRef{Repo: repo, Number: 9}
	w.addPRLocked(ref)
	w.write(ref, ada, "!testme")
	(*bus)(w).Publish(context.Background(), ccci.TopicForge, repo.String())
	idle(3 * time.Second)
}

// P4: a newer command supersedes the run of the same pull request that waits, and the old
// comment says so; one that is at work stays.
func TestP4_NewerCommandSupersedesWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 10
		_, stop := w.start(w.config())
		idle(time.Second)
		w.busy()
		old := w.write(pr1, ada, "!testme")
		idle(10 * time.Second)
		pushed := w.push(pr1)
		newer := w.write(pr1, ada, "!testme")
		idle(12 * time.Second)
		run, next := w.runFor(old), w.runFor(newer)
		if run.Status != ccci.StatusCancelled || run.Superseded.Run != next.ID || next.Status != ccci.StatusQueued || next.Commit != pushed {
			t.Fatalf("the older run is %+v, the newer %+v", run, next)
		}
		said := strings.Join(w.said("run/"+string(run.ID)), "")
		for _, want := range []string{"### 🚫 superseded: ", "A newer command on this pull request took its place in the queue: [run " + string(next.ID) + "](https://ci.example.org/runs/" + string(next.ID) + "), which tests the newer commit `" + pushed.Short() + "`", "The run never started"} {
			if !strings.Contains(said, want) {
				t.Errorf("the old comment lacks %q: %s", want, said)
			}
		}
		if s := w.status(run.Commit, "cc-ci/testme"); s.State != ccci.StateError || !strings.Contains(s.Description, "superseded by run "+string(next.ID)+", not tested") {
			t.Errorf("the status of the older commit is %+v", s)
		}
		idle(30 * time.Second) // the newer one is at work
		third := w.write(pr1, ada, "!testme stages=install")
		asked := w.write(pr1, ada, "!cancel")
		idle(20 * time.Second)
		if w.runFor(newer).Superseded.Run != "" {
			t.Errorf("a run at work was superseded: %+v", w.runFor(newer))
		}
		if said := strings.Join(w.said("reply/"+string(asked.ID)), ""); strings.Contains(said, string(run.ID)) || !strings.Contains(said, string(next.ID)) || !strings.Contains(said, string(w.runFor(third).ID)) {
			t.Errorf("!cancel says %q", said)
		}
		asked = w.write(pr1, ada, "!status")
		stop()
		_, stop = w.start(w.config())
		idle(2 * time.Minute)
		stop()
		if n := len(w.runs()); n != 4 || len(w.said("run/")) != 4 {
			t.Errorf("%d runs, %d comments", n, len(w.said("run/")))
		}
		if said := strings.Join(w.said("reply/"+string(asked.ID)), ""); strings.Contains(said, string(run.ID)) {
			t.Errorf("!status names what was superseded: %q", said)
		}
		for _, id := range w.order {
			if id == run.ID && w.builds[id].Started != (time.Time{}) {
				t.Error("the superseded run was started")
			}
		}
	})
}

// P4, N1: a push supersedes the run that waits. What was pushed is not tested for it: the
// comment has the line to write.
func TestP4_PushSupersedesWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pr2 := ccci.PRRef{Repo: repo, Number: 2}
		w.addPR(pr2)
		_, stop := w.start(w.config())
		defer stop()
		idle(time.Second)
		w.busy()
		moved := w.write(pr1, ada, "!testme")
		before := w.push(pr2)
		named := w.write(pr2, ada, "!testme "+string(before))
		idle(6 * time.Second)
		now := w.push(pr1)
		idle(20 * time.Second)
		run := w.runFor(moved)
		if run.Status != ccci.StatusCancelled || run.Superseded.Head != now {
			t.Fatalf("the run is %+v", run)
		}
		said := strings.Join(w.said("run/"+string(run.ID)), "")
		if !strings.Contains(said, "### 🚫 superseded: ") || !strings.Contains(said, "\n!testme "+string(now)+"\n") {
			t.Errorf("the comment says %q", said)
		}
		if len(w.runs()) != 3 || w.runFor(named).Status.Terminal() {
			t.Errorf("%d runs, that of the other pull request is %+v", len(w.runs()), w.runFor(named))
		}
		idle(40 * time.Second) // it is at work
		w.push(pr2)
		idle(2 * time.Minute)
		if run := w.runFor(named); run.Status != ccci.StatusPassed {
			t.Errorf("a push ended a run at work: %+v", run)
		}
	})
}

// A commit that is named in full although the head has moved on is what was meant: only a
// later push supersedes it.
func TestP4_NamedCommitIsNotSupersededByAnEarlierPush(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		idle(time.Second)
		w.busy()
		old := commitN(1000)
		c := w.write(pr1, ada, "!testme "+string(old)) // which is the head at this moment
		w.push(pr1)
		idle(20 * time.Second)
		if run := w.runFor(c); run.Commit != old || run.Status != ccci.StatusQueued {
			t.Fatalf("the run is %+v", run)
		}
		w.push(pr1)
		idle(20 * time.Second)
		if run := w.runFor(c); run.Superseded.Head == "" {
			t.Errorf("after a later push the run is %+v", run)
		}
	})
}

// A command that is read late, after a newer one on the same pull request, does not take
// that one's place.
func TestP4_LateCommandIsTheOlderOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		failing := true
		w.forgeErr = func(call string) error {
			if call == "Member" && failing {
				failing = false
				return context.DeadlineExceeded
			}
			return nil
		}
		_, stop := w.start(w.config())
		defer stop()
		idle(time.Second)
		failing = false
		w.busy()
		failing = true
		late := w.write(pr1, ada, "!testme stages=install")
		idle(time.Millisecond)
		newer := w.write(pr1, ada, "!testme")
		idle(30 * time.Second)
		if run := w.runFor(late); run.Superseded.Run != w.runFor(newer).ID || w.runFor(newer).Status != ccci.StatusQueued {
			t.Errorf("the late one is %+v, the newer %+v", run, w.runFor(newer))
		}
	})
}
