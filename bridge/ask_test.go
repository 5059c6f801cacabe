package bridge_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

func TestN5_CancelRunningAndQueued(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 5 // the forge repeats itself, also across a restart
		pr2 := ccci.PRRef{Repo: repo, Number: 2}
		w.addPR(pr2)
		_, stop := w.start(w.config())
		idle(time.Second)
		for _, wish := range []struct {
			pr   ccci.PRRef
			body string
		}{{pr1, "!testme"}, {pr1, "!testme stages=install"}, {pr2, "!testme"}} {
			w.write(wish.pr, ada, wish.body)
			(*bus)(w).Publish(context.Background(), ccci.TopicForge, repo.String())
			idle(time.Millisecond)
		}
		idle(16 * time.Second)
		w.write(pr1, ada, "!cancel")
		idle(15 * time.Second)
		w.write(pr1, ada, "!testme") // asked for after the cancellation
		idle(16 * time.Second)
		before := w.said("reply/")
		stop()
		// As if killed just before it noted that !cancel was answered: the next
		// process reads it once more.
		if err := w.store.SaveCursor(t.Context(), "local#settled", repo, ""); err != nil {
			t.Fatal(err)
		}
		_, stop = w.start(w.config())
		defer stop()
		idle(5 * time.Minute)

		runs := w.runs()
		slices.SortFunc(runs, func(a, b ccci.Run) int { return strings.Compare(string(a.Comment), string(b.Comment)) })
		want := []ccci.Status{ccci.StatusCancelled, ccci.StatusCancelled, ccci.StatusPassed, ccci.StatusPassed}
		for i, run := range runs {
			if run.Status != want[i] || (run.Status == ccci.StatusCancelled) != (run.CancelledBy == "ada") {
				t.Errorf("run %d is %s by %q, want %s", i, run.Status, run.CancelledBy, want[i])
			}
		}
		after := w.said("reply/")
		if len(after) != 1 || !slices.Equal(before, after) || strings.Count(after[0], "\n- ") != 2 || !strings.Contains(after[0], "cancelling") {
			t.Errorf("said %q, then %q", before, after)
		}
		first := strings.Join(w.said(string(runs[0].ID)), "")
		if !strings.Contains(first, "Cancelled by `ada`") || !strings.Contains(first, "**Teardown:** complete") {
			t.Errorf("the cancelled run's comment lacks its proof: %q", first)
		}
		second := strings.Join(w.said(string(runs[1].ID)), "")
		if !strings.Contains(second, "The run never started.") {
			t.Errorf("the run that was cancelled in the queue says %q", second)
		}
	})
}

func TestCancel_nothingThere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!cancel")
		idle(time.Minute)
		if said := w.said(""); len(said) != 1 || !strings.Contains(said[0], "nothing to cancel") {
			t.Errorf("said %q", said)
		}
	})
}

func TestCancel_fromAnotherProcess(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b, stop := w.start(w.config())
		defer stop()
		waiting, stopWaiting := w.start(w.config()) // has no lease
		defer stopWaiting()
		w.write(pr1, ada, "!testme")
		idle(20 * time.Second)
		id := w.runs()[0].ID
		if err := waiting.Cancel(context.Background(), id, "operator"); err != nil {
			t.Error(err)
		}
		idle(10 * time.Second)
		if run := w.runs()[0]; run.Status != ccci.StatusCancelled || run.CancelledBy != "operator" {
			t.Errorf("run %+v", run)
		}
		if err := b.Cancel(context.Background(), id, "late"); err != nil || w.runs()[0].CancelledBy != "operator" {
			t.Errorf("cancelling what has ended: %v", err)
		}
		if err := b.Cancel(context.Background(), "000000-000000-000000", "x"); !errors.Is(err, ccci.ErrNotFound) {
			t.Errorf("cancelling what never was: %v", err)
		}
	})
}

func TestN5_StatusTellsPositionAheadAndStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		prs := map[int]ccci.PRRef{}
		for n := 2; n <= 6; n++ {
			prs[n] = ccci.PRRef{Repo: repo, Number: n}
			w.addPR(prs[n])
		}
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!status")
		idle(16 * time.Second)
		if said := w.said("reply/1"); len(said) != 1 || !strings.Contains(said[0], "Nothing runs or waits") {
			t.Errorf("said %q", said)
		}
		w.write(pr1, ada, "!testme") // one run as history: 50 s
		idle(2 * time.Minute)
		for n := 2; n <= 6; n++ {
			w.write(prs[n], ada, "!testme")
			idle(time.Millisecond)
		}
		idle(14 * time.Second)
		asked := w.write(prs[4], mallory, "!status")
		idle(16 * time.Second)
		said := strings.Join(w.said("reply/"+string(asked.ID)), "")
		for _, want := range []string{"position 2", "behind `recipes/miniflux#2 (running)`, `recipes/miniflux#3 (queued)`", "expected start about"} {
			if !strings.Contains(said, want) {
				t.Errorf("the answer lacks %q: %s", want, said)
			}
		}
		// The comment itself says so too, and moves up with the queue.
		comment := func(n int) string {
			for _, run := range w.runs() {
				if run.PR == prs[n] {
					return strings.Join(w.said(string(run.ID)), "")
				}
			}
			return ""
		}
		if c := comment(4); !strings.Contains(c, "Position 2 in the queue") || !strings.Contains(c, "Expected start: about") {
			t.Errorf("the comment says %q", c)
		}
		idle(45 * time.Second) // the next one has started
		if c := comment(4); !strings.Contains(c, "Position 1 in the queue") {
			t.Errorf("the comment did not move up: %q", c)
		}
		asked = w.write(prs[3], ada, "!status")
		idle(16 * time.Second)
		if said := strings.Join(w.said("reply/"+string(asked.ID)), ""); !strings.Contains(said, ": running for") || !strings.Contains(said, "now in ") {
			t.Errorf("the answer is %s", said)
		}
		idle(10 * time.Minute)
		asked = w.write(prs[3], ada, "!status")
		idle(16 * time.Second)
		if said := strings.Join(w.said("reply/"+string(asked.ID)), ""); !strings.Contains(said, "passed, level 5") {
			t.Errorf("the answer is %s", said)
		}
	})
}

// A37: the answer says why nothing starts, in the words of the queue page.
func TestA37_StatusSaysWhyNothingStarts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		why := "the disk of /srv/cc_ci has 1GiB free"
		cfg := w.config()
		cfg.Held = func() string { return why }
		_, stop := w.start(cfg)
		defer stop()
		asked := w.write(pr1, ada, "!status")
		idle(16 * time.Second)
		if said := strings.Join(w.said("reply/"+string(asked.ID)), ""); !strings.Contains(said, "\n\n"+report.Text(report.Held(why))) {
			t.Errorf("the answer is %q", said)
		}
		why = ""
		asked = w.write(pr1, ada, "!status")
		idle(16 * time.Second)
		if said := strings.Join(w.said("reply/"+string(asked.ID)), ""); said == "" || strings.Contains(said, "No run starts") {
			t.Errorf("when nothing is short, the answer is %q", said)
		}
	})
}

func TestN5_RetestFailedStagesOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 10
		w.script = func(job ccci.Job) (ccci.Build, any) {
			if job.Options.Retest != "" {
				return ccci.Build{Ending: ccci.EndExited}, ccci.StatusPassed
			}
			return ccci.Build{Ending: ccci.EndExited, ExitCode: 1}, ccci.StatusFailed
		}
		_, stop := w.start(w.config())
		w.write(pr1, ada, "!retest")
		idle(16 * time.Second)
		if said := w.said("reply/1"); len(said) != 1 || !strings.Contains(said[0], "No run on this commit has ended") {
			t.Errorf("said %q", said)
		}
		w.write(pr1, ada, "!testme from=1.0.0")
		idle(17 * time.Second)
		early := w.write(pr1, ada, "!retest")
		idle(2 * time.Minute)
		if said := strings.Join(w.said("reply/"+string(early.ID)), ""); !strings.Contains(said, "has not ended") {
			t.Errorf("said %q", said)
		}
		w.write(pr1, ada, "!retest")
		idle(2 * time.Minute)
		runs := w.runs()
		if len(runs) != 2 || runs[1].Options.Retest != runs[0].ID || runs[1].Options.From != "1.0.0" || runs[1].Commit != runs[0].Commit ||
			!slices.Equal(runs[1].Options.Stages, []ccci.StageName{ccci.StageUpgrade, ccci.StageChecks}) {
			t.Fatalf("runs %+v", runs)
		}
		// Neither red nor green of runs that were restricted is the whole suite's.
		if s := w.status(runs[0].Commit, "cc-ci/testme"); s.State != "" {
			t.Errorf("the whole suite's status is %+v", s)
		}
		if s := w.status(runs[0].Commit, "cc-ci/testme from=1.0.0"); s.State != ccci.StateFailure {
			t.Errorf("the first run's status is %+v", s)
		}
		if s := w.status(runs[0].Commit, "cc-ci/testme stages=install,upgrade,checks from=1.0.0"); s.State != ccci.StateSuccess {
			t.Errorf("the part's status is %+v", s)
		}
		late := w.write(pr1, ada, "!retest")
		idle(time.Minute)
		if said := strings.Join(w.said("reply/"+string(late.ID)), ""); !strings.Contains(said, "passed, so no stage is left") {
			t.Errorf("said %q", said)
		}
		// Read once more after a restart, the wish is still the run it became.
		replies := w.said("reply/")
		stop()
		_, stop = w.start(w.config())
		defer stop()
		idle(2 * time.Minute)
		if !slices.Equal(replies, w.said("reply/")) || len(w.runs()) != 2 {
			t.Errorf("after a restart: %q, %d runs", w.said("reply/"), len(w.runs()))
		}
	})
}

func TestU13_TheLastWishSpeaksForTheCommit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.script = func(job ccci.Job) (ccci.Build, any) {
			return ccci.Build{Ending: ccci.EndExited}, ccci.StatusPassed
		}
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(20 * time.Second)
		w.write(pr1, ada, "!cancel")
		w.write(pr1, ada, "!testme") // while the first one is torn down
		idle(45 * time.Second)
		if runs := w.runs(); len(runs) != 2 || runs[0].Status != ccci.StatusCancelled || runs[1].Status != ccci.StatusRunning {
			t.Fatalf("runs %+v", runs)
		}
		if s := w.status(commitN(1000), "cc-ci/testme"); s.State != ccci.StatePending {
			t.Errorf("the older end hides that a newer run is under way: %+v", s)
		}
		w.mu.Lock()
		newer := ""
		for _, s := range w.statuses {
			if s.State == ccci.StatePending {
				newer = s.URL
			} else if newer != w.statuses[0].URL {
				t.Errorf("the older run spoke for the commit: %+v", s)
			}
		}
		w.mu.Unlock()
		idle(time.Minute)
		if s := w.status(commitN(1000), "cc-ci/testme"); s.State != ccci.StateSuccess || !strings.HasSuffix(s.URL, string(w.runs()[1].ID)) {
			t.Errorf("at the end the status is %+v", s)
		}
	})
}

// N5: a near miss of a member's is answered once, a stranger's is talk; neither starts a run.
func TestN5_NearMissIsAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.overlap = 10
		strange := ccci.PRRef{Repo: other, Number: 5}
		w.addPR(strange)
		_, stop := w.start(w.config())
		w.write(pr1, ada, "!Testme")
		w.write(pr1, ada, "!testme\n\nthanks!")
		w.write(pr1, mallory, "please !testme")
		w.write(pr1, mallory, "!satus") // which anyone may ask for
		w.write(strange, mallory, "!testme!")
		idle(time.Minute)
		stop()
		_, stop = w.start(w.config())
		defer stop()
		idle(time.Minute)
		if len(w.runs()) != 0 || len(w.statuses) != 0 {
			t.Errorf("runs %+v, statuses %+v", w.runs(), w.statuses)
		}
		said := w.said("")
		for i, want := range []string{"`ada`: `!testme` starts a run only in small letters", "`ada`: A command has to be the whole comment", "`mallory`: `!satus` is not a command"} {
			if len(said) != 3 || !strings.HasPrefix(said[i], want) {
				t.Fatalf("said %q, want %q", said, want)
			}
		}
		w.write(strange, ada, "!testme!")
		idle(time.Minute)
		if said := w.said("not-enrolled/"); len(said) != 1 {
			t.Errorf("where the repository is not enrolled: %q", said)
		}
	})
}
