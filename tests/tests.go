// Package tests carries the enrolments that come with cc-ci (one folder per
// recipe, each with its recipe.yml), so that the program can demonstrate and
// test itself without a checkout.
package tests

import (
	"bytes"
	"embed"
	"io/fs"
	"os"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
)

//go:embed all:pocketbase all:miniflux all:wordpress all:canary-*
var content embed.FS

// Materialise writes the enrolments of the named recipes, or of all without a
// name, into dir, one folder each. A name that has none is an Error with
// CodeNotFound. Files that are there are overwritten.
func Materialise(dir string, names ...string) error {
	if len(names) == 0 {
		names = []string{"."}
	}
	for _, name := range names {
		if _, err := fs.Stat(content, name); err != nil {
			return ccci.Errorf(ccci.CodeNotFound, "writing the enrolment of %q: there is none", name)
		}
		if err := write(dir, name); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "writing the enrolment of %s: %w", name, err)
		}
	}
	return nil
}

// write copies one tree. Compiled-in files carry no permissions: what begins
// with #! is a hook and becomes executable.
func write(dir, root string) error {
	return fs.WalkDir(content, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := content.ReadFile(name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			mode = 0o755
		}
		return os.WriteFile(to, text, mode)
	})
}
