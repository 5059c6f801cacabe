package box

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Own is the command "cc-ci box own UID GID DIR": it gives DIR and all that is in it
// to a user of the host, who then can remove what the box made there.
func Own(_ context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("box own needs UID, GID and DIR, not %q", args)
	}
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("box own: %w", err)
	}
	gid, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("box own: %w", err)
	}
	return filepath.WalkDir(args[2], func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// OwnCommand is the command line of [Own] in a container.
func OwnCommand(uid, gid int, dir string) []string {
	return []string{Program, "box", "own", strconv.Itoa(uid), strconv.Itoa(gid), dir}
}
