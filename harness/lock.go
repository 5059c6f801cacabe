package harness

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// RunLock is a kernel lock on one run, and with it on the run's app (U11): an
// app's name follows from the run's. The kernel frees it when its holder dies, however it dies, so there is no stale lock and nobody needs
// to steal one. Child processes do not inherit it.
type RunLock struct{ file *flock.Flock }

// LockRun waits for the lock until ctx is done.
func LockRun(ctx context.Context, dir string, run ccci.RunID) (*RunLock, error) {
	file, err := lockFile(dir, run)
	if err != nil {
		return nil, err
	}
	if ok, err := file.TryLockContext(ctx, 50*time.Millisecond); err != nil || !ok {
		return nil, ccci.Errorf(ccci.CodeConflict, "waiting for the lock of run %s: %w", run, context.Cause(ctx)).
			WithHint("an earlier attempt holds it; it is free when that attempt's teardown has ended")
	}
	return &RunLock{file}, nil
}

// TryLockRun takes the lock if nobody holds it.
func TryLockRun(dir string, run ccci.RunID) (*RunLock, bool, error) {
	file, err := lockFile(dir, run)
	if err != nil {
		return nil, false, err
	}
	ok, err := file.TryLock()
	if errors.Is(err, fs.ErrPermission) {
		return nil, false, nil // another user's run: whether it lives is not ours to judge
	}
	if err != nil {
		return nil, false, ccci.Errorf(ccci.CodeInfra, "locking run %s: %w", run, err)
	}
	return &RunLock{file}, ok, nil
}

// The lock's file stays behind: to remove it would let two processes hold
// locks on two files of the same name.
func lockFile(dir string, run ccci.RunID) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "making the lock folder: %w", err).WithHint("check that %s is writable", dir)
	}
	return ownLock(filepath.Join(dir, string(run)+".lock")), nil
}

// ownLock is a lock on a file in a folder that every user of the machine may write to. A
// link that somebody has put there is not followed.
func ownLock(path string) *flock.Flock {
	return flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY|syscall.O_NOFOLLOW))
}

// Release frees the lock. Legal twice.
func (l *RunLock) Release() { l.file.Unlock() }
