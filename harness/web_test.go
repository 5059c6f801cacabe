package harness

import (
	"regexp"
	"slices"
	"testing"
	"testing/synctest"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var webLabel = regexp.MustCompile(`(?m)^ +- "traefik\..*\n`)

// noWeb takes what a recipe routes away.
func noWeb(compose string) string { return webLabel.ReplaceAllString(compose, "") }

// U1: what an app is asked follows from what its recipe routes. One that has lost its routers is
// still asked for its page.
func TestU1_HealthIsAskedOfWhatARecipeRoutes(t *testing.T) {
	probe := []ccci.Probe{{Name: "SMTP", TCP: &ccci.TCPProbe{Service: "app", Port: 25}}}
	misplaced := func(compose string) string {
		return regexp.MustCompile(`(?m)^    deploy:\n`).ReplaceAllString(noWeb(compose), "    labels: [\"traefik.enable=true\"]\n    deploy:\n")
	}
	for name, c := range map[string]struct {
		base, head func(string) string
		ready      []ccci.Probe
		web        bool
		warns      bool
	}{
		"a web app":                     {same, same, probe, true, false},
		"no web part":                   {noWeb, noWeb, probe, false, false},
		"no web part, and no probe":     {noWeb, noWeb, nil, false, true},
		"the head loses its routers":    {same, noWeb, probe, true, false},
		"the head gets a web part":      {noWeb, same, probe, true, false},
		"labels where swarm has no use": {misplaced, misplaced, probe, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := reworked(t, c.base, c.head)
			w := newWorld()
			config := w.config(t, repo, head)
			config.Settings.Ready = c.ready
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if r.Status != ccci.StatusPassed {
					t.Fatalf("%s, cause %+v", r.Status, r.Cause)
				}
				rows := map[string]bool{}
				for _, s := range r.Stages {
					for _, k := range s.Checks {
						rows[k.Name] = true
					}
				}
				for _, row := range []string{"install/serves", "upgrade/serves", "restore/serves", "checks/serves", "checks/page"} {
					if rows[row] != c.web {
						t.Errorf("%s: %t, want %t", row, rows[row], c.web)
					}
				}
				for _, row := range []string{"install/ready-smtp", "upgrade/ready-smtp", "restore/ready-smtp", "checks/ready-smtp"} {
					if rows[row] != (c.ready != nil) {
						t.Errorf("%s: %t", row, rows[row])
					}
				}
				if slices.Contains(r.Warnings, withoutWeb) != c.warns {
					t.Errorf("warnings: %q", r.Warnings)
				}
			})
		})
	}
}
