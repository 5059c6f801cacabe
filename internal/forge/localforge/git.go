package localforge

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// git runs the git program with no configuration but a repository's own, so that
// the forge behaves the same everywhere.
type git struct{}

func (git) run(ctx context.Context, dir string, args ...string) (string, error) {
	return gitcmd.Run(ctx, dir, args...)
}

// init makes a bare repository. Legal when it is there.
func (g git) init(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "making the repository %s: %w", path, err)
	}
	if _, err := g.run(ctx, filepath.Dir(path), "init", "--quiet", "--bare", "--initial-branch=main", "--template=", "--", path); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "making the repository %s: %w", path, err)
	}
	for _, setting := range [][2]string{
		// A run fetches the commit that was approved, whatever the branch is now.
		{"uploadpack.allowAnySHA1InWant", "true"},
		// Nothing that was ever approved may be collected.
		{"gc.auto", "0"}, {"gc.pruneExpire", "never"}, {"receive.autogc", "false"},
		// When a branch came to a commit is not in the commit.
		{"core.logAllRefUpdates", "true"},
	} {
		if _, err := g.run(ctx, path, "config", setting[0], setting[1]); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "setting up the repository %s: %w", path, err)
		}
	}
	return nil
}

// head returns the commit that a branch points at, "" when there is no such branch.
func (g git) head(ctx context.Context, path, branch string) (ccci.Commit, error) {
	out, err := g.run(ctx, path, "rev-parse", "--verify", "--quiet", "refs/heads/"+branch+"^{commit}")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 && ctx.Err() == nil {
		return "", nil
	}
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "reading the branch %s of %s: %w", branch, path, err)
	}
	return ccci.Commit(out), nil
}

// has reports whether the repository holds a commit.
func (g git) has(ctx context.Context, path string, commit ccci.Commit) (bool, error) {
	if !commit.Valid() {
		return false, nil
	}
	_, err := g.run(ctx, path, "cat-file", "-e", string(commit)+"^{commit}")
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}
