package bridge_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// inBubble runs a test on a virtual clock, with an engine at work.
func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() { defer close(served); w.serve(ctx) }()
		test(t, w)
		cancel()
		<-served
	})
}

// idle lets virtual time pass.
func idle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A8, A11: the head of the pull request is what runs, and the run is followed to its end.
func TestA10_FromCommentToVerdict(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		idle(time.Second)
		c := w.write(pr1, ada, "!testme")
		idle(15 * time.Second)

		runs := w.runs()
		if len(runs) != 1 {
			t.Fatalf("%d runs", len(runs))
		}
		run := runs[0]
		if run.Commit != commitN(1000) || run.Recipe != "miniflux" || run.RequestedBy != ada || run.Comment != c.ID || run.Key != "local/"+string(c.ID)+"/0" || run.Status != ccci.StatusRunning {
			t.Errorf("the run is %+v", run)
		}
		job := w.jobOf(run.ID)
		if job.Commit != commitN(1000) || job.CloneURL != "file:///git/recipes/miniflux" || job.BaseRef != "main" || job.Deadline != time.Hour || job.PR != pr1 {
			t.Errorf("the job is %+v", job)
		}
		idle(12 * time.Second)
		body := w.said("run/")
		if len(body) != 1 || !strings.Contains(body[0], "🔄 running") || !strings.Contains(body[0], "✅ **install** passed") || !strings.Contains(body[0], "🔄 **upgrade** running") {
			t.Errorf("while it runs the comment is %q", body)
		}
		if s := w.status(run.Commit, "cc-ci/testme"); s.State != ccci.StatePending || s.URL != "https://ci.example.org/runs/"+string(run.ID) {
			t.Errorf("while it runs the status is %+v", s)
		}
		idle(time.Minute)
		body = w.said("")
		if len(body) != 1 || !strings.Contains(body[0], "✅ passed") || !strings.Contains(body[0], "Level 5 of 5") || !strings.Contains(body[0], "**Teardown:** complete") {
			t.Errorf("at the end the comments are %q", body)
		}
		if s := w.status(run.Commit, "cc-ci/testme"); s.State != ccci.StateSuccess || s.Description != "passed, level 5" {
			t.Errorf("at the end the status is %+v", s)
		}
		if run := w.runs()[0]; run.Status != ccci.StatusPassed || run.Level != 5 || run.Version != "2.1.0+2.2.3" || run.Finished.Sub(run.Started) != 50*time.Second || len(run.Stages) != 5 {
			t.Errorf("the run ends as %+v", run)
		}
		// Edits of one comment keep their distance, the last one excepted.
		w.mu.Lock()
		defer w.mu.Unlock()
		for id, at := range w.edits {
			for i := 1; i < len(at)-1; i++ {
				if gap := at[i].Sub(at[i-1]); gap < 5*time.Second {
					t.Errorf("comment %s was edited %s after the edit before", id, gap)
				}
			}
		}
	})
}

func TestP6_EditsKeepTheirDistance(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.harness = 1300 * time.Millisecond
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		at := w.edits["2"]
		if len(at) < 3 || len(at) > 4 {
			t.Errorf("%d versions were sent", len(at))
		}
		for i := 1; i < len(at)-1; i++ {
			if gap := at[i].Sub(at[i-1]); gap < 5*time.Second {
				t.Errorf("version %d came %s after the one before", i+1, gap)
			}
		}
	})
}

func TestRun_lastEditDoesNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.harness = 10 * time.Millisecond
		_, stop := w.start(w.config())
		defer stop()
		idle(time.Second)
		w.write(pr1, ada, "!testme")
		idle(14*time.Second + 500*time.Millisecond) // until the next look, and the build's end
		if b := w.said("run/"); len(b) != 1 || !strings.Contains(b[0], "✅ passed") {
			t.Errorf("the comment is %q", b)
		}
	})
}

func TestA4_PollsAtMostThirtySecondsApart(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.PollInterval = 31 * time.Second
	if _, err := bridge.New(cfg); err == nil || ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("31 s are accepted: %v", err)
	}
	inBubble(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.PollInterval = 30 * time.Second
		_, stop := w.start(cfg)
		defer stop()
		idle(5 * time.Minute)
		if n := w.looks(); n != 2*11 {
			t.Errorf("%d looks at two repositories in 5 min", n)
		}
		// A hint is followed at once (A5's way in).
		w.write(pr1, ada, "!testme")
		(*bus)(w).Publish(context.Background(), ccci.TopicForge, repo.String())
		idle(100 * time.Millisecond)
		if runs := w.runs(); len(runs) != 1 {
			t.Error("a hint on the bus was not followed")
		} else if runs[0].PullURL != w.prs[pr1].URL || runs[0].PullURL == "" { // pages link it
			t.Errorf("the run's pull request is at %q", runs[0].PullURL)
		}
	})
}

func TestA7_OnlyWhoMay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Roles = bridge.Roles{bridge.VerbTest: {Who: bridge.Members, Users: []string{"77"}}, bridge.VerbCancel: {Who: bridge.Listed, Users: []string{"77"}}}
		_, stop := w.start(cfg)
		defer stop()
		w.write(pr1, mallory, "!testme")
		w.write(pr1, mallory, "!testme")
		w.write(pr1, ccci.User{ID: "666", Name: "ada"}, "!testme") // a name that is somebody else's now
		w.write(pr1, ccci.User{Name: "ada"}, "!testme")
		idle(time.Minute)
		if n := len(w.runs()); n != 0 {
			t.Errorf("%d runs by people who may not", n)
		}
		if said := w.said(""); len(said) != 2 || !strings.Contains(said[0], "only members of `recipes` may") {
			t.Errorf("each of them is told once: %q", said)
		}
		w.write(pr1, ada, "!cancel")
		idle(time.Minute)
		if said := w.said("refused/recipes/miniflux#1/7/"); len(said) != 1 || !strings.Contains(said[0], "only listed users may") {
			t.Errorf("a member is told about !cancel: %q", said)
		}
		w.write(pr1, ccci.User{ID: "77", Name: "friend"}, "!testme")
		idle(time.Minute)
		if n := len(w.runs()); n != 1 {
			t.Errorf("%d runs by a listed user", n)
		}
	})
}

func TestA7_DoubtIsNoYesAndNoLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.forgeErr = func(call string) error {
			if call == "Member" {
				return errors.New("502 bad gateway")
			}
			return nil
		}
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme")
		idle(5 * time.Minute)
		if n := len(w.runs()); n != 0 {
			t.Fatalf("%d runs while membership is unknown", n)
		}
		w.mu.Lock()
		w.forgeErr = nil
		w.mu.Unlock()
		idle(time.Minute)
		if n := len(w.runs()); n != 1 {
			t.Errorf("%d runs once it is known", n)
		}
	})
}

func TestDecide_ignoresOwnEditedAndClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		closed := ccci.PRRef{Repo: repo, Number: 2}
		w.addPR(closed)
		w.prs[closed].Open = false
		w.members[bot.ID] = true
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, bot, "!testme")
		w.write(pr1, ada, "!testme")
		w.mu.Lock()
		w.comments[1].Edited = true
		w.mu.Unlock()
		w.write(closed, ada, "!testme")
		w.write(ccci.PRRef{Repo: repo, Number: 99}, ada, "!testme") // gone
		w.write(pr1, ada, "I think `!testme` would do")
		idle(time.Minute)
		if n := len(w.runs()); n != 0 {
			t.Errorf("%d runs", n)
		}
		if said := w.said(""); len(said) != 1 || !strings.Contains(said[0], "closed") {
			t.Errorf("said %q", said)
		}
	})
}

func TestU15_NotEnrolledGetsOneAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pr := ccci.PRRef{Repo: other, Number: 5}
		hinted := ccci.PRRef{Repo: ccci.RepoRef{Owner: "recipes", Name: "never-named"}, Number: 6}
		w.addPR(pr)
		w.addPR(hinted)
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr, ada, "!testme")
		w.write(pr, mallory, "!testme")
		w.write(pr, mallory, "!cancel")
		w.write(hinted, ada, "!testme")
		idle(time.Minute)
		(*bus)(w).Publish(context.Background(), ccci.TopicForge, hinted.Repo.String())
		idle(time.Minute)
		said := w.said("not-enrolled/")
		if len(w.said("")) != 2 || len(said) != 2 || !strings.Contains(said[0], "not enrolled") || len(w.runs()) != 0 {
			t.Errorf("said %q, %d runs", w.said(""), len(w.runs()))
		}
	})
}

func TestN5_HelpAndUnknownOption(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme stagse=install")
		w.write(pr1, mallory, "!help")
		w.write(pr1, mallory, "!testme stagse=install") // refused, not taught
		idle(time.Minute)
		if said := w.said("reply/1"); len(said) != 1 || !strings.HasPrefix(said[0], "`ada`: ") || !strings.Contains(said[0], "Did you mean `stages`") {
			t.Errorf("said %q", said)
		}
		if said := w.said("reply/2"); len(said) != 1 || !strings.Contains(said[0], "`!retest`") {
			t.Errorf("said %q", said)
		}
		if said := w.said("refused/"); len(said) != 1 || len(w.said("")) != 3 || len(w.runs()) != 0 {
			t.Errorf("said %q, %d runs", said, len(w.runs()))
		}
	})
}

// Ten answers an hour are the most that one person gets on a pull request. The last one
// says so, and until when: silence is explained before it begins.
func TestN5_TheLastAnswerSaysUntilWhen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		began := time.Now()
		w.write(pr1, ada, "!help")
		idle(20 * time.Minute)
		for range 50 {
			w.write(pr1, ada, "!status")
		}
		w.write(pr1, mallory, "!help") // is another person
		idle(time.Minute)
		const last = "There were 10 answers to you on this pull request within an hour, so this is the last one until "
		until := began.Add(time.Hour).UTC().Format("15:04 MST")
		var closing []string
		for _, body := range w.said("reply/") {
			if _, rest, ok := strings.Cut(body, last); ok {
				closing = append(closing, rest)
			}
		}
		if n := len(w.said("reply/")); n != 11 || len(closing) != 1 || !strings.HasPrefix(closing[0], until) || !strings.Contains(closing[0], "`!testme`") {
			t.Errorf("%d answers, of which say that they are the last: %q", n, closing)
		}
		w.write(pr1, ada, "!testme")
		idle(5 * time.Minute)
		if said := w.said("run/"); len(said) != 1 || !strings.Contains(said[0], "passed") {
			t.Errorf("a run is not among the answers that are counted: %q", said)
		}
		idle(40 * time.Minute)
		w.write(pr1, ada, "!help")
		idle(time.Minute)
		if n := len(w.said("reply/")); n != 12 {
			t.Errorf("%d answers after the hour", n)
		}
	})
}

func TestFirstLook_oldCommandsOfANewRepositoryStayOld(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.write(pr1, ada, "!testme")
		idle(3 * time.Hour)
		recent := w.write(pr1, ada, "!testme")
		idle(30 * time.Minute)
		_, stop := w.start(w.config())
		idle(time.Minute)
		if runs := w.runs(); len(runs) != 1 || runs[0].Comment != recent.ID {
			t.Fatalf("runs %+v", runs)
		}
		stop()
		// But nothing is too old for a bridge that was down (U14).
		late := w.write(pr1, ada, "!testme")
		idle(72 * time.Hour)
		_, stop = w.start(w.config())
		defer stop()
		idle(time.Minute)
		if runs := w.runs(); len(runs) != 2 || runs[1].Comment != late.ID {
			t.Errorf("runs %+v", runs)
		}
	})
}

func TestNew_refuses(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*bridge.Config){
		"no forge":         func(c *bridge.Config) { c.Forge = nil },
		"no blobs":         func(c *bridge.Config) { c.Blobs = nil },
		"no bases":         func(c *bridge.Config) { c.Bases = nil },
		"repository twice": func(c *bridge.Config) { c.Repos = append(c.Repos, c.Repos[0]) },
		"no organisation":  func(c *bridge.Config) { c.Repos[0].Org = "" },
		"unknown command":  func(c *bridge.Config) { c.Roles = bridge.Roles{"!deploy": {Who: bridge.Anyone}} },
		"unknown role":     func(c *bridge.Config) { c.Roles = bridge.Roles{bridge.VerbTest: {Who: "friends"}} },
		"negative gap":     func(c *bridge.Config) { c.EditGap = -1 },
	} {
		cfg := w.config()
		spoil(&cfg)
		if _, err := bridge.New(cfg); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := w.config()
	cfg.Repos[0].Org = ""
	cfg.Roles = bridge.Roles{bridge.VerbTest: {Who: bridge.Listed, Users: []string{"7"}}, bridge.VerbRetest: {Who: bridge.Anyone}, bridge.VerbCancel: {Who: bridge.Anyone}}
	if _, err := bridge.New(cfg); err != nil {
		t.Errorf("no organisation is needed where no role asks for members: %v", err)
	}
}

func TestLease_onlyOneBridgeWorks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stopFirst := w.start(w.config())
		idle(time.Second)
		_, stopSecond := w.start(w.config())
		defer stopSecond()
		looks := w.looks()
		idle(time.Minute)
		if n := w.looks() - looks; n != 2*4 {
			t.Errorf("%d looks in a minute", n)
		}
		stopFirst()
		c := w.write(pr1, ada, "!testme")
		idle(time.Minute)
		if runs := w.runs(); len(runs) != 1 || !slices.ContainsFunc(runs, func(r ccci.Run) bool { return r.Comment == c.ID }) {
			t.Errorf("the second took over with runs %+v", runs)
		}
	})
}
