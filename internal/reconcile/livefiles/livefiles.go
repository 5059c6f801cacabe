// Package livefiles hands files to a program that watches a folder.
//
// A swarm gives a task its secrets when it starts and never again, so whoever has a
// certificate as a secret must be started anew for the next one, and while it is
// nobody answers. The proxy's files therefore belong to a task of their own,
// which copies them into a folder in memory that the proxy watches, and stays. A new
// certificate is a new version of that task, and the proxy keeps its connections.
package livefiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// File is one file: where it is and what it is to be called.
type File struct{ Source, Name string }

// Parse reads NAME=SOURCE.
func Parse(text string) (File, error) {
	name, source, ok := strings.Cut(text, "=")
	if !ok || name == "" || source == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return File{}, ccci.Errorf(ccci.CodeInvalid, "%q says not which file is to have which name", text).WithHint("write NAME=SOURCE")
	}
	return File{Source: source, Name: name}, nil
}

// Quiet is how long nothing happens in the folder before the last file appears. Whoever watches
// reads the folder whenever something happens in it, and a listing that is made
// while a file takes another's place may have neither. So its listings are to be over.
const Quiet = time.Second

// Publish puts these files into dir. Each appears whole or not at all, in the order given; the last
// is the one that names the others, and appears after quiet, so that whoever watches never reads of a file
// that is not there. Files are readable for their owner alone. When ctx ends before that, what was is left.
func Publish(ctx context.Context, dir string, files []File, quiet time.Duration) error {
	if len(files) == 0 {
		return ccci.Errorf(ccci.CodeInvalid, "publishing files: none is given")
	}
	release, err := lock(ctx, dir)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "publishing files: %w", err)
	}
	defer release()
	for i, f := range files {
		half, err := halfOf(dir, f)
		if err != nil {
			return ccci.Errorf(ccci.CodeInfra, "publishing %s: %w", f.Name, err)
		}
		defer os.Remove(half)
		if i == len(files)-1 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(quiet):
			}
		}
		if err := os.Rename(half, filepath.Join(dir, f.Name)); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "publishing %s: %w", f.Name, err)
		}
	}
	return nil
}

// Settled is how long after Publish whoever watches may still be reading the older files.
const Settled = 10 * time.Second

// Sweep removes what else is in dir: the files of those before. When somebody has published others
// since, it leaves all to them.
func Sweep(ctx context.Context, dir string, files []File) error {
	release, err := lock(ctx, dir)
	if err != nil {
		return fmt.Errorf("sweeping files: %w", err)
	}
	defer release()
	last := files[len(files)-1]
	ours, err := os.ReadFile(last.Source)
	if err != nil {
		return fmt.Errorf("sweeping files: %w", err)
	}
	there, err := os.ReadFile(filepath.Join(dir, last.Name))
	if err != nil {
		return fmt.Errorf("sweeping files: %w", err)
	}
	if !bytes.Equal(ours, there) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweeping files: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockName && !slices.ContainsFunc(files, func(f File) bool { return f.Name == e.Name() }) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("sweeping files: %w", err)
			}
		}
	}
	return nil
}

// lockName is a file in the folder. Who holds its lock publishes or sweeps: one that swept while
// another published took away what that one's last file was about to name.
const lockName = ".lock"

func lock(ctx context.Context, dir string) (release func(), err error) {
	l := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}

// halfOf copies a file into dir under a name that nobody looks for.
func halfOf(dir string, f File) (string, error) {
	text, err := os.ReadFile(f.Source)
	if err != nil {
		return "", err
	}
	half, err := os.CreateTemp(dir, ".half-")
	if err != nil {
		return "", err
	}
	_, err = half.Write(text)
	if err = errors.Join(err, half.Close()); err != nil {
		_ = os.Remove(half.Name())
		return "", err
	}
	return half.Name(), nil
}
