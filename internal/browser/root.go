package browser

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// insideDir is Chromium's only directory that can be written: in memory, and gone with it.
const insideDir = "/tmp"

// insideSize bounds what Chromium writes, in bytes: profile, caches, shared memory.
const insideSize = 512 << 20

// shown are the directories and files of the machine that Chromium sees, read only: programs,
// libraries, fonts. Nothing of the machine's users, services and secrets is among them.
var shown = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/snap",
	"/etc/alternatives", "/etc/chromium", "/etc/chromium.d", "/etc/fonts", "/etc/ld.so.cache", "/etc/ld.so.conf",
	"/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf", "/etc/pki", "/etc/ssl", "/etc/static/fonts", "/var/cache/fontconfig",
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
}

// outside is where the machine's files are until the root is complete.
const outside = "/outside"

// makeRoot gives this mount namespace a root with what a browser needs and nothing else.
func makeRoot(program string) error {
	unix.Umask(0o022) // that of a unit may keep Chromium out of what root makes here
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("taking the mounts out of the machine's sight: %w", err)
	}
	// Any directory does, to stand on.
	if err := mountMemory("/tmp", 1<<20, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir("/tmp"+outside, 0o700); err != nil {
		return fmt.Errorf("making the browser's root: %w", err)
	}
	if err := unix.PivotRoot("/tmp", "/tmp"+outside); err != nil {
		return fmt.Errorf("changing to the browser's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("changing to the browser's root: %w", err)
	}
	for _, path := range shown {
		if err := show(path); err != nil {
			return err
		}
	}
	if err := mountProc(); err != nil {
		return err
	}
	if err := os.Mkdir(insideDir, 0o755); err != nil {
		return fmt.Errorf("making the browser's root: %w", err)
	}
	if err := mountMemory(insideDir, insideSize, 0o1777); err != nil {
		return err
	}
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) { // it is in no usual place
		if err := show(filepath.Dir(program)); err != nil {
			return err
		}
	}
	if err := unix.Unmount(outside, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("taking the machine's files away: %w", err)
	}
	if err := os.Remove(outside); err != nil {
		return fmt.Errorf("taking the machine's files away: %w", err)
	}
	return readOnly("/", 0)
}

func mountMemory(dir string, size, mode int) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,nr_inodes=65536,mode=%o", size, mode)); err != nil {
		return fmt.Errorf("mounting memory at %s: %w", dir, err)
	}
	return nil
}

// show makes a file or directory of the machine appear at its own path. What is not there is
// left out, and links stay links.
func show(path string) error {
	info, err := os.Lstat(outside + path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("showing %s to the browser: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("showing %s to the browser: %w", path, err)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(outside + path)
		if err == nil {
			err = os.Symlink(target, path)
		}
		if err != nil {
			return fmt.Errorf("showing %s to the browser: %w", path, err)
		}
		return nil
	case info.IsDir():
		err = os.Mkdir(path, 0o755)
	default:
		err = os.WriteFile(path, nil, 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("showing %s to the browser: %w", path, err)
	}
	if err := unix.Mount(outside+path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("showing %s to the browser: %w", path, err)
	}
	if strings.HasPrefix(path, "/dev/") {
		return nil // to be written to
	}
	return readOnly(path, unix.AT_RECURSIVE)
}

// readOnly keeps what is mounted at a path from being written. The user that Chromium runs as
// may write nothing there anyway: kernels before 5.12 do without.
func readOnly(path string, flags uint) error {
	err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID})
	if err != nil && err != unix.ENOSYS {
		return fmt.Errorf("making %s read-only for the browser: %w", path, err)
	}
	return nil
}

// mountProc mounts the processes of this namespace. Where the machine's own view is not whole
// (a service with ProtectKernelTunables, a container), the kernel refuses a new one: the
// machine's is shown then, of which this user may read no more than everybody.
func mountProc() error {
	if err := os.Mkdir("/proc", 0o755); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err == unix.EPERM {
		err = unix.Mount(outside+"/proc", "/proc", "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return nil
}
