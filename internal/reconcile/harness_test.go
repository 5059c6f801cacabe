package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/internal/demoimages"
)

// harness tests a recipe through the proxy that is kept: its labels are for Traefik to
// understand, and no proxy of cc-ci's own is started.
func (h *testHost) harness(t *testing.T) {
	files, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if err := demoimages.Ensure(t.Context(), h.Docker, demoimages.Options{Only: []string{"tinyapp:1.0.0", "tinyapp:1.1.0"}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	recipe, err := examples.Materialise(dir, "canary-good")
	if err != nil {
		t.Fatal(err)
	}
	branch, err := examples.UpgradeBranch("canary-good")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Abs("../../tests")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "cc-ci.yml")
	text := fmt.Sprintf("domain: %s\ndata: data\ntests: %s\ningress: {kind: traefik, ca_file: %s}\n", domain, tests, filepath.Join(h.certs, chainFile))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := h.services(t)
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Command(t.Context(), files["cc-ci"], "--config", config, "run", recipe, "--head", branch).CombinedOutput()
	t.Logf("%s", out)
	if err != nil || strings.Contains(string(out), "ingress") {
		t.Errorf("the run ends with %v", err)
	}
	if after, err := h.services(t); err != nil || after != before {
		t.Errorf("services were %s and are %s, %v", before, after, err)
	}
	if did := h.converge(t, h.options()); len(did) > 0 {
		t.Errorf("after a run it does\n%s", strings.Join(did, "\n"))
	}
}

// services are the names of all services and containers outside of a swarm.
func (h *testHost) services(t *testing.T) (string, error) {
	o, err := NewDaemon(h.Docker).Observe(t.Context())
	var names []string
	for _, s := range o.Services {
		names = append(names, s.Spec.Name)
	}
	return strings.Join(names, " "), err
}
