package reconcile

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A26, A32: a repository is made once, never again, and opens with its password alone.
func TestA32_RealBackupRepository(t *testing.T) {
	if testing.Short() {
		t.Skip("restic works for seconds")
	}
	if _, err := exec.LookPath("restic"); err != nil {
		t.Fatal("restic is not installed (Debian: apt-get install restic)")
	}
	folder := filepath.Join(t.TempDir(), "backups")
	unit := func(password string) Unit {
		return Backupbot(BackupbotOptions{Repository: folder, Password: func() (ccci.Secret, error) { return ccciSecret(password), nil }})
	}
	w := newWorld()
	if first := did(t, w, unit("geheim")); !slices.Equal(first, []string{"making the backup repository " + folder}) {
		t.Errorf("did %v", first)
	}
	before, err := os.ReadFile(filepath.Join(folder, "config"))
	if err != nil {
		t.Fatal(err)
	}
	if again := did(t, w, unit("geheim")); len(again) > 0 {
		t.Errorf("then did %v", again)
	}
	wrong := unit("falsch")
	wrong.CheckPatience = time.Millisecond
	_, err = (&Runner{Daemon: w}).Run(t.Context(), wrong)
	if err == nil || !strings.Contains(ccci.HintOf(err), "reconcile.backup.password_file") || strings.Contains(err.Error(), "falsch") {
		t.Errorf("with another password: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(folder, "config")); err != nil || string(after) != string(before) {
		t.Error("the repository was made anew")
	}
}
