package box

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/recipe-maintainers/cc-ci/internal/beneath"
)

// Get is the command "cc-ci box get DIR NAME LIMIT": it prints a file of an app's volume, as
// [beneath.Run] does.
func Get(_ context.Context, args []string) error { return copyFile("get", args) }

// Put is the command "cc-ci box put DIR NAME": it writes its standard input to a file of an app's
// volume, as [beneath.Run] does.
func Put(_ context.Context, args []string) error { return copyFile("put", args) }

func copyFile(verb string, args []string) error {
	if err := beneath.Run(append([]string{verb}, args...), os.Stdin, os.Stdout); err != nil {
		return fmt.Errorf("box %s: %w", verb, err)
	}
	return nil
}

// GetCommand is the command line of [Get] in a container.
func GetCommand(dir, name string, limit int64) []string {
	return []string{Program, "box", "get", dir, name, strconv.FormatInt(limit, 10)}
}

// PutCommand is the command line of [Put] in a container.
func PutCommand(dir, name string) []string { return []string{Program, "box", "put", dir, name} }
