package repro

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// Archive is an archive that was laid out.
type Archive struct {
	Manifest
	dir string
}

// Open lays out an archive in dir, which is to be new and for this user alone. Of an archive that
// is not of the form that [Write] gives it, or is larger than the bounds, nothing may be
// used: it is an Error with CodeInvalid.
func Open(r io.Reader, dir string) (*Archive, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("laying out the archive: %w", err)
	}
	defer root.Close()
	in := tar.NewReader(io.LimitReader(r, Limit+1))
	sum := int64(0)
	for files := 0; ; files++ {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return read(root, dir)
		case err != nil:
			return nil, bad("it is no tar: %v", err)
		case files == maxFiles:
			return nil, bad("it has more than %d files", maxFiles)
		}
		if sum += h.Size; h.Size < 0 || sum > Limit {
			return nil, bad("it has more than %d MiB", Limit>>20)
		}
		if err := layOut(root, h, in); err != nil {
			return nil, err
		}
	}
}

// layOut writes one file.
func layOut(root *os.Root, h *tar.Header, in io.Reader) error {
	if h.Typeflag != tar.TypeReg || !expected(h.Name) {
		return bad("it holds %.200q, which belongs to no archive of a run", h.Name)
	}
	if dir := path.Dir(h.Name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return bad("laying out %q: %v", h.Name, err)
		}
	}
	mode := fs.FileMode(0o600)
	if h.Mode&0o111 != 0 {
		mode = 0o700
	}
	f, err := root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return bad("laying out %q: %v", h.Name, err) // among them: it is there twice
	}
	_, err = io.Copy(f, in)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return bad("laying out %q: %v", h.Name, err)
	}
	return nil
}

// read reads the manifest of what was laid out.
func read(root *os.Root, dir string) (*Archive, error) {
	f, err := root.Open(manifestName)
	if err != nil {
		return nil, bad("it has no %s", manifestName)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil || len(text) > maxManifest {
		return nil, bad("its %s is too large", manifestName)
	}
	a := &Archive{dir: dir}
	if err := json.Unmarshal(text, &a.Manifest); err != nil {
		return nil, bad("its %s does not parse: %v", manifestName, err)
	}
	if a.Schema != Schema {
		return nil, bad("it has schema %d and not %d", a.Schema, Schema)
	}
	return a, nil
}

func bad(format string, args ...any) error {
	return ccci.Errorf(ccci.CodeInvalid, "the archive %s cannot be used: %s", ccci.ReproArchive, fmt.Sprintf(format, args...)).
		WithHint("take it again from the run's page, or name a checkout and the enrolments: --checkout DIR --tests DIR")
}

// Tests is the folder with the enrolments.
func (a *Archive) Tests() string { return filepath.Join(a.dir, testsDir) }

// Lacks says why a part is not whole: "recipe.bundle" or "tests/<recipe>"; "" when it is.
func (a *Archive) Lacks(part string) string {
	for _, l := range a.LeftOut {
		if l.Part == part || strings.HasPrefix(l.Part, part+"/") {
			return l.Part + " was not kept: " + l.Why
		}
	}
	return ""
}

// Repository makes a bare repository at dir of what is kept of the recipe's.
func (a *Archive) Repository(ctx context.Context, dir string, limits gitcmd.Limits) error {
	return a.unbundle(ctx, recipeBundle, dir, limits)
}

// Dependency is Repository for a recipe that the one under test depends on. ErrNotFound when
// nothing of it was kept.
func (a *Archive) Dependency(ctx context.Context, recipe, dir string, limits gitcmd.Limits) error {
	if !enrol.ValidName(recipe) {
		return ccci.ErrNotFound
	}
	return a.unbundle(ctx, bundleDir+"/"+recipe+".bundle", dir, limits)
}

func (a *Archive) unbundle(ctx context.Context, name, dir string, limits gitcmd.Limits) error {
	bundle := filepath.Join(a.dir, filepath.FromSlash(name))
	if _, err := os.Stat(bundle); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the archive has no %s: %w", name, ccci.ErrNotFound)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("laying out %s: %w", name, err)
	}
	_, err := gitcmd.Run(ctx, dir, "init", "--quiet", "--bare", "--template=")
	if err == nil {
		err = gitcmd.Fetch(ctx, dir, bundle, gitcmd.FetchOptions{Refs: []string{"+" + refPrefix + "*:refs/heads/*"}, Tags: true, Limits: limits})
	}
	if err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "reading %s of the archive: %w", name, err).WithHint("name a checkout that has the commit with --checkout DIR")
	}
	return nil
}

// expected reports whether a path is one that Write makes.
func expected(name string) bool {
	if name == manifestName || name == recipeBundle {
		return true
	}
	if !goodPath(name) {
		return false
	}
	dir, rest, _ := strings.Cut(name, "/")
	switch dir {
	case bundleDir:
		recipe, ok := strings.CutSuffix(rest, ".bundle")
		return ok && enrol.ValidName(recipe)
	case testsDir:
		recipe, rest, ok := strings.Cut(rest, "/")
		return ok && rest != "" && enrol.ValidName(recipe)
	}
	return false
}

var goodSegment = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 ._+@=,-]{0,200}$`)

// goodPath reports whether a path is relative, has no surprises, and is short.
func goodPath(name string) bool {
	if len(name) > 500 || strings.Count(name, "/") > 12 {
		return false
	}
	for segment := range strings.SplitSeq(name, "/") {
		if !goodSegment.MatchString(segment) {
			return false
		}
	}
	return true
}
