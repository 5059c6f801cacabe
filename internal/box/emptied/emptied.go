// Package emptied removes all that is in a folder, however deep it is. Docker's removal, as Go's, holds a
// descriptor for each level and ends where there are no more.
package emptied

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Folder removes what is in dir, and leaves dir. Each folder that is not empty is moved up into dir, so that
// never more than two levels are open. Nothing outside of dir is reached, whatever links are in it. What
// fails is returned after the rest has gone; a second call goes on where ctx ended the first one.
func Folder(ctx context.Context, dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("emptying %s: %w", dir, err)
	}
	top := os.NewFile(uintptr(fd), dir)
	defer top.Close()
	w := work{ctx: ctx, top: fd}
	for {
		before := w.done
		w.err = nil
		if err := w.pass(); err != nil {
			return fmt.Errorf("emptying %s: %w", dir, err)
		}
		if w.done == before {
			if w.err != nil {
				return fmt.Errorf("emptying %s: %w", dir, w.err)
			}
			return nil
		}
	}
}

type work struct {
	ctx   context.Context
	top   int   // the folder that is emptied
	moved int   // for names in it
	done  int   // what was removed or moved
	err   error // the first of this pass
}

// pass goes once through the topmost folder.
func (w *work) pass() error {
	return names(w.top, ".", func(fd int, name string) error {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		dir, err := w.remove(fd, name)
		if dir && err != nil {
			err = w.folder(name)
		}
		w.note(err)
		return nil
	})
}

// folder takes all out of a folder in the topmost one, and removes it.
func (w *work) folder(name string) error {
	err := names(w.top, name, func(fd int, child string) error {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		dir, err := w.remove(fd, child)
		if dir && err != nil {
			err = w.lift(fd, child)
		}
		w.note(err)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = w.remove(w.top, name)
	return err
}

// remove removes a file or an empty folder, and reports whether it is a folder.
func (w *work) remove(fd int, name string) (dir bool, err error) {
	err = unix.Unlinkat(fd, name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		if err = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); !errors.Is(err, unix.ENOTDIR) {
			dir = true
		}
	}
	if err == nil {
		w.done++
	}
	return dir, err
}

// lift moves a folder up into the topmost one.
func (w *work) lift(fd int, name string) error {
	for {
		w.moved++
		err := unix.Renameat2(fd, name, w.top, fmt.Sprintf(".moved-%d", w.moved), unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EEXIST) { // what is emptied may have any names
			continue
		}
		if err == nil {
			w.done++
		}
		return err
	}
}

func (w *work) note(err error) {
	if err != nil && w.err == nil && !errors.Is(err, unix.ENOENT) {
		w.err = err
	}
}

// names calls do with each name in a folder, which has the name within the one of the descriptor.
func names(parent int, name string, do func(fd int, name string) error) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		list, err := dir.Readdirnames(1000)
		for _, name := range list {
			if err := do(fd, name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
