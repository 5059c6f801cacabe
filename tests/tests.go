// Package tests carries the enrolments of the example recipes, so that the
// demonstration runs from the binary alone. An appliance reads its tests folder
// from disk.
package tests

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
)

//go:embed pocketbase/recipe.yml miniflux/recipe.yml
var files embed.FS

// Materialise writes the enrolment of one example recipe into dir.
func Materialise(dir, recipe string) error {
	text, err := fs.ReadFile(files, recipe+"/recipe.yml")
	if err != nil {
		return ccci.Errorf(ccci.CodeNotFound, "there is no example enrolment %q", recipe).WithHint("there are pocketbase and miniflux")
	}
	if err := os.MkdirAll(filepath.Join(dir, recipe), 0o755); err != nil {
		return fmt.Errorf("writing the enrolment of %s: %w", recipe, err)
	}
	if err := os.WriteFile(filepath.Join(dir, recipe, "recipe.yml"), text, 0o644); err != nil {
		return fmt.Errorf("writing the enrolment of %s: %w", recipe, err)
	}
	return nil
}
