package reconcile

import (
	"fmt"
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
	restic, err := exec.LookPath("restic")
	if err != nil {
		t.Fatal("restic is not installed (Debian: apt-get install restic)")
	}
	// The same program, which also writes down what others could read of it.
	seen := t.TempDir()
	record := fmt.Sprintf("#!/bin/sh\n{ env; echo \"$@\"; } >>%s/seen\nexec %s \"$@\"\n", seen, restic)
	if err := os.WriteFile(filepath.Join(seen, "restic"), []byte(record), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", seen+":"+os.Getenv("PATH"))
	folder := filepath.Join(t.TempDir(), "backups")
	unit := func(password string) Unit {
		return Backupbot(BackupbotOptions{Repository: folder, Password: func() (ccci.Secret, error) { return ccciSecret(password), nil }})
	}
	w := newWorld()
	if first := did(t, w, unit("geheim\nund lang")); !slices.Equal(first, []string{"making the backup repository " + folder}) {
		t.Errorf("did %v", first)
	}
	before, err := os.ReadFile(filepath.Join(folder, "config"))
	if err != nil {
		t.Fatal(err)
	}
	if again := did(t, w, unit("geheim\nund lang")); len(again) > 0 {
		t.Errorf("then did %v", again)
	}
	opened := exec.Command(restic, "--no-cache", "cat", "config") // as cc-ci backup and people do
	opened.Env = append(os.Environ(), "RESTIC_REPOSITORY="+folder, "RESTIC_PASSWORD=geheim\nund lang")
	if out, err := opened.CombinedOutput(); err != nil {
		t.Errorf("with the whole password: %v\n%s", err, out)
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
	text, err := os.ReadFile(filepath.Join(seen, "seen"))
	if err != nil || !strings.Contains(string(text), "RESTIC_REPOSITORY="+folder) || strings.Contains(string(text), "geheim") || strings.Contains(string(text), "falsch") {
		t.Errorf("of restic others could read, %v,\n%s", err, text)
	}
}
