package box

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// U20: what a box made in a folder of the host can be removed by whoever asked for it.
func TestU20_OwnGivesEverythingAway(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "data", "00")
	if err := os.MkdirAll(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	for _, file := range []string{filepath.Join(inner, "pack"), outside} {
		if err := os.WriteFile(file, nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 4711, 4712 // only root can give away
	}
	args := OwnCommand(uid, gid, dir)
	if err := Own(t.Context(), args[3:]); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{dir: uid, inner: uid, filepath.Join(inner, "pack"): uid, filepath.Join(dir, "link"): uid, outside: os.Getuid()} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); int(stat.Uid) != want || path != outside && int(stat.Gid) != gid {
			t.Errorf("%s belongs to %d:%d", path, stat.Uid, stat.Gid)
		}
	}
	for _, odd := range [][]string{nil, {"1", "2"}, {"x", "2", dir}, {"1", "x", dir}, {strconv.Itoa(uid), strconv.Itoa(gid), filepath.Join(dir, "gone")}} {
		if Own(t.Context(), odd) == nil {
			t.Errorf("%q is no error", odd)
		}
	}
}
