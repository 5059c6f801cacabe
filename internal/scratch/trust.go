package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// overflow is the user that a user namespace shows for those it does not have.
const overflow = 65534

// Trusted returns nil when no other user of the machine, but root, can replace what
// this one makes in dir: neither dir nor a folder above it is another user's, and where
// others may write, the sticky bit is set. Otherwise it is an Error with CodeInfra.
func Trusted(dir string) error {
	path, err := filepath.EvalSymlinks(dir)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return fmt.Errorf("looking at the folder %s: %w", dir, err)
	}
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return fmt.Errorf("looking at the folder %s: %w", dir, err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid != 0 && stat.Uid != overflow && int(stat.Uid) != os.Geteuid() {
			return ccci.Errorf(ccci.CodeInfra, "the folder %s belongs to another user", path).WithHint("let TMPDIR name a folder of your own, or of root's")
		}
		if info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 && (info.Mode().Perm()&0o002 != 0 || stat.Gid != 0) {
			return ccci.Errorf(ccci.CodeInfra, "others may replace what is in the folder %s", path).WithHint("chmod +t %s, or let TMPDIR name another folder", path)
		}
		if path == filepath.Dir(path) {
			return nil
		}
		path = filepath.Dir(path)
	}
}

// SharedDir makes the folders of a path below root, each for every user of the machine to
// write to and to remove only what is theirs. root must be there. A folder that another
// user has made beforehand is root's from then on, when this process is root's, and is
// refused otherwise; so is a symbolic link in the place of one.
func SharedDir(root string, names ...string) (string, error) {
	path := root
	for _, name := range names {
		path = filepath.Join(path, name)
		if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", ccci.Errorf(ccci.CodeInfra, "making the folder %s: %w", path, err).
				WithHint("make %s writable for everybody with the sticky bit, as Debian does", root)
		}
		if err := share(path); err != nil {
			return "", err
		}
	}
	return path, nil
}

// share sets owner and rights of the very folder that it has looked at.
func share(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "%s is not a folder that this user may use: %w", path, err).
			WithHint("somebody has put something in its place; look at it and remove it")
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is not known", path)
	}
	me := os.Geteuid()
	switch owner := int(stat.Uid); {
	case owner != me && me == 0:
		if err := dir.Chown(0, 0); err != nil {
			return fmt.Errorf("taking over %s from user %d: %w", path, owner, err)
		}
	case owner != me && owner != 0:
		return ccci.Errorf(ccci.CodeInfra, "%s belongs to user %d, who could take away what is in it", path, owner).
			WithHint("remove it, or start cc-ci as root once, which takes it over")
	}
	if owner := int(stat.Uid); owner != me && me != 0 || info.Mode() == os.ModeDir|os.ModeSticky|0o777 {
		return nil // root's, and as root wants it
	}
	// The umask took rights away that other users need.
	if err := dir.Chmod(0o777 | os.ModeSticky); err != nil {
		return fmt.Errorf("giving the rights of %s: %w", path, err)
	}
	return nil
}
