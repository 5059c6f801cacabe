package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// storeDir has the store and nothing else: the dashboard is given it to read, and none of
// what is beside it.
func storeDir(cfg config.Config) string { return filepath.Join(cfg.Data, "store") }

func storePath(cfg config.Config) string { return filepath.Join(storeDir(cfg), "cc-ci.db") }

// moveStore brings the store of an earlier version to its place. Who calls it holds the data
// folder's lock. Legal twice, and after it was broken off.
func moveStore(cfg config.Config) error {
	if err := os.MkdirAll(storeDir(cfg), 0o750); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "making the folder of the database: %w", err).WithHint("name a data folder that you may write to: data: in the configuration")
	}
	old := filepath.Join(cfg.Data, "cc-ci.db")
	if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(storePath(cfg)); err == nil {
		return ccci.Errorf(ccci.CodeConflict, "there are two databases, %s and %s", old, storePath(cfg)).
			WithHint("an older cc-ci was started after a newer one; move the one aside whose runs are not to be kept")
	}
	// The log holds what is not in the database yet, and goes first: when this is broken off
	// in between, the next start goes on.
	for _, end := range []string{"-wal", ""} {
		if err := os.Rename(old+end, storePath(cfg)+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ccci.Errorf(ccci.CodeInfra, "moving the database to its folder: %w", err)
		}
	}
	for _, end := range []string{"-shm", ".open"} { // made again
		if err := os.Remove(old + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ccci.Errorf(ccci.CodeInfra, "removing what is left of the database's old place: %w", err)
		}
	}
	return nil
}
