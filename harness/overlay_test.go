package harness

import (
	"slices"
	"strings"
	"testing"

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
