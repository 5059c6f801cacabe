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
	"sync"
	"testing"

	"github.com/gofrs/flock"
)

// Peer is a program to build.
type Peer struct {
	Name    string   // its folder in tools/peers
	Package string   // its main package
	Tags    []string // build tags
	CGO     bool
}

// Gitea is the forge; its licence is MIT.
var Gitea = Peer{Name: "gitea", Package: "code.gitea.io/gitea", Tags: []string{"sqlite", "sqlite_unlock_notify"}, CGO: true}

var building sync.Mutex // one build at a time in this process; the file lock is for others

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
	building.Lock()
	defer building.Unlock()
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
	args := []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", strings.Join(p.Tags, ","), "-o", half, p.Package}
	if _, err := p.golang(ctx, src, args...); err != nil {
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

func (p Peer) golang(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cgo := "0"
	if p.CGO {
		cgo = "1"
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOFLAGS=", "GOWORK=off")
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
	fmt.Fprintf(h, "%+v %s %s/%s\n", p, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
