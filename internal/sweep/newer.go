package sweep

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// target is a version to test: a release, or the tip of a branch.
type target struct {
	commit          ccci.Commit
	release, branch string // one of them is set
}

func (t target) name() string {
	return ccci.Canonical{Commit: t.commit, Release: t.release, Branch: t.branch}.Name()
}

// newer lists what is to be tested, in this order: the newest release and the tip of
// the default branch, each unless the canonical is it or has it in its history. A
// branch that lacks the newest release is behind, and waits until it was merged:
// otherwise both would take turns as canonical. releases come newest first.
func newer(canonical *ccci.Canonical, tip target, releases []recipe.Release, contains func(commit, older ccci.Commit) bool) []target {
	had := func(commit ccci.Commit) bool {
		return canonical != nil && (commit == canonical.Commit || contains(canonical.Commit, commit))
	}
	var targets []target
	if len(releases) > 0 {
		newest := releases[0]
		if !had(newest.Commit) {
			targets = append(targets, target{commit: newest.Commit, release: newest.Tag})
		}
		if newest.Commit == tip.commit || !contains(tip.commit, newest.Commit) {
			return targets
		}
	}
	if !had(tip.commit) {
		targets = append(targets, tip)
	}
	return targets
}

// tipRef is the local name of the default branch.
const tipRef = "refs/cc-ci/tip"

// look fetches a recipe's history and finds what is newer than its canonical.
func (c *Config) look(ctx context.Context, r Recipe, canonical *ccci.Canonical) ([]target, error) {
	dir, err := os.MkdirTemp(c.WorkDir, filepath.Base(r.Name)+"-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for a clone: %w", err)
	}
	defer os.RemoveAll(dir)
	if _, err := gitcmd.Run(ctx, dir, "init", "--quiet", "--bare", "--template="); err != nil {
		return nil, err
	}
	err = gitcmd.Fetch(ctx, dir, r.CloneURL, gitcmd.FetchOptions{Refs: []string{"+refs/heads/" + r.Branch + ":" + tipRef}, Tags: true, Limits: c.Git})
	if ccci.CodeOf(err) == ccci.CodeRefused {
		return nil, fmt.Errorf("fetching branch %q of %s: %w", r.Branch, r.Repo, err)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "fetching branch %q of %s: %w", r.Branch, r.Repo, err).
			WithHint("is the repository reachable, and does it hold that branch?")
	}
	tip, err := gitcmd.Run(ctx, dir, "rev-parse", "--verify", tipRef)
	if err != nil {
		return nil, err
	}
	releases, err := recipe.Releases(ctx, dir)
	if err != nil {
		return nil, err
	}
	contains := func(commit, older ccci.Commit) bool {
		_, err := gitcmd.Run(ctx, dir, "merge-base", "--is-ancestor", string(older), string(commit))
		return err == nil
	}
	return newer(canonical, target{commit: ccci.Commit(tip), branch: r.Branch}, releases, contains), ctx.Err()
}
