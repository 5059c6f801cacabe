package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Measure is the command "cc-ci box measure [--logs=ID,ID...] DIR...": it prints a line
// "log <bytes per second> <id>" for each container whose log is in [LogDir], then a line
// "<bytes> <entries> <dir>" for each directory. Bytes are those that it takes on the disk, so
// that a sparse file counts as what is written of it, and a file with several
// names once. What goes away meanwhile is not counted.
func Measure(ctx context.Context, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], logsFlag) {
		ids := strings.Split(strings.TrimPrefix(args[0], logsFlag), ",")
		if err := logRates(ctx, LogDir, ids, logWindow, os.Stdout); err != nil {
			return err
		}
		args = args[1:]
	}
	return measure(ctx, args, os.Stdout)
}

const logsFlag = "--logs="

// MeasureCommand is the command line of [Measure] in a container: containers are ids.
func MeasureCommand(containers, dirs []string) []string {
	args := []string{Program, "box", "measure"}
	if len(containers) > 0 {
		args = append(args, logsFlag+strings.Join(containers, ","))
	}
	return append(args, dirs...)
}

const (
	// manyEntries is where counting stops. It is more than a run may have.
	manyEntries = 6_000_000
	// deepest is how many folders may be in each other. A program that names them by a path has at most half as many.
	deepest = 4000
)

func measure(ctx context.Context, dirs []string, out io.Writer) error {
	seen := map[inode]struct{}{} // of files with several names
	for _, dir := range dirs {
		w := walk{ctx: ctx, seen: seen}
		var stat unix.Stat_t
		err := unix.Lstat(dir, &stat)
		if err == nil {
			w.count(&stat)
			err = w.folder(unix.AT_FDCWD, dir, 0)
		}
		if err != nil && !gone(err) && !errors.Is(err, errMany) {
			return fmt.Errorf("measuring %s: %w", dir, err)
		}
		fmt.Fprintf(out, "%d %d %s\n", w.bytes, w.entries, dir)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// walk goes from folder to folder by their descriptors: a path may be longer than the kernel takes.
type walk struct {
	ctx            context.Context
	seen           map[inode]struct{}
	bytes, entries int64
}

var errMany = errors.New("there is more than needs to be counted")

// gone reports whether an error says that something has gone meanwhile, or become something else.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ESTALE)
}

func (w *walk) count(stat *unix.Stat_t) {
	w.entries++
	if id := (inode{uint64(stat.Dev), stat.Ino}); stat.Nlink > 1 && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		if _, again := w.seen[id]; again {
			return
		}
		w.seen[id] = struct{}{}
	}
	w.bytes += stat.Blocks * 512
}

// folder counts what is in a folder, which has the name within the one of the descriptor.
func (w *walk) folder(parent int, name string, depth int) error {
	if depth > deepest {
		return fmt.Errorf("more than %d folders are in each other", deepest)
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if w.ctx.Err() != nil {
				return context.Cause(w.ctx)
			}
			if w.entries >= manyEntries {
				return errMany
			}
			var stat unix.Stat_t
			err := unix.Fstatat(fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
			if err == nil {
				w.count(&stat)
				if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
					err = w.folder(fd, name, depth+1)
				}
			}
			if err != nil && !gone(err) {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err != nil && gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
