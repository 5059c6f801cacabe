package drone

import (
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// Import makes an image of the server in a daemon, with the libraries that it is linked to and
// with more files: paths in the image and where they are on this machine.
func Import(t testing.TB, docker *dockerd.Server, image string, more map[string]string) {
	t.Helper()
	program := peers.Binary(t, peers.Drone)
	files := map[string]string{"/bin/drone-server": program}
	maps.Copy(files, more)
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			if files[word], err = filepath.EvalSymlinks(word); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := docker.Import(t.Context(), image, files, `ENTRYPOINT ["/bin/drone-server"]`); err != nil {
		t.Fatal(err)
	}
}
