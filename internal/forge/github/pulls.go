package github

import (
	"context"
	"hash/fnv"
	"io"
	"net/url"
	"strconv"
	"time"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// PullRequest implements [ccci.Forge]. CloneURL is the base repository's, which
// serves the heads of forks too, also those that are on no branch any more.
func (f *Forge) PullRequest(ctx context.Context, pr ccci.PRRef) (ccci.PullRequest, error) {
	p, _, err := f.pull(ctx, pr)
	if err != nil {
		return ccci.PullRequest{}, err
	}
	return ccci.PullRequest{
		Ref: pr, Title: p.GetTitle(), Author: userOf(p.GetUser()), Open: p.GetState() == "open",
		Head: ccci.Commit(p.GetHead().GetSHA()), Branch: p.GetHead().GetRef(), Base: p.GetBase().GetRef(),
		Fork:     p.GetHead().GetRepo().GetID() != p.GetBase().GetRepo().GetID(),
		CloneURL: p.GetBase().GetRepo().GetCloneURL(), URL: p.GetHTMLURL(),
	}, nil
}

// Merge implements [ccci.Forge].
func (f *Forge) Merge(ctx context.Context, pr ccci.PRRef, tested ccci.Commit) (ccci.Merge, error) {
	p, _, err := f.pull(ctx, pr)
	if err != nil || !p.GetMerged() {
		return ccci.Merge{}, err
	}
	m := ccci.Merge{Branch: p.GetBase().GetRef(), Commit: ccci.Commit(p.GetMergeCommitSHA()), At: p.GetMergedAt().Time}
	if !m.Commit.Valid() {
		return ccci.Merge{}, ccci.Errorf(ccci.CodeInfra, "reading %s: GitHub's answer does not name the commit that it was merged as", pr)
	}
	m.Default = m.Branch != "" && m.Branch == p.GetBase().GetRepo().GetDefaultBranch()
	return m.Compare(tested, func(commit ccci.Commit) (string, error) { return f.tree(ctx, pr.Repo, commit) })
}

// tree returns the name of a commit's tree: equal names are equal files.
func (f *Forge) tree(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit) (string, error) {
	c := new(gh.Commit)
	if _, err := f.read(ctx, repoPath(repo, "/git/commits/%s", commit), nil, false, c); err != nil {
		return "", f.fail("reading commit "+commit.Short()+" of "+repo.String(), err)
	}
	if c.GetTree().GetSHA() == "" {
		return "", ccci.Errorf(ccci.CodeInfra, "reading commit %s of %s: GitHub's answer names no tree", commit.Short(), repo)
	}
	return c.GetTree().GetSHA(), nil
}

// pull reads a pull request, and notes the head it was seen with. The time is GitHub's.
func (f *Forge) pull(ctx context.Context, pr ccci.PRRef) (*gh.PullRequest, time.Time, error) {
	p := new(gh.PullRequest)
	resp, err := f.read(ctx, repoPath(pr.Repo, "/pulls/%d", pr.Number), nil, false, p)
	if err != nil {
		return nil, time.Time{}, f.fail("reading "+pr.String(), err)
	}
	head := ccci.Commit(p.GetHead().GetSHA())
	if p.GetNumber() != pr.Number || !head.Valid() {
		return nil, time.Time{}, ccci.Errorf(ccci.CodeInfra, "reading %s: GitHub's answer is about number %d with head %q", pr, p.GetNumber(), head)
	}
	date, ok := serverTime(resp)
	if ok {
		f.observe(ctx, pr, head, date)
	}
	return p, date, nil
}

// look lists a repository's open pull requests for the ledger, now and then.
// It is an aid: what goes wrong here is logged.
func (f *Forge) look(ctx context.Context, repo ccci.RepoRef) {
	if f.opts.LedgerEvery < 0 {
		return
	}
	now := f.opts.Now()
	f.mu.Lock()
	if _, known := f.looked[repo]; !known { // spread over the time, so that not all are due in one sweep
		sum := fnv.New64a()
		io.WriteString(sum, repo.String())
		f.looked[repo] = now.Add(-time.Duration(sum.Sum64() % uint64(f.opts.LedgerEvery)))
	}
	due := now.Sub(f.looked[repo]) >= f.opts.LedgerEvery
	if due {
		f.looked[repo] = now
	}
	f.mu.Unlock()
	if !due {
		return
	}
	var pulls []*gh.PullRequest
	resp, err := f.read(ctx, repoPath(repo, "/pulls"), url.Values{
		"state": {"open"}, "sort": {"updated"}, "direction": {"desc"}, "per_page": {strconv.Itoa(pageSize)},
	}, false, &pulls)
	date, ok := serverTime(resp)
	if err != nil || !ok {
		f.log.Debug("looking at the heads of open pull requests", "repository", repo, "error", err)
		return
	}
	var open []int
	for _, p := range pulls {
		f.observe(ctx, ccci.PRRef{Repo: repo, Number: p.GetNumber()}, ccci.Commit(p.GetHead().GetSHA()), date)
		open = append(open, p.GetNumber())
	}
	f.mu.Lock()
	f.open[repo] = open
	f.mu.Unlock()
}

func (f *Forge) observe(ctx context.Context, pr ccci.PRRef, head ccci.Commit, at time.Time) {
	if !head.Valid() || pr.Number <= 0 {
		return
	}
	if err := f.opts.Ledger.Observe(ctx, pr, head, at); err != nil {
		f.log.Warn("noting the head of a pull request", "pr", pr, "error", err)
	}
}
