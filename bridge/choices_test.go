package bridge_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// U4, N5: a base that cannot be one is judged before a run: the answer lists the
// choices, nothing runs, and the commit status is not touched.
func TestN5_WrongBaseIsAnsweredWithTheChoices(t *testing.T) {
	many := ccci.Bases{}
	for i := range 12 {
		many.Usable = append(many.Usable, fmt.Sprintf("1.%d.0+2.0", 20-i))
	}
	for name, c := range map[string]struct {
		command string
		bases   *ccci.Bases // nil: those of the world
		want    []string
		line    string // to copy
	}{
		"no such release":    {"!testme from=9.9.9", nil, []string{"`miniflux` has no release `9.9.9`. Nothing was started. An upgrade can start from `1.1.0+2.1` or `1.0.0`. For `1.0.0`, comment:"}, "!testme from=1.0.0 "},
		"without its end":    {"!testme from=1.1.0", nil, []string{"An upgrade can start from `1.1.0+2.1` or `1.0.0`. For `1.1.0+2.1`, comment:"}, "!testme from=1.1.0+2.1 "},
		"a letter too much":  {"!testme from=1.1.0+2.11", nil, []string{"can start from `1.1.0+2.1` or "}, "!testme from=1.1.0+2.1 "},
		"not older":          {"!testme from=2.0.0+3.0", nil, []string{"No upgrade can start from `2.0.0+3.0`: its version 2.0.0+3.0 is not older than the head's 2.0.0+3.0. Nothing was started."}, "!testme from=1.1.0+2.1 "},
		"with other options": {"!testme stages=upgrade from=1.0.1", nil, []string{"For `1.0.0`, comment:"}, "!testme stages=install,upgrade from=1.0.0 "},
		"of many":            {"!testme from=1.15.0", &many, []string{"For `1.15.0+2.0`, comment:", " or 4 more."}, "!testme from=1.15.0+2.0 "},
		"no releases":        {"!testme from=1.0", &ccci.Bases{}, []string{"There is no release that an upgrade to this commit can start from.", "Without `from=`"}, "!testme "},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				if c.bases != nil {
					w.bases = *c.bases
				}
				_, stop := w.start(w.config())
				defer stop()
				w.write(pr1, ada, c.command)
				idle(time.Minute)
				said := strings.Join(w.said(""), "\n")
				for _, want := range append(c.want, "\n"+c.line+string(commitN(1000))+"\n") {
					if !strings.Contains(said, want) {
						t.Errorf("the answer lacks %q: %s", want, said)
					}
				}
				if len(w.runs()) != 0 || len(w.statuses) != 0 {
					t.Errorf("runs %+v, statuses %+v", w.runs(), w.statuses)
				}
			})
		})
	}
}

func TestU4_BaseThatExistsRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme from=1.0.0")
		idle(2 * time.Minute)
		if runs := w.runs(); len(runs) != 1 || runs[0].Options.From != "1.0.0" || runs[0].Status != ccci.StatusPassed {
			t.Errorf("runs %+v", runs)
		}
		if s := w.status(commitN(1000), "cc-ci/testme"); s.State != "" {
			t.Errorf("a run from another base speaks for the whole suite: %+v", s)
		}
	})
}

// Where the releases cannot be read, the run finds out; silence would be worse.
func TestU4_ReleasesThatCannotBeReadStopNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.basesErr = errors.New("connection refused")
		_, stop := w.start(w.config())
		defer stop()
		w.write(pr1, ada, "!testme from=9.9.9")
		idle(2 * time.Minute)
		if runs := w.runs(); len(runs) != 1 || runs[0].Options.From != "9.9.9" {
			t.Errorf("runs %+v", runs)
		}
	})
}
