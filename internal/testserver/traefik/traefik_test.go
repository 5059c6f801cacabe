package traefik

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// What is built is Traefik. .ci/test begins with this, since Traefik takes long to
// build on a fresh machine and the longest tests wait for it.
func TestBinary(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), peers.Binary(t, Peer), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Codename:") {
		t.Errorf("%v\n%s", err, out)
	}
}
