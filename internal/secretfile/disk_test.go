package secretfile

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestWriteIsWholeAndKeepsTheMode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "s.yaml")
	if err := Write(file, nil, []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink("s.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("one"), []byte("two"), 0o640); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (owner.Uid != 65534 || owner.Gid != 65534) {
		t.Errorf("owner %d:%d", owner.Uid, owner.Gid)
	}
	if target, err := os.Readlink(link); err != nil || target != "s.yaml" {
		t.Errorf("the link is gone: %v", err)
	}

	// What somebody else wrote stays, and nothing half made is left.
	for name, old := range map[string][]byte{"changed": []byte("one"), "new": nil} {
		if err := Write(file, old, []byte("three"), 0o600); ccci.CodeOf(err) != ccci.CodeConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Write(filepath.Join(dir, "gone.yaml"), []byte("x"), []byte("y"), 0o600); ccci.CodeOf(err) != ccci.CodeConflict {
		t.Errorf("gone: %v", err)
	}
	text, err := os.ReadFile(file)
	left, globErr := filepath.Glob(filepath.Join(dir, ".*"))
	if string(text) != "two" || err != nil || len(left) > 0 || globErr != nil {
		t.Errorf("%q, left %v", text, left)
	}
	if err := Write(filepath.Join(dir, "none", "s.yaml"), nil, nil, 0o600); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("no folder: %v", err)
	}
}
