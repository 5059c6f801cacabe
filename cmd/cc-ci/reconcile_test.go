package main

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/reconcile"
)

func TestChosenUnits(t *testing.T) {
	units := []reconcile.Unit{{Name: "swarm"}, {Name: "proxy"}, {Name: "drone"}, {Name: "bridge"}}
	for names, want := range map[string]string{
		"all":                "swarm proxy drone bridge",
		"swarm":              "swarm",
		"drone":              "swarm drone",
		"bridge proxy":       "swarm proxy bridge", // as they stand on each other
		"swarm drone drone":  "swarm drone",
		"proxy all":          "swarm proxy drone bridge",
		"brigde":             `reconcile: there is no unit "brigde" (did you mean "bridge"?)`,
		"proxy nothing-such": `reconcile: there is no unit "nothing-such" (there are all, swarm, proxy, drone, bridge)`,
	} {
		picked, err := chosen(units, strings.Fields(names))
		var got []string
		for _, u := range picked {
			got = append(got, u.Name)
		}
		if err != nil {
			got = []string{err.Error() + " (" + ccci.HintOf(err) + ")"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", names, got, want)
		}
	}
}
