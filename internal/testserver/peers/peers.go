// Package peers builds the servers that tests talk to from their published Go
// modules, once per machine. What is built is pinned by a go.mod and go.sum of its
// own in tools/peers/<name>, so that none of it enters cc-ci's own module graph;
// nothing of it is shipped.
package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gofrs/flock"
)

// Peer is a program to build.
type Peer struct {
	Name    string   // its folder in tools/peers
	Package string   // its main package
	Tags    []string // build tags
	CGO     bool     // for SQLite
	Fast    bool     // whether tests ask so much of it that optimizing it pays
}

// The programs; tools/peers/README.md has their versions and licences.
var (
	Gitea   = Peer{Name: "gitea", Package: "code.gitea.io/gitea", Tags: []string{"sqlite", "sqlite_unlock_notify"}, CGO: true, Fast: true}
	Traefik = Peer{Name: "traefik", Package: "github.com/traefik/traefik/v3/cmd/traefik"}
	Drone   = Peer{Name: "drone", Package: "github.com/drone/drone/cmd/drone-server", Tags: []string{"nolimit"}, CGO: true}
	Runner  = Peer{Name: "runner", Package: "github.com/drone-runners/drone-runner-exec"} // of Drone
	Sops    = Peer{Name: "sops", Package: "github.com/getsops/sops/v3/cmd/sops"}
)

// Binary returns the path of the program, which is built where it is not there yet.
// It skips the test under -short, and fails it where the program cannot be built.
func Binary(t testing.TB, p Peer) string {
	t.Helper()
	if testing.Short() {
		t.Skipf("%s is a real server", p.Name)
	}
	path, err := Build(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Build builds the program unless the cache has it and returns its path. The cache
// is in the user's cache folder under a name made of all that decides the outcome;
// a program appears there whole or not at all.
func Build(ctx context.Context, p Peer) (string, error) {
	src, err := p.source()
	if err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	key, err := p.digest(src)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	dir := filepath.Join(cache, "cc-ci", "peers", p.Name+"-"+key)
	target := filepath.Join(dir, p.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if err := lock.Lock(); err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	half := target + ".half"
	if _, err := p.golang(ctx, src, append(p.build(), "-o", half, p.Package)...); err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	return target, os.Rename(half, target)
}

// Module returns the folder of a module's source among those that p is built from.
func Module(ctx context.Context, p Peer, module string) (string, error) {
	src, err := p.source()
	if err != nil {
		return "", err
	}
	return p.golang(ctx, src, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module)
}

// build is the go command without its output and package. Compiling is most of what
// a first run of all tests does, and inlining half of that: what need not be fast
// goes without. The standard library is compiled for cc-ci in its usual way already.
func (p Peer) build() []string {
	compile := "all=-dwarf=false"
	if !p.Fast {
		compile += " -l"
	}
	return []string{
		"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags=" + strings.Join(p.Tags, ","),
		"-ldflags=-s -w", "-gcflags=" + compile, "-gcflags=std=",
	}
}

// environ is what the go command needs besides the environment. A collector that runs
// less often saves the compiler a fifth of its time, and -O1 the C compiler half.
func (p Peer) environ() []string {
	cgo := "0"
	if p.CGO {
		cgo = "1"
	}
	return []string{"CGO_ENABLED=" + cgo, "CGO_CFLAGS=-O1", "GOFLAGS=", "GOWORK=off", "GOGC=400"}
}

func (p Peer) golang(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), p.environ()...)
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, trouble.Bytes())
	}
	return strings.TrimSpace(out.String()), nil
}

// source is the folder in tools/peers of the checkout that the test runs in.
func (p Peer) source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		src := filepath.Join(dir, "tools", "peers", p.Name)
		if _, err := os.Stat(filepath.Join(src, "go.mod")); err == nil {
			return src, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("this is not a checkout of cc-ci: no folder above has tools/peers/" + p.Name)
		}
		dir = parent
	}
}

// digest covers what decides the outcome of a build.
func (p Peer) digest(src string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %s %s %s/%s\n", p.environ(), p.build(), p.Package, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
