package bridge_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// flood has each stranger write n times every command on many pull requests.
func flood(w *world, strangers, prs, n int) {
	for i := range prs {
		ref := ccci.PRRef{Repo: repo, Number: 100 + i}
		w.addPRLocked(ref)
		for s := range strangers {
			who := ccci.User{ID: fmt.Sprint(6600 + s), Name: fmt.Sprint("mallory", s)}
			for range n {
				w.write(ref, who, "!help")
			}
			for _, command := range []string{"!testme", "!retest", "!cancel", "!status", "!testme stage=x"} {
				w.write(ref, who, command)
			}
		}
	}
}

func (w *world) called(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[name]
}

// A10: one stranger is answered ten times an hour, on however many pull requests they
// write, refusals counted; all strangers together sixty times. Who may start runs is
// answered meanwhile, and strangers again an hour later.
func TestA10_StrangersAreAnsweredABoundedNumberOfTimes(t *testing.T) {
	for _, test := range []struct{ strangers, prs, want int }{{1, 40, 10}, {40, 3, 60}} {
		t.Run(fmt.Sprint(test.strangers), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				_, stop := w.start(w.config())
				defer stop()
				idle(time.Second)
				flood(w, test.strangers, test.prs, 10)
				idle(5 * time.Minute)
				if got := w.called("PostComment"); got != test.want {
					t.Errorf("%d answers, want %d", got, test.want)
				}
				for range 5 {
					w.write(pr1, ada, "!help")
					w.write(pr1, ada, "!status")
				}
				w.write(pr1, ada, "!testme")
				idle(5 * time.Minute)
				if got := w.called("PostComment"); got != test.want+11 || !strings.Contains(strings.Join(w.said("run/"), ""), "passed") {
					t.Errorf("with a member's 11 commands %d comments, want %d; runs: %q", got, test.want+11, w.said("run/"))
				}
				idle(time.Hour)
				w.write(pr1, mallory, "!help")
				idle(time.Minute)
				if got := w.called("PostComment"); got != test.want+12 {
					t.Errorf("an hour later %d comments, want %d", got, test.want+12)
				}
			})
		})
	}
}

// A member who may not use one command is no stranger, and one whose membership cannot be
// asked for is answered like one.
func TestA10_WhoCountsAsAStranger(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cfg := w.config()
		cfg.Roles = bridge.Roles{bridge.VerbCancel: {Who: bridge.Listed, Users: []string{"77"}}}
		_, stop := w.start(cfg)
		defer stop()
		idle(time.Second)
		for i := range 20 { // refused on each pull request
			ref := ccci.PRRef{Repo: repo, Number: 100 + i}
			w.addPRLocked(ref)
			w.write(ref, ada, "!cancel")
		}
		idle(time.Minute)
		if got := w.called("PostComment"); got != 20 {
			t.Errorf("%d answers to a member, want 20", got)
		}
		w.breakForge("Member")
		w.write(pr1, ada, "!help")
		idle(time.Minute)
		if got := w.called("PostComment"); got != 21 {
			t.Errorf("%d answers where membership cannot be asked for, want 21", got)
		}
	})
}

// A10: a stranger's commands and near misses cost the forge one question in two minutes,
// however many there are, and a member's command behind them does not wait for them. Who is
// made a member meanwhile is let in two minutes after the last no.
func TestA10_AStrangerCostsFewQuestions(t *testing.T) {
	for _, comment := range []string{"!testme", "!testm"} {
		t.Run(comment, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mu.Lock()
				w.forgeErr = func(call string) error {
					if call == "Member" {
						time.Sleep(50 * time.Millisecond) // what a forge takes
					}
					return nil
				}
				w.mu.Unlock()
				_, stop := w.start(w.config())
				defer stop()
				idle(time.Second)
				for range 2000 {
					w.write(pr1, mallory, comment)
				}
				w.write(pr1, ada, "!testme")
				idle(20 * time.Second)
				if len(w.runs()) != 1 {
					t.Error("a member's command waits behind a stranger's")
				}
				if n := w.called("Member"); n > 4 {
					t.Errorf("%d questions about who is a member", n)
				}
				w.mu.Lock()
				w.members[mallory.ID] = true
				w.mu.Unlock()
				idle(2 * time.Minute)
				c := w.write(pr1, mallory, "!testme stages=install")
				idle(time.Minute)
				if run := w.runFor(c); run.ID == "" {
					t.Error("who was made a member two minutes ago is kept out")
				}
				w.mu.Lock()
				w.members[mallory.ID] = false
				w.mu.Unlock()
				before := len(w.runs())
				w.write(pr1, mallory, "!testme stages=upgrade")
				idle(time.Minute)
				if len(w.runs()) != before {
					t.Error("who is no member any more is let in")
				}
			})
		})
	}
}
