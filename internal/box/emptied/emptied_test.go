package emptied

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// chain makes folders in each other, all of one name, with a file in the deepest.
func chain(t *testing.T, dir string, levels int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for range levels {
		if err != nil {
			break
		}
		var next int
		if err = unix.Mkdirat(at, "d", 0o700); err == nil {
			next, err = unix.Openat(at, "d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		}
		unix.Close(at)
		at = next
	}
	if err == nil {
		var file int
		file, err = unix.Openat(at, "file", unix.O_WRONLY|unix.O_CREAT, 0o600)
		unix.Close(file)
	}
	unix.Close(at)
	if err != nil {
		t.Fatal(err)
	}
}

func left(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// It needs few descriptors and no paths.
func TestN3_FoldersBelowAllPathsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	chain(t, dir, 3000)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 100, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err := Folder(t.Context(), dir)
	if back := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); back != nil {
		t.Error(back)
	}
	if names := left(t, dir); err != nil || len(names) > 0 {
		t.Errorf("%v, %d left", err, len(names))
	}
}

func TestWhatLinksLeadToStays(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600))
	for i := range 3 {
		deep := filepath.Join(dir, fmt.Sprint(i), "a", "b")
		must(os.MkdirAll(deep, 0o700))
		must(os.Symlink(outside, filepath.Join(deep, "link")))
		must(os.Symlink(outside, filepath.Join(dir, fmt.Sprint("link", i))))
		must(unix.Mkfifo(filepath.Join(deep, "pipe"), 0o600))
	}
	if err := Folder(t.Context(), dir); err != nil || len(left(t, dir)) > 0 {
		t.Errorf("%v, left: %v", err, left(t, dir))
	}
	if names := left(t, outside); len(names) != 1 {
		t.Errorf("outside are %v", names)
	}
	must(os.Remove(dir))
	must(os.Symlink(outside, dir))
	if err := Folder(t.Context(), dir); err == nil || len(left(t, outside)) != 1 {
		t.Errorf("a link to a folder is followed: %v", err)
	}
}

func TestEmptyingEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	chain(t, dir, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Folder(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// What is emptied may have the names that folders get when they are moved.
func TestNamesThatAreTakenAreNotUsed(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".moved-1", "x", "y"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Folder(t.Context(), dir); err != nil || len(left(t, dir)) > 0 {
		t.Errorf("%v, left: %v", err, left(t, dir))
	}
}
