package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// baseTip is the local name of the pull request's target branch.
const baseTip = "refs/cc-ci/base"

// checkout is one run's own clone: nothing that happens to another one can
// change what is tested here.
type checkout struct {
	dir    string
	limits gitcmd.Limits
}

// fetch makes a clone within dir that holds all tags and what refs, refspecs or full
// commits, name at url. A repository beyond the limits is refused.
func fetch(ctx context.Context, dir, url string, limits gitcmd.Limits, refs ...string) (*checkout, error) {
	c := &checkout{filepath.Join(dir, "git"), limits}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the checkout folder: %w", err)
	}
	if _, err := c.git(ctx, "init", "--quiet", "--bare", "--template="); err != nil {
		return nil, err
	}
	err := gitcmd.Fetch(ctx, c.dir, url, gitcmd.FetchOptions{Refs: refs, Tags: true, Limits: limits})
	if ccci.CodeOf(err) == ccci.CodeRefused {
		return nil, fmt.Errorf("fetching from %s: %w", url, err)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "fetching from %s: %w", url, err).
			WithHint("is the repository reachable, and does it still hold what is asked for?")
	}
	return c, nil
}

// fetchJob makes a clone that holds the commit under test, all tags and, when
// there is one, the tip of the target branch.
func fetchJob(ctx context.Context, dir string, job ccci.Job, limits gitcmd.Limits) (*checkout, error) {
	if !job.Commit.Valid() {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%q is not a full commit", job.Commit)
	}
	refs := []string{string(job.Commit)}
	if job.BaseRef != "" {
		refs = append(refs, "+refs/heads/"+job.BaseRef+":"+baseTip)
	}
	c, err := fetch(ctx, dir, job.CloneURL, limits, refs...)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", job.Commit.Short(), err)
	}
	return c, nil
}

// tree lays out the files of a commit and proves that they are that commit's. A commit
// beyond the limits, or with a name or a link that is not allowed, is refused.
func (c *checkout) tree(ctx context.Context, name string, commit ccci.Commit) (string, error) {
	dir := filepath.Join(filepath.Dir(c.dir), name)
	err := gitcmd.CheckOut(ctx, c.dir, dir, string(commit), c.limits)
	if ccci.CodeOf(err) == ccci.CodeRefused {
		return "", fmt.Errorf("checking out %s: %w", commit.Short(), err)
	}
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInfra, "checking out %s: %w", commit.Short(), err)
	}
	at, err := (&checkout{dir: dir}).resolve(ctx, "HEAD")
	if err != nil || at != commit {
		return "", ccci.Errorf(ccci.CodeInfra, "the checkout is at %s instead of %s", at, commit)
	}
	return dir, nil
}

// resolve returns the commit that a revision names, or ErrNotFound.
func (c *checkout) resolve(ctx context.Context, revision string) (ccci.Commit, error) {
	out, err := c.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("revision %q: %w", revision, ccci.ErrNotFound)
	}
	return ccci.Commit(out), nil
}

// sameTree reports whether two commits hold the same files.
func (c *checkout) sameTree(ctx context.Context, a, b ccci.Commit) bool {
	x, errX := c.git(ctx, "rev-parse", "--verify", string(a)+"^{tree}")
	y, errY := c.git(ctx, "rev-parse", "--verify", string(b)+"^{tree}")
	return errX == nil && errY == nil && x == y
}

// contains reports whether the history of a commit has an older one in it.
func (c *checkout) contains(ctx context.Context, commit, older ccci.Commit) bool {
	_, err := c.git(ctx, "merge-base", "--is-ancestor", string(older), string(commit))
	return err == nil
}

func (c *checkout) git(ctx context.Context, args ...string) (string, error) {
	return gitcmd.Run(ctx, c.dir, args...)
}
