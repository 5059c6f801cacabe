package bridge_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// runFor is the run that a comment became; the zero Run when it became none.
func (w *world) runFor(c ccci.Comment) ccci.Run {
	for _, run := range w.runs() {
		if run.Comment == c.ID {
			return run
		}
	}
	return ccci.Run{}
}

// N2: two commands for the same commit queue once, and each comment gets its answer,
// whether the first one waits or runs, and however often the second one is read.
func TestN2_TheSameTwiceQueuesOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 20
		ahead, pr3 := ccci.PRRef{Repo: repo, Number: 2}, ccci.PRRef{Repo: repo, Number: 3}
		w.addPR(ahead)
		w.addPR(pr3)
		_, stop := w.start(w.config())
		idle(time.Second)
		w.write(ahead, ada, "!testme")
		idle(16 * time.Second)
		first := w.write(pr1, ada, "!testme")
		second := w.write(pr1, ada, "!testme")
		idle(16 * time.Second)
		run := w.runFor(first)
		if n := len(w.runs()); n != 2 || run.ID == "" {
			t.Fatalf("%d runs, %+v", n, run)
		}
		said := strings.Join(w.said("reply/"+string(second.ID)), "")
		for _, want := range []string{"`ada`: The same test of this commit is under way, so it was not queued a second time. It is [run " + string(run.ID) + "]", "queued, position 1, behind `recipes/miniflux#2 (running)`", "Its own comment will have the verdict."} {
			if !strings.Contains(said, want) {
				t.Errorf("the answer lacks %q: %s", want, said)
			}
		}
		idle(40 * time.Second) // it runs
		third := w.write(pr1, ada, "!testme "+string(commitN(1000)))
		idle(10 * time.Second)
		if said := strings.Join(w.said("reply/"+string(third.ID)), ""); !strings.Contains(said, "running for") {
			t.Errorf("while it runs the answer is %q", said)
		}
		other := w.write(pr1, ada, "!testme stages=install")
		idle(3 * time.Minute)
		if n := len(w.runs()); n != 3 || w.runFor(other).Status != ccci.StatusPassed {
			t.Errorf("with other options: %d runs, %+v", n, w.runFor(other))
		}
		// A process that was killed before it noted that the comments are answered reads them once more.
		before := fmt.Sprint(len(w.runs()), len(w.said("")))
		stop()
		if err := w.store.SaveCursor(t.Context(), "local#settled", repo, ""); err != nil {
			t.Fatal(err)
		}
		_, stop = w.start(w.config())
		idle(3 * time.Minute)
		if after := fmt.Sprint(len(w.runs()), len(w.said(""))); after != before {
			t.Errorf("read again: %s runs and comments, before %s", after, before)
		}
		if said := strings.Join(w.said("reply/"+string(second.ID)), ""); !strings.Contains(said, "was under way when you asked") || !strings.Contains(said, "has ended: passed") {
			t.Errorf("read again after the end: %q", said)
		}
		// Afterwards it is tested again.
		again := w.write(pr1, ada, "!testme")
		idle(2 * time.Minute)
		stop()
		if w.runFor(again).Status != ccci.StatusPassed {
			t.Errorf("after its end: %+v", w.runFor(again))
		}
	})
}

// A forge that knows whole seconds dates a comment before the end that its author has read.
func TestN2_WrittenInTheSecondOfTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		first := w.write(pr1, ada, "!testme")
		idle(2 * time.Minute)
		end := w.runFor(first).Finished
		again := w.write(pr1, ada, "!testme")
		w.mu.Lock()
		w.comments[len(w.comments)-1].Created = end.Add(-900 * time.Millisecond)
		w.mu.Unlock()
		idle(2 * time.Minute)
		if w.runFor(again).Status != ccci.StatusPassed {
			t.Errorf("the second run is %+v, said %q", w.runFor(again), w.said("reply/"))
		}
	})
}

// An answer in place of a run is given however many were given before.
func TestN2_AnswersInPlaceOfARunAreNotCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		for range 15 {
			w.write(pr1, ada, "!testme")
		}
		idle(time.Minute)
		if n := len(w.said("")); n != 15 || len(w.runs()) != 1 {
			t.Errorf("%d comments, %d runs", n, len(w.runs()))
		}
	})
}
