package recipe

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
)

// maxUnpacked bounds the files of a commit that AtCommit writes, in bytes. The tree is
// within the limits of gitcmd before; attributes of the repository may make files longer.
const maxUnpacked = 256 << 20

// AtCommit lays the files of a commit out in a temporary folder and opens them.
// The repository and its work tree are only read. A commit beyond the default limits of
// gitcmd is an Error with CodeRefused. The caller removes the folder by the returned
// function, which is never nil.
func AtCommit(ctx context.Context, repoDir string, commit ccci.Commit) (*Tree, func(), error) {
	if err := gitcmd.CheckTree(ctx, repoDir, string(commit), gitcmd.Limits{}); err != nil {
		return nil, func() {}, fmt.Errorf("reading commit %s: %w", commit.Short(), err)
	}
	files, err := scratch.Make("recipe")
	if err != nil {
		return nil, func() {}, fmt.Errorf("laying out commit %s: %w", commit.Short(), err)
	}
	remove := func() { _ = files.Remove() }
	if err := extract(ctx, repoDir, commit, files.Path); err != nil {
		return nil, remove, fmt.Errorf("laying out commit %s: %w", commit.Short(), err)
	}
	tree, err := Open(files.Path, commit)
	return tree, remove, err
}

// extract writes what git prints of a commit as it prints it.
func extract(ctx context.Context, repoDir string, commit ccci.Commit, dir string) error {
	r, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := unpack(dir, r, maxUnpacked)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // what fills the last block
		}
		r.CloseWithError(err)
		unpacked <- err
	}()
	err := gitcmd.Archive(ctx, repoDir, w, string(commit), gitcmd.Limits{})
	w.CloseWithError(err)
	if unpackErr := <-unpacked; unpackErr != nil {
		return unpackErr
	}
	return err
}

// unpack writes the regular files of an archive, at most limit bytes, below dir, and nowhere
// else. Symbolic links are kept as links, so that reading one is refused by its name.
func unpack(dir string, archive io.Reader, limit int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(archive); ; {
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
			if limit -= h.Size; limit < 0 {
				return ccci.Errorf(ccci.CodeRefused, "the files of the commit are larger than %d MiB", int64(maxUnpacked)>>20).WithHint("make the repository smaller")
			}
			err = writeFrom(root, name, r)
		}
		if err != nil {
			return err
		}
	}
}

func writeFrom(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
