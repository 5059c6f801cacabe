package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// BackupbotOptions describe the backups of the apps that stay on this host. Both are needed.
type BackupbotOptions struct {
	Repository string                      // folder with the restic repository
	Password   func() (ccci.Secret, error) // of the repository; read when the unit runs
}

// Backupbot is what cc-ci backup needs: a restic repository that opens with the password
// of the configuration. It has no service: a timer of the host starts cc-ci backup.
func Backupbot(o BackupbotOptions) Unit {
	b := &backupbot{BackupbotOptions: o}
	return Unit{Name: "backupbot", Desired: b.desired, Steps: b.steps, Check: b.check}
}

type backupbot struct {
	BackupbotOptions
	password ccci.Secret
}

func (b *backupbot) desired(context.Context) (_ Desired, err error) {
	if _, err := exec.LookPath("restic"); err != nil {
		return Desired{}, ccci.Errorf(ccci.CodeInfra, "there is no restic on this machine").WithHint("install it (Debian: apt-get install restic)")
	}
	b.password, err = b.Password()
	return Desired{}, err
}

// steps makes the repository where there is none. One that is there is never touched.
func (b *backupbot) steps(context.Context) ([]Step, error) {
	_, err := os.Stat(filepath.Join(b.Repository, "config")) // restic's own, written last
	if err == nil {
		return nil, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, ccci.Errorf(ccci.CodeInfra, "looking for the backup repository: %w", err)
	}
	return []Step{{Text: "making the backup repository " + b.Repository, Do: func(ctx context.Context) error {
		return b.restic(ctx, "init")
	}}}, nil
}

func (b *backupbot) check(ctx context.Context) error { return b.restic(ctx, "cat", "config") }

// restic runs restic with an environment of three variables and no cache. The password is not one
// of them, since an environment stays readable in /proc and is every child's. It goes by standard
// input, which restic reads as a file: to the end and not by the line.
func (b *backupbot) restic(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "restic", append([]string{"--no-cache", "--quiet"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "RESTIC_REPOSITORY=" + b.Repository, "RESTIC_PASSWORD_FILE=/dev/stdin"}
	cmd.Stdin = strings.NewReader(b.password.Reveal())
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	text := bytes.TrimSpace(out)
	return ccci.Errorf(ccci.CodeInfra, "the backup repository %s: %w", b.Repository, fmt.Errorf("restic %s: %w: %s", args[0], err, text[max(0, len(text)-500):])).
		WithHint("the password in reconcile.backup.password_file must be that of the repository, and the folder this user's; nothing there was changed")
}
