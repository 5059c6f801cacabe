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

// Import makes the image in a daemon.
func Import(t testing.TB, docker *dockerd.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "attacker")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/recipe-maintainers/cc-ci/internal/testserver/attacker/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the attacker: %v\n%s", err, out)
	}
	err := docker.Import(t.Context(), Image, map[string]string{"/usr/local/bin/attacker": path}, `ENTRYPOINT ["/usr/local/bin/attacker"]`, `EXPOSE 8080`)
	if err != nil {
		t.Fatal(err)
	}
}
