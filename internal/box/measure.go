package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Measure is the command "cc-ci box measure DIR...": it prints a line
// "<bytes> <entries> <dir>" for each directory. Bytes are those that it takes on the disk, so
// that a sparse file counts as what is written of it, and a file with several
// names once. What goes away meanwhile is not counted.
func Measure(ctx context.Context, dirs []string) error { return measure(ctx, dirs, os.Stdout) }

// MeasureCommand is the command line of [Measure] in a container.
func MeasureCommand(dirs []string) []string {
	return append([]string{Program, "box", "measure"}, dirs...)
}

func measure(ctx context.Context, dirs []string, out io.Writer) error {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{} // of files with several names
	for _, dir := range dirs {
		var bytes, entries int64
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil // gone meanwhile
			}
			entries++
			stat, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return nil
			}
			if id := (inode{uint64(stat.Dev), stat.Ino}); stat.Nlink > 1 && !d.IsDir() {
				if seen[id] {
					return nil
				}
				seen[id] = true
			}
			bytes += stat.Blocks * 512
			return nil
		})
		if err != nil {
			return fmt.Errorf("measuring %s: %w", dir, err)
		}
		fmt.Fprintf(out, "%d %d %s\n", bytes, entries, dir)
	}
	return nil
}
