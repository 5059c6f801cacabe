// Package beneath reads and writes files in a folder whose owner may exchange anything in it at any
// moment: an app's volume. It follows no link, opens no pipe and no device, and reaches nothing
// outside of the folder.
//
// Each step of a path is opened by its name in the folder before it, without following links. A name has
// no "..", so that a step leads only to what is in that folder, whatever is exchanged meanwhile.
package beneath

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Get reads a regular file of at most limit bytes; name is relative to dir. That it is not there is an
// Error with CodeNotFound; anything else in its place, a larger file, or what is no folder above it is one
// with CodeRecipe.
func Get(dir, name string, limit int64) ([]byte, error) {
	parent, base, err := enter(dir, name, false)
	if err != nil {
		return nil, fault(name, err)
	}
	defer unix.Close(parent)
	// O_PATH opens nothing: to open a pipe waits for a writer, and to open a device may do something.
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault(name, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fault(name, err)
	}
	if err := regular(name, &stat); err != nil {
		return nil, err
	}
	if stat.Size > limit {
		return nil, ccci.Errorf(ccci.CodeRecipe, "%s has %d bytes, more than %d", name, stat.Size, limit)
	}
	// By its descriptor: the same file, whatever has its name now.
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault(name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fault(name, err)
	}
	if int64(len(data)) > limit {
		return nil, ccci.Errorf(ccci.CodeRecipe, "%s has more than %d bytes", name, limit)
	}
	return data, nil
}

// Put writes a file; name is relative to dir. One that exists keeps its owner and mode, a new one gets
// its folder's owner and mode 0644. Missing folders are made. What else the owner of dir has in the place is
// an Error with CodeRecipe. The file appears as a whole.
func Put(dir, name string, data []byte) error {
	err := put(dir, name, data)
	if ccci.CodeOf(err) == ccci.CodeNotFound {
		return ccci.Errorf(ccci.CodeRecipe, "what is above %s is removed meanwhile", name)
	}
	return err
}

func put(dir, name string, data []byte) error {
	parent, base, err := enter(dir, name, true)
	if err != nil {
		return fault(name, err)
	}
	defer unix.Close(parent)
	var stat unix.Stat_t
	mode := uint32(0o644)
	err = unix.Fstatat(parent, base, &stat, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		err = unix.Fstat(parent, &stat)
	case err == nil:
		err, mode = regular(name, &stat), stat.Mode&0o777
	}
	if err != nil {
		return fault(name, err)
	}
	// Nothing that exists is opened: what is at the name may have become something else.
	temporary := ".cc-ci-" + rand.Text()
	fd, err := unix.Openat(parent, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fault(name, err)
	}
	f := os.NewFile(uintptr(fd), temporary)
	_, err = f.Write(data)
	if err == nil {
		err = unix.Fchmod(fd, mode) // before the owner is another one
	}
	if err == nil {
		err = unix.Fchown(fd, int(stat.Uid), int(stat.Gid))
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = unix.Renameat(parent, temporary, parent, base)
	}
	if err != nil {
		return fault(name, errors.Join(err, unix.Unlinkat(parent, temporary, 0)))
	}
	return nil
}

// enter opens the folder that has a name, and returns the last step of it.
func enter(dir, name string, make bool) (int, string, error) {
	if path.IsAbs(name) || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") {
		return -1, "", ccci.Errorf(ccci.CodeInvalid, "%q is no path within a folder", name)
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	folder, err := unix.Open(dir, flags, 0)
	if err != nil { // ours, whatever it is
		return -1, "", ccci.Errorf(ccci.CodeInfra, "opening %s: %w", dir, err)
	}
	steps := strings.Split(name, "/")
	last := len(steps) - 1
	for _, step := range steps[:last] {
		next, err := unix.Openat(folder, step, flags, 0)
		if make && errors.Is(err, unix.ENOENT) {
			next, err = create(folder, step, flags)
		}
		unix.Close(folder)
		if err != nil {
			return -1, "", err
		}
		folder = next
	}
	return folder, steps[last], nil
}

// create makes a folder with the owner of the one that it is in.
func create(parent int, name string, flags int) (int, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(parent, &stat); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(parent, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	fd, err := unix.Openat(parent, name, flags, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Fchown(fd, int(stat.Uid), int(stat.Gid)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func regular(name string, stat *unix.Stat_t) error {
	kind := "a device"
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		kind = "a folder"
	case unix.S_IFLNK:
		kind = "a link"
	case unix.S_IFIFO:
		kind = "a pipe"
	case unix.S_IFSOCK:
		kind = "a socket"
	}
	return ccci.Errorf(ccci.CodeRecipe, "%s is not a regular file but %s", name, kind)
}

// theirs are errors for which what the owner of a folder has in it is to blame.
var theirs = []error{
	unix.ENOTDIR, unix.ELOOP, unix.EISDIR, unix.EEXIST, unix.EMLINK, unix.EROFS, unix.EPERM, unix.EACCES, unix.EDQUOT,
	unix.ENAMETOOLONG, unix.ENXIO, unix.ETXTBSY, unix.ESTALE,
}

func fault(name string, err error) error {
	var own *ccci.Error
	if errors.As(err, &own) {
		return own
	}
	if errors.Is(err, unix.ENOENT) {
		return ccci.Errorf(ccci.CodeNotFound, "there is no %s", name)
	}
	for _, e := range theirs {
		if errors.Is(err, e) {
			return ccci.Errorf(ccci.CodeRecipe, "%s: %w", name, err)
		}
	}
	return fmt.Errorf("%s: %w", name, err)
}
