package main

import (
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// gitLimits are the settings as git gets them.
func gitLimits(g config.Git) gitcmd.Limits {
	return gitcmd.Limits{
		Bytes: int64(g.FetchMiB) << 20, Objects: g.Objects, Refs: g.Refs, Time: g.Time, Memory: int64(g.MemoryMiB) << 20,
		Files: g.Files, TreeBytes: int64(g.TreeMiB) << 20, Depth: g.Depth,
	}
}
