package box

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A26: what a restore makes anew is removed, and nothing else.
func TestA26_Clear(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "folder"), 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o644),
		os.Symlink("file", filepath.Join(dir, "folder", "link")), os.Symlink("gone", filepath.Join(dir, "kept")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644),
		os.Symlink(outside, filepath.Join(dir, "out")), os.Symlink("x", filepath.Join(outside, "theirs")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := Clear(t.Context(), []string{dir, "folder", "file", "folder/link", "pipe", "absent"}); err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{"folder": true, "file": true, "folder/link": false, "pipe": false, "kept": true} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Clear(t.Context(), []string{dir, "out/theirs"}); err == nil {
		t.Error("a link led out of the folder")
	}
	if _, err := os.Lstat(filepath.Join(outside, "theirs")); err != nil {
		t.Error(err)
	}
}
