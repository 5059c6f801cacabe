package box

import (
	"context"
	"errors"

	"github.com/recipe-maintainers/cc-ci/internal/box/emptied"
)

// Empty is the command "cc-ci box empty DIR...": it removes all that is in each directory, however
// deep, and nothing outside of them.
func Empty(ctx context.Context, args []string) error {
	var errs []error
	for _, dir := range args {
		errs = append(errs, emptied.Folder(ctx, dir))
	}
	return errors.Join(errs...)
}

// EmptyCommand is the command line of [Empty] in a container.
func EmptyCommand(dirs []string) []string {
	return append([]string{Program, "box", "empty"}, dirs...)
}
