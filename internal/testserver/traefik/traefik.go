// Package traefik builds the Traefik that tests talk to and makes an image of it.
package traefik

import (
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// Peer is Traefik for [peers.Build]; its licence is MIT.
var Peer = peers.Peer{Name: "traefik", Package: "github.com/traefik/traefik/v3/cmd/traefik"}

// Image is its reference once Import has made it.
const Image = "traefik:v3.6.12"

// Import makes the image in a daemon.
func Import(t testing.TB, docker *dockerd.Server) {
	t.Helper()
	err := docker.Import(t.Context(), Image, map[string]string{"/usr/local/bin/traefik": peers.Binary(t, Peer)},
		`ENTRYPOINT ["/usr/local/bin/traefik"]`, `ENV PATH=/usr/local/bin`)
	if err != nil {
		t.Fatal(err)
	}
}
