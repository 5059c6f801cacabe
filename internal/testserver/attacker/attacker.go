// Package attacker makes the image of the app that attack recipes run.
package attacker

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// Image is its reference once Import has made it. Nothing answers at the host in it, so that the image
// is never pulled from elsewhere.
const Image = "cc-ci.local/attacker:1.0.0"

// Volumes is the same with a volume at /volume, which a container gets without that a recipe names it.
const Volumes = "cc-ci.local/attacker:1.0.0-volumes"

// Import makes the image in a daemon.
func Import(t testing.TB, docker *dockerd.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "attacker")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/recipe-maintainers/cc-ci/internal/testserver/attacker/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the attacker: %v\n%s", err, out)
	}
	programs := map[string]string{"/usr/local/bin/attacker": path, "/bin/sh": path}
	changes := []string{`ENTRYPOINT ["/usr/local/bin/attacker"]`, `EXPOSE 8080`}
	for reference, changes := range map[string][]string{Image: changes, Volumes: append(changes, `VOLUME /volume`)} {
		if err := docker.Import(t.Context(), reference, programs, changes...); err != nil {
			t.Fatal(err)
		}
	}
}
