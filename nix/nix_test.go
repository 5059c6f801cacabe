// Package nix tests the Nix code of this repository as far as a machine without NixOS
// can: its syntax, the hash of the program's dependencies, and what the hosts come to.
//
// What the hosts come to is kept in testdata and rendered again by
//
//	CC_CI_NIXPKGS=… CC_CI_SOPS_NIX=… go test ./nix -update
//
// with checkouts of nix-community/nixpkgs.lib, or of the whole NixOS/nixpkgs, and of
// Mic92/sops-nix. Without them the tests look at what is kept, and fail when a .nix
// file has changed since. What is kept never comes from a whole nixpkgs: it would
// change with every package. But with one TestWholeNixpkgs evaluates the hosts as NixOS does.
package nix

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is expected anew")

// root of the repository.
const root = ".."

// program returns the path of a program, of nix or systemd. A machine of CI has it;
// elsewhere its absence skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("there is no %s on this machine: .ci/run installs nix-bin and systemd", name)
	default:
		t.Skipf("there is no %s on this machine: apt-get install nix-bin systemd", name)
	}
	return ""
}

// sources returns every .nix file of the repository, sorted, relative to it. Mistakes
// that tests make on purpose are not among them.
func sources(t *testing.T) []string {
	t.Helper()
	all := []string{"flake.nix"}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		if err == nil && filepath.Ext(path) == ".nix" {
			all = append(all, filepath.Join("nix", path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSyntax(t *testing.T) {
	nix := program(t, "nix-instantiate")
	files := sources(t)
	mistakes, err := filepath.Glob("testdata/refused/*.nix")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 || len(mistakes) < 20 {
		t.Fatalf("%d files and %d mistakes were found: the test looks in the wrong place", len(files), len(mistakes))
	}
	args := []string{"--parse"}
	for _, file := range files {
		args = append(args, filepath.Join(root, file))
	}
	if out, err := exec.Command(nix, append(args, mistakes...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A1, A2: the flake stays an index, its inputs are those of the lock, and the live host
// has one configuration under two names.
func TestA1_A2_Flake(t *testing.T) {
	flake := read(t, "../flake.nix")
	if n := strings.Count(flake, "\n"); n >= 80 {
		t.Errorf("flake.nix has %d lines; it is an index, and what it lists is in nix/", n)
	}
	var lock struct {
		Nodes map[string]struct {
			Original map[string]string
			Locked   struct{ Rev, NarHash string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../flake.lock")), &lock); err != nil {
		t.Fatal(err)
	}
	for name, node := range lock.Nodes {
		if name == "root" {
			continue
		}
		url := "github:" + node.Original["owner"] + "/" + node.Original["repo"]
		if ref := node.Original["ref"]; ref != "" {
			url += "/" + ref
		}
		// Any other reference makes nix ask the network, and forget the lock.
		if want := name + `.url = "` + url + `";`; !strings.Contains(flake, want) {
			t.Errorf("flake.lock locks %s, and flake.nix has no %s", name, want)
		}
		if len(node.Locked.Rev) != 40 || !strings.HasPrefix(node.Locked.NarHash, "sha256-") {
			t.Errorf("%s is not locked: %+v", name, node.Locked)
		}
	}
	if !strings.Contains(flake, "cc-ci-hetzner = cc-ci;") {
		t.Error("cc-ci-hetzner is not another name of cc-ci: two closures would drift apart")
	}
}
