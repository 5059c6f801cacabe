// Package traefik makes an image of the Traefik that tests talk to.
package traefik

import (
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// Image is its reference once Import has made it.
const Image = "traefik:v3.6.12"

// Import makes the image in a daemon.
func Import(t testing.TB, docker *dockerd.Server) {
	t.Helper()
	err := docker.Import(t.Context(), Image, map[string]string{"/usr/local/bin/traefik": peers.Binary(t, peers.Traefik)},
		`ENTRYPOINT ["/usr/local/bin/traefik"]`, `ENV PATH=/usr/local/bin`, `VOLUME ["/tmp"]`) // as some published images
	if err != nil {
		t.Fatal(err)
	}
}
