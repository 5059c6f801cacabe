// Package scratch makes folders for the temporary files of a process, and finds
// those whose process was killed before it could remove them.
//
// A folder is locked by the kernel while its process lives, however that ends, so
// what can be locked is nobody's any more.
package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// prefix begins the name of every folder. Only such are ever swept.
const prefix = "cc-ci-run-"

// Folder is a folder that this process holds.
type Folder struct {
	Path string

	lock   *os.File
	remove func() error
}

// Make makes a folder in the temporary directory and holds it until Remove or the
// end of this process; children do not inherit the lock. The name tells whose it is:
// letters, digits, points and hyphens.
//
// The folder is for this user alone. A temporary directory in which another user could
// replace it is an Error with CodeInfra.
func Make(name string) (*Folder, error) {
	if err := Trusted(os.TempDir()); err != nil {
		return nil, fmt.Errorf("making a folder for temporary files: %w", err)
	}
	for range 100 {
		path, err := os.MkdirTemp("", prefix+name+"-")
		if err != nil {
			return nil, fmt.Errorf("making a folder for temporary files: %w", err)
		}
		lock, err := hold(path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("holding the folder %s: %w", path, err), os.RemoveAll(path))
		}
		if lock == nil {
			continue // a sweeper came first, and removes it
		}
		f := &Folder{Path: path, lock: lock}
		f.remove = sync.OnceValue(func() error {
			defer f.lock.Close()
			return os.RemoveAll(f.Path)
		})
		return f, nil
	}
	return nil, errors.New("making a folder for temporary files: somebody removes each at once")
}

// Remove removes the folder with all that is in it. Legal twice.
func (f *Folder) Remove() error { return f.remove() }

// Sweep removes the folders in the temporary directory that nobody holds and that
// this user made, and returns their paths. It goes on after an error.
func Sweep() (removed []string, err error) {
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		return nil, fmt.Errorf("looking for what killed processes left: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		path := filepath.Join(os.TempDir(), e.Name())
		lock, err := hold(path)
		if err == nil && lock != nil {
			if err = os.RemoveAll(path); err == nil {
				removed = append(removed, path)
			}
			lock.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing what a killed process left in %s: %w", path, err))
		}
	}
	return removed, errors.Join(errs...)
}

// hold locks a folder of this user's. It returns nil when another process holds it,
// it is another user's, or what has its name now is not what was locked.
func hold(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lock := os.NewFile(uintptr(fd), path)
	if ours, err := lockOurs(lock); err != nil || !ours {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func lockOurs(lock *os.File) (bool, error) {
	opened, err := lock.Stat()
	if err != nil {
		return false, err
	}
	if stat, ok := opened.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
		return false, nil
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(lock.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, named), err
}
