package enrol

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// List returns the names of the recipes that have a folder with settings,
// hooks or Go tests in testsDir, sorted. A folder that is not there is empty.
func List(testsDir string) ([]string, error) {
	entries, err := os.ReadDir(testsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the enrolments: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() || !recipeName.MatchString(e.Name()) {
			continue
		}
		for _, sign := range []string{FileName, "hooks"} {
			if _, err := os.Stat(filepath.Join(testsDir, e.Name(), sign)); err == nil {
				names = append(names, e.Name())
				break
			}
		}
	}
	return names, nil
}
