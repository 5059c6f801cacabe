package reconcile

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// LockFile is the one lock of this host: whoever changes units holds it, so that a
// switch of the system, the timer and a person do not work against each other.
const LockFile = "/run/lock/cc-ci/reconcile.lock"

// Lock takes the lock at path and returns what releases it. The kernel releases it when the process
// dies. While another process has it, waiting is called once, and Lock waits until ctx ends.
func Lock(ctx context.Context, path string, waiting func()) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "making the folder of the lock: %w", err).WithHint("run cc-ci reconcile as root")
	}
	lock := flock.New(path)
	ok, err := lock.TryLock()
	if err == nil && !ok {
		waiting()
		_, err = lock.TryLockContext(ctx, 100*time.Millisecond)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "taking the lock %s: %w", path, err).WithHint("another cc-ci reconcile is at work; wait for it")
	}
	return func() { _ = lock.Close() }, nil
}
