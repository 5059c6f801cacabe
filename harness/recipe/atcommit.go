package recipe

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// AtCommit lays the files of a commit out in a temporary folder and opens them.
// The repository and its work tree are only read. The caller removes the folder
// by the returned function, which is never nil.
func AtCommit(ctx context.Context, repoDir string, commit ccci.Commit) (*Tree, func(), error) {
	archive, err := gitcmd.Output(ctx, repoDir, "archive", "--format=tar", string(commit))
	if err != nil {
		return nil, func() {}, fmt.Errorf("reading commit %s: %w", commit.Short(), err)
	}
	dir, err := os.MkdirTemp("", "cc-ci-recipe-")
	if err != nil {
		return nil, func() {}, fmt.Errorf("making a folder for commit %s: %w", commit.Short(), err)
	}
	remove := func() { os.RemoveAll(dir) }
	if err := unpack(dir, archive); err != nil {
		return nil, remove, fmt.Errorf("laying out commit %s: %w", commit.Short(), err)
	}
	tree, err := Open(dir, commit)
	return tree, remove, err
}

// unpack writes the regular files of an archive below dir, and nowhere else.
// Symbolic links are kept as links, so that reading one is refused by its name.
func unpack(dir string, archive []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.FromSlash(h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(filepath.Clean(name), 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			var text []byte
			if text, err = io.ReadAll(r); err == nil {
				err = root.WriteFile(name, text, 0o644)
			}
		}
		if err != nil {
			return err
		}
	}
}
