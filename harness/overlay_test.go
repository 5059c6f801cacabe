package harness

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestU9_RepairIsForOneBaseAndNeverForTheHead(t *testing.T) {
	repaired := ccci.Recipe{
		Dir: "/tests/wiki", Overlays: []string{"compose.ccci.yml"},
		Upgrade: ccci.UpgradeSettings{Repair: []string{"previous/repair.yml"}, RepairFor: "1.0.0+2.0.0"},
	}
	plain := repaired
	plain.Upgrade = ccci.UpgradeSettings{}
	environment, repair := "/tests/wiki/compose.ccci.yml", "/tests/wiki/previous/repair.yml"
	for name, c := range map[string]struct {
		settings ccci.Recipe
		base     *ccci.Revision
		want     []string
		stale    bool
	}{
		"the head":             {repaired, nil, []string{environment}, false},
		"the broken release":   {repaired, &ccci.Revision{Version: "1.0.0+2.0.0"}, []string{environment, repair}, false},
		"a later release":      {repaired, &ccci.Revision{Version: "1.1.0+2.0.0"}, []string{environment}, true},
		"a branch as base":     {repaired, &ccci.Revision{Version: "main"}, []string{environment}, true},
		"nothing to repair":    {plain, &ccci.Revision{Version: "1.0.0+2.0.0"}, []string{environment}, false},
		"no enrolment at all":  {ccci.Recipe{}, &ccci.Revision{Version: "1.0.0+2.0.0"}, nil, false},
		"a base of no version": {plain, &ccci.Revision{}, []string{environment}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, stale := overlaysFor(c.settings, c.base)
			if !slices.Equal(got, c.want) {
				t.Errorf("overlays %q, want %q", got, c.want)
			}
			if (stale != "") != c.stale {
				t.Errorf("warning %q, want one: %v", stale, c.stale)
			}
			if c.stale && !strings.Contains(stale, c.base.Version) {
				t.Errorf("the warning %q does not name the base", stale)
			}
		})
	}
}

// The same through a whole run: what is deployed first is repaired, what it is
// upgraded to is not.
func TestU9_RepairIsGoneAfterTheUpgrade(t *testing.T) {
	repo, head := example(t)
	for name, repairFor := range map[string]string{"repaired": "0.1.0+1.0.0", "stale": "0.0.9+0.9.0"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c := w.config(t, repo, head)
			c.Settings.Dir = t.TempDir()
			overlay := "version: '3.8'\nservices:\n  app:\n    environment:\n      - REPAIRED=yes\n"
			if err := os.WriteFile(filepath.Join(c.Settings.Dir, "repair.yml"), []byte(overlay), 0o600); err != nil {
				t.Fatal(err)
			}
			c.Settings.Upgrade = ccci.UpgradeSettings{Repair: []string{"repair.yml"}, RepairFor: repairFor}
			seen := map[string]bool{}
			for _, kind := range []string{"base", "head"} {
				w.on["deploy "+kind] = func() error {
					_, seen[kind] = w.stack.Config.Services[0].Environment["REPAIRED"]
					return nil
				}
			}
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, c, t.Context())
				if r.Status != ccci.StatusPassed {
					t.Errorf("status %s, cause %+v", r.Status, r.Cause)
				}
				if want := map[string]bool{"base": name == "repaired", "head": false}; !maps.Equal(seen, want) {
					t.Errorf("repaired: %v, want %v", seen, want)
				}
				warned := slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.HasPrefix(w, "stale repair") })
				if warned != (name == "stale") {
					t.Errorf("warnings %q", r.Warnings)
				}
			})
		})
	}
}
