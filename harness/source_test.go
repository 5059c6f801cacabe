package harness

import (
	"strings"
	"testing"
	"testing/synctest"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// U4: a base that a comment names and that cannot be one says nothing about the recipe:
// the run errs before anything is made, and does not fail.
func TestU4_NamedBaseThatCannotBeOne(t *testing.T) {
	repo, head := example(t)
	for name, c := range map[string]struct{ from, why string }{
		"no such release": {"9.9.9", `no release "9.9.9"`},
		"newer":           {"999.0.0+1.0", "is not older than"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			config := w.config(t, repo, head)
			config.Job.Options.From = c.from
			gitOut(t, repo, "tag", "--force", "999.0.0+1.0", string(head)+"~1")
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if r.Status != ccci.StatusErrored || r.Cause == nil || !strings.Contains(r.Cause.Message, c.why) || r.Deployments != 0 {
					t.Errorf("status %s, cause %+v, %d deployments", r.Status, r.Cause, r.Deployments)
				}
			})
		})
	}
}
