package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Clear is the command "cc-ci box clear DIR PATH...": it removes symbolic links, pipes and
// devices at paths relative to DIR. Files and folders stay, and nothing outside of DIR is
// reached, whatever links are in it.
func Clear(_ context.Context, args []string) error {
	if len(args) < 1 {
		return fmt.Errorf("box clear needs DIR and paths in it")
	}
	root, err := os.OpenRoot(args[0])
	if err != nil {
		return fmt.Errorf("box clear: %w", err)
	}
	defer root.Close()
	for _, name := range args[1:] {
		info, err := root.Lstat(name)
		if err == nil && (info.Mode().IsRegular() || info.IsDir()) {
			continue
		}
		if err == nil {
			err = root.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("box clear: %w", err)
		}
	}
	return nil
}

// ClearCommand is the command line of [Clear] in a container.
func ClearCommand(dir string, names []string) []string {
	return append([]string{Program, "box", "clear", dir}, names...)
}
