package scratch

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const stranger = 12345

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give folders to others")
	}
}

func mkdir(t *testing.T, path string, mode os.FileMode, owner int) string {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	if owner >= 0 {
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// A run's files are made where no other user can put something in their place, and are
// for this user alone.
func TestM2_FilesAreMadeWhereNobodyElseReaches(t *testing.T) {
	asRoot(t)
	for name, c := range map[string]struct {
		mode    os.FileMode
		owner   int
		below   bool // TMPDIR is a folder of ours within
		refused string
	}{
		"ours":             {0o700, -1, false, ""},
		"like /tmp":        {0o777 | os.ModeSticky, -1, false, ""},
		"not sticky":       {0o777, -1, false, "others may replace"},
		"above not sticky": {0o777, -1, true, "others may replace"},
		"another user's":   {0o777 | os.ModeSticky, stranger, false, "belongs to another user"},
		"within another's": {0o755, stranger, true, "belongs to another user"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := mkdir(t, filepath.Join(t.TempDir(), "tmp"), c.mode, c.owner)
			if c.below {
				dir = mkdir(t, filepath.Join(dir, "mine"), 0o700, -1)
			}
			t.Setenv("TMPDIR", dir)
			f, err := Make("x")
			if c.refused != "" {
				if ccci.CodeOf(err) != ccci.CodeInfra || err == nil || !strings.Contains(err.Error(), c.refused) || ccci.HintOf(err) == "" {
					t.Errorf("got %v, want %q", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Remove()
			if info, err := os.Stat(f.Path); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
		})
	}
}

// A folder that a stranger has made beforehand gives the stranger nothing, and a link
// changes nothing where it leads to.
func TestM2_SharedFolderIsTakenFromStrangers(t *testing.T) {
	asRoot(t)
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	root := mkdir(t, filepath.Join(t.TempDir(), "lock"), 0o777|os.ModeSticky, -1)
	mkdir(t, filepath.Join(root, "cc-ci"), 0o755, stranger)
	want := filepath.Join(root, "cc-ci", "id", "slots")
	for range 2 {
		path, err := SharedDir(root, "cc-ci", "id", "slots")
		if err != nil || path != want {
			t.Fatalf("%s, %v", path, err)
		}
	}
	for _, path := range []string{filepath.Join(root, "cc-ci"), filepath.Join(root, "cc-ci", "id"), want} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
			t.Errorf("%s: user %d, %v", path, owner, info.Mode())
		}
	}

	secret := mkdir(t, filepath.Join(t.TempDir(), "secret"), 0o700, -1)
	if err := os.Symlink(secret, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	_, err := SharedDir(root, "link", "id")
	if ccci.CodeOf(err) != ccci.CodeInfra || err == nil || ccci.HintOf(err) == "" {
		t.Errorf("a link was followed: %v", err)
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("what the link leads to is %v now: %v", info.Mode(), err)
	}
	if made, err := os.ReadDir(secret); err != nil || len(made) != 0 {
		t.Errorf("%v was made there: %v", made, err)
	}
}
