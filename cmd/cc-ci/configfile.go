package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// localConfig is the configuration that is read from the working directory when none is named.
const localConfig = "cc-ci.yml"

// config reads the configuration that --config or $CC_CI_CONFIG names, else cc-ci.yml of the
// working directory, else the defaults. A file that was not named is printed on standard
// error, also when it is not read.
func (a *app) config() (config.Config, error) {
	if a.configPath == "" {
		if _, err := os.Lstat(localConfig); err == nil {
			if why := distrust("."); why != "" {
				fmt.Fprintf(a.stderr, "cc-ci: ./%s is not read: %s; --config %s reads it\n", localConfig, why, localConfig)
			} else {
				fmt.Fprintf(a.stderr, "cc-ci: configuration: ./%s\n", localConfig)
				a.configPath = localConfig
			}
		}
	}
	return config.Read(a.configPath)
}

// distrust says why cc-ci.yml of dir is not read unasked, or "". A configuration names
// programs that run on this machine, and where waivers are: neither a recipe, nor the archive
// of a run, nor another account may bring one along.
func distrust(dir string) string {
	for _, name := range []string{".env.sample", "compose.yml", "compose.yaml"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return "this directory is a recipe, it has " + name
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, ccci.ReproArchive)); err == nil {
		return "this directory has what a run left, it has " + ccci.ReproArchive
	}
	info, err := os.Lstat(filepath.Join(dir, localConfig))
	switch {
	case err != nil:
		return err.Error()
	case !info.Mode().IsRegular():
		return "it is not a regular file"
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Sprintf("others than its owner can write it (mode %#o)", info.Mode().Perm())
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 && int(owner) != os.Geteuid() {
		return "it belongs to another account"
	}
	return ""
}

// absoluteConfig is the configuration's path for other processes, which need
// not have this working directory; "" when there is none.
func (a *app) absoluteConfig() (string, error) {
	if a.configPath == "" {
		return "", nil
	}
	path, err := filepath.Abs(a.configPath)
	if err != nil {
		return "", fmt.Errorf("finding the configuration: %w", err)
	}
	return path, nil
}
