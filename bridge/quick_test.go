package bridge_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// canonical puts a canonical of miniflux among the blobs.
func (w *world) canonical(kept ccci.Kept) {
	text, err := json.Marshal(ccci.Canonical{Recipe: "miniflux", Commit: commitN(999), Release: "1.0.0+1", Kept: kept})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blobs[ccci.CanonicalKey("miniflux")] = text
}

// U20: a quick run needs a canonical with data; without one the whole suite is
// offered, at the commit that was agreed to, and nothing is started.
func TestU20_QuickWithoutACanonicalOffersTheWholeSuite(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*world)
		want    string
	}{
		"none":    {func(*world) {}, "There is no canonical of `miniflux` yet"},
		"no data": {func(w *world) { w.canonical(ccci.Kept{Without: "it cannot be stopped"}) }, "has no data: it cannot be stopped"},
		"torn":    {func(w *world) { w.blobs[ccci.CanonicalKey("miniflux")] = []byte("{") }, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				c.prepare(w)
				_, stop := w.start(w.config())
				defer stop()
				w.write(pr1, ada, "!testme --quick")
				idle(20 * time.Second)
				said := strings.Join(w.said("reply/1"), "")
				if !strings.Contains(said, c.want) || !strings.Contains(said, "!testme "+string(commitN(1000))+"\n") || len(w.runs()) != 0 {
					t.Errorf("said %q, runs %+v", said, w.runs())
				}
			})
		})
	}
}

// U20: its green has a status of its own and never stands for the whole suite's; a
// retest of it is quick too.
func TestU20_QuickRunSpeaksForItselfAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.canonical(ccci.Kept{Snapshot: "beef"})
		w.script = func(job ccci.Job) (ccci.Build, any) {
			if job.Options.Retest == "" {
				return ccci.Build{Ending: ccci.EndExited, ExitCode: 1}, ccci.StatusFailed
			}
			return ccci.Build{Ending: ccci.EndExited}, ccci.StatusPassed
		}
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme --quick")
		idle(2 * time.Minute)
		w.write(pr1, ada, "!retest")
		idle(2 * time.Minute)
		runs := w.runs()
		if len(runs) != 2 || !runs[0].Options.Quick || !runs[1].Options.Quick || runs[1].Options.Retest != runs[0].ID {
			t.Fatalf("runs %+v", runs)
		}
		for _, run := range runs {
			if job := w.jobOf(run.ID); !job.Options.Quick || job.Trigger != "" || run.Options.Whole() {
				t.Errorf("job %+v", job)
			}
		}
		if s := w.status(runs[0].Commit, "cc-ci/testme"); s.State != "" {
			t.Errorf("the whole suite's status is %+v", s)
		}
		if s := w.status(runs[0].Commit, "cc-ci/testme --quick"); s.State != ccci.StateSuccess || !strings.Contains(s.Description, "quick: passed") || strings.Contains(s.Description, "level") {
			t.Errorf("its own status is %+v", s)
		}
		if said := strings.Join(w.said("run/"+string(runs[1].ID)), ""); !strings.Contains(said, "does not change the badge") || strings.Contains(said, "of 5") {
			t.Errorf("said %q", said)
		}
	})
}

// N5: who waits behind the sweep is told so by its name.
func TestU20_TheSweepHasANameInTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		if _, _, err := w.store.ClaimRun(t.Context(), ccci.Run{ID: "000101-000000-000000", Key: "sweep/000101-000000-000000", Recipe: "wiki", Trigger: ccci.TriggerSweep, Status: ccci.StatusRunning, Commit: commitN(1)}); err != nil {
			t.Fatal(err)
		}
		_, stop := w.start(w.config())
		defer stop()
		pr2 := ccci.PRRef{Repo: repo, Number: 2}
		w.addPR(pr2)
		w.write(pr2, ada, "!testme") // keeps the engine busy
		idle(20 * time.Second)
		w.write(pr1, ada, "!testme")
		asked := w.write(pr1, ada, "!status")
		idle(20 * time.Second)
		if said := strings.Join(w.said("reply/"+string(asked.ID)), ""); !strings.Contains(said, "behind ") || !strings.Contains(said, "the sweep of wiki (running)") || strings.Contains(said, "/#0") {
			t.Errorf("said %q", said)
		}
	})
}
