package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// A33: what stands on what, for each way to configure a host.
func TestA33_UnitsInOrder(t *testing.T) {
	const apart = "processes: apart\nbus: {kind: redis, redis: {url_file: r}}\nbridge: {listen: ':8481'}\n"
	const drone = "engine: {kind: drone, drone: {url: 'https://drone.ci.example.org', token_file: t, repo: coop/cc-ci}}\n"
	for text, want := range map[string]string{
		"":            "swarm firewall proxy backupbot",
		drone:         "swarm firewall proxy drone backupbot",
		apart:         "swarm firewall proxy bridge dashboard backupbot",
		apart + drone: "swarm firewall proxy drone bridge dashboard backupbot",
	} {
		cfg, err := config.Parse(filepath.Join(t.TempDir(), "cc-ci.yml"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		a := &app{configPath: "cc-ci.yml"}
		services, err := a.serviceUnits(t.Context(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, u := range append(reconcileUnits(cfg, nil), services...) {
			names = append(names, u.Name)
		}
		if !slices.Equal(names, strings.Fields(want)) {
			t.Errorf("%q has the units %v, want %s", text, names, want)
		}
		if text != apart {
			continue
		}
		// A bridge in a container cannot run tests by itself.
		if _, err := services[0].Desired(t.Context()); ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(err.Error(), "engine.kind is local") {
			t.Errorf("a bridge with the built-in engine: %v", err)
		}
	}
}
