package scratch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestMain is also the process that holds a folder until it is killed.
func TestMain(m *testing.M) {
	if os.Getenv("CC_CI_TEST_HOLD") == "" {
		os.Exit(m.Run())
	}
	f, err := Make("other")
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(f.Path, "checkout"), nil, 0o600); err != nil {
		panic(err)
	}
	// A child must not keep the folder alive after its parent.
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		panic(err)
	}
	fmt.Println(child.Process.Pid, f.Path)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends, or kills this process
	_ = f.Remove()
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func sweep(t *testing.T) []string {
	t.Helper()
	removed, err := Sweep()
	if err != nil {
		t.Error(err)
	}
	return removed
}

// A living process keeps its folder, and kill -9 gives it up, whatever the
// process's children do.
func TestA20_OnlyWhatTheDeadLeftIsSwept(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	mine, err := Make("260314-092653-a1b2c3")
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), os.Args[0])
	other.Env = append(os.Environ(), "CC_CI_TEST_HOLD=1")
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	var held string
	if _, err := fmt.Sscan(line, &pid, &held); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	})

	if removed := sweep(t); len(removed) != 0 || !there(mine.Path) || !there(held) {
		t.Errorf("the living: removed %q", removed)
	}
	other.Process.Kill()
	other.Wait()
	if removed := sweep(t); !slices.Equal(removed, []string{held}) || there(held) || !there(mine.Path) {
		t.Errorf("the dead: removed %q, want %q", removed, held)
	}
	for range 2 {
		if err := mine.Remove(); err != nil || there(mine.Path) {
			t.Errorf("removing: %v", err)
		}
	}
	if removed := sweep(t); len(removed) != 0 {
		t.Errorf("nothing is left, but %q was removed", removed)
	}
}

func TestSweepTouchesNothingElse(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, name := range []string{"cc-ci-demo-1", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, prefix+"file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, prefix+"link")); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, prefix+"dead")
	if err := os.MkdirAll(filepath.Join(dead, "deep", "er"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dead, "link")); err != nil {
		t.Fatal(err)
	}
	if removed := sweep(t); !slices.Equal(removed, []string{dead}) || !there(outside) {
		t.Errorf("removed %q", removed)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 4 {
		t.Errorf("left: %v, %v", left, err)
	}
	if os.Geteuid() == 0 {
		if err := os.Mkdir(dead, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dead, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if removed := sweep(t); len(removed) != 0 {
			t.Errorf("another user's: removed %q", removed)
		}
	}
}

// A folder that Make returned is never swept, also when it was made that moment.
func TestA20_MakingAndSweepingDoNotMeet(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	stop := make(chan struct{})
	var sweepers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := Sweep(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for i := range 300 {
		f, err := Make(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.Path, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	sweepers.Wait()
}

func TestMakeWithoutRoom(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	if _, err := Make("x"); err == nil || !strings.Contains(err.Error(), "making a folder for temporary files") {
		t.Error(err)
	}
	if _, err := Sweep(); err == nil {
		t.Error("a temporary directory that is not there was swept")
	}
}
