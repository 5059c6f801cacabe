package harness

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// U16: what only a picture of ours needs never decides. A step of the recipe that needs a browser does.
func TestU16_OnlyAPictureOfOursNeedsIt(t *testing.T) {
	repo, head := example(t)
	none := func(context.Context, *checks.Hosts) (checks.Browser, func(), error) {
		return nil, nil, errors.New("there is no Chromium")
	}
	for name, c := range map[string]struct {
		change func(*Config)
		page   int
		want   ccci.Status
		cause  string
		warns  string
	}{
		"no browser": {func(c *Config) { c.Browser = none }, 0, ccci.StatusPassed, "", "there is no Chromium"},
		"no browser for a check": {func(c *Config) {
			c.Browser = none
			c.Settings.Checks = []ccci.Step{{Name: "log in", Browser: []ccci.BrowserStep{{Open: "/"}}}}
		}, 0, ccci.StatusErrored, "checks/log-in", ""},
		"steps of the screenshot":           {func(c *Config) { c.Settings.Screenshot.Steps = []ccci.BrowserStep{{See: "#top"}} }, 0, ccci.StatusPassed, "", "steps of the screenshot failed"},
		"the same, and the app is an error": {func(c *Config) { c.Settings.Screenshot.Steps = []ccci.BrowserStep{{See: "#top"}} }, 502, ccci.StatusFailed, "checks/page", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.status = c.page
			w.fail("see", errors.New("it is not there"))
			config := w.config(t, repo, head)
			c.change(&config)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				cause := ""
				if r.Cause != nil {
					cause = r.Cause.Check
				}
				if r.Status != c.want || cause != c.cause || !strings.Contains(strings.Join(r.Warnings, "\n"), c.warns) {
					t.Errorf("%s, cause %+v, warnings %q", r.Status, r.Cause, r.Warnings)
				}
				if r.Status == ccci.StatusPassed && (r.Stage(ccci.StageChecks).Status != ccci.Unverified || r.Level != 3) {
					t.Errorf("unverified counts as pass: level %d, checks %s", r.Level, r.Stage(ccci.StageChecks).Status)
				}
			})
		})
	}
}
