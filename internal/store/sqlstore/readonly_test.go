package sqlstore

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const childVariable = "CC_CI_TEST_READER_OF"

// TestReaderChild is the process that reads where it may write nothing.
func TestReaderChild(t *testing.T) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		t.Skip("this is the child of TestA27_ReaderNeedsNoRightToWrite")
	}
	for _, m := range []struct {
		source string
		flags  uintptr
	}{{"none", syscall.MS_REC | syscall.MS_PRIVATE}, {dir, syscall.MS_BIND}, {dir, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY}} {
		target := dir
		if m.source == "none" {
			target = "/"
		}
		if err := syscall.Mount(m.source, target, "", m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err == nil {
		t.Fatal("the folder can be written to")
	}
	store, err := OpenReader(t.Context(), filepath.Join(dir, "cc-ci.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	runs, err := store.FindRuns(t.Context(), ccci.RunFilter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("read %d runs\n", len(runs))
}

// The dashboard is given the store's folder read-only: it reads while the writer is there,
// and when it is not.
func TestA27_ReaderNeedsNoRightToWrite(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("only root can mount a folder read-only")
		}
		t.Skip("only root can mount a folder read-only")
	}
	dir := t.TempDir()
	read := func() string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReaderChild$")
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return string(out)
	}
	for n := range 2 {
		writer, err := Open(t.Context(), filepath.Join(dir, "cc-ci.db"))
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(n)
		if _, _, err := writer.ClaimRun(t.Context(), ccci.Run{ID: ccci.RunID(id), Key: id, Recipe: "wiki", Status: ccci.StatusQueued}); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("read %d runs", n+1)
		if got := read(); !strings.Contains(got, want) {
			t.Errorf("with its writer: %s", got)
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		if got := read(); !strings.Contains(got, want) {
			t.Errorf("without its writer: %s", got)
		}
	}
}
