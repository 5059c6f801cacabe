package peers

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every program can be built and is what it is said to be. .ci/test begins with
// this: on a fresh machine the longest tests wait for these programs.
func TestBinary(t *testing.T) {
	all := []Peer{Gitea, Traefik, Drone, Runner, Sops} // the longest first
	for _, p := range all {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			info, err := buildinfo.ReadFile(Binary(t, p))
			if err != nil {
				t.Fatal(err)
			}
			if info.Path != p.Package {
				t.Errorf("it is %s, want %s", info.Path, p.Package)
			}
		})
	}
	pinned, err := filepath.Glob("../../../tools/peers/*/go.mod")
	if err != nil || len(pinned) != len(all) {
		t.Errorf("%d programs and %d folders: %v, %v", len(all), len(pinned), pinned, err)
	}
}

// What decides how a program is built decides its name in the cache, too.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	peer := Peer{Name: "one", Package: "example.org/one"}
	fast, cgo, tags, other := peer, peer, peer, peer
	fast.Fast, cgo.CGO, tags.Tags, other.Package = true, true, []string{"tag"}, "example.org/other"
	var keys []string
	for _, p := range []Peer{peer, fast, cgo, tags, other} {
		key, err := p.digest(dir)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), []byte("newer"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := peer.digest(dir)
	keys = append(keys, key)
	slices.Sort(keys)
	if n := len(slices.Compact(slices.Clone(keys))); err != nil || n != 6 {
		t.Errorf("%d names of 6: %s, %v", n, strings.Join(keys, " "), err)
	}
}
