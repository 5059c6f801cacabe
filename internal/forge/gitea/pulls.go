package gitea

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// PullRequest implements [ccci.Forge]. Its clone URL is the base repository's: that
// keeps the head of a fork as refs/pull/N/head and gives out any commit by its full
// name, so that no access to the fork is needed, and its being deleted does not matter.
func (f *Forge) PullRequest(ctx context.Context, pr ccci.PRRef) (ccci.PullRequest, error) {
	p, err := f.pull(ctx, pr)
	if err != nil {
		return ccci.PullRequest{}, err
	}
	out := ccci.PullRequest{
		Ref: pr, Title: p.Title, Open: p.State == "open" && !p.Merged, Head: p.Head.SHA, Branch: p.Head.Ref, Base: p.Base.Ref,
		// A push to refs/for/ by who may only read makes a pull request (AGit). Its head is a ref of
		// the base repository, and none of its branches.
		Fork:     p.Head.RepoID != p.Base.RepoID || p.Base.RepoID == 0 || strings.HasPrefix(p.Head.Ref, "refs/"),
		CloneURL: f.cloneURL(pr.Repo), URL: fmt.Sprintf("%s/%s/pulls/%d", f.base, pr.Repo, pr.Number),
	}
	if p.User != nil {
		out.Author = p.User.user()
	}
	return out, nil
}

// pull is a pull request as Gitea answers it.
type pull struct {
	Number int      `json:"number"`
	Title  string   `json:"title"`
	User   *account `json:"user"`
	State  string   `json:"state"`
	Head   struct {
		Ref    string      `json:"ref"`
		SHA    ccci.Commit `json:"sha"`
		RepoID int64       `json:"repo_id"`
	} `json:"head"`
	Base struct {
		Ref    string `json:"ref"`
		RepoID int64  `json:"repo_id"`
		Repo   struct {
			Branch string `json:"default_branch"`
		} `json:"repo"`
	} `json:"base"`
	Merged   bool        `json:"merged"`
	MergedAt time.Time   `json:"merged_at"`
	MergedAs ccci.Commit `json:"merge_commit_sha"` // the head of the base after the merge, in every way in which Gitea merges
}

func (f *Forge) pull(ctx context.Context, pr ccci.PRRef) (pull, error) {
	var p pull
	if err := f.get(ctx, repoPath(pr.Repo, "/pulls/%d", pr.Number), nil, &p); err != nil {
		return p, fmt.Errorf("reading %s: %w", pr, err)
	}
	if p.Number != pr.Number || !p.Head.SHA.Valid() {
		return p, fmt.Errorf("reading %s: the answer names no head", pr)
	}
	return p, nil
}

// Merge implements [ccci.Forge]. Gitea merges pull requests itself, and in a repository with "Autodetect manual
// merge" it also takes a push for the merge of each pull request whose head it brings along. Then it names as the commit
// of the merge that head, or a merge on top of it, also where the branch never was at it: of two
// pull requests on top of each other, pushed at once, the lower one. See merges.go.
func (f *Forge) Merge(ctx context.Context, pr ccci.PRRef, tested ccci.Commit) (ccci.Merge, error) {
	p, err := f.pull(ctx, pr)
	if err != nil || !p.Merged {
		return ccci.Merge{}, err
	}
	if !p.MergedAs.Valid() {
		return ccci.Merge{}, ccci.Errorf(ccci.CodeInfra, "reading %s: the answer does not name the commit that it was merged as", pr)
	}
	at, was, err := f.wasHead(ctx, pr.Repo, p)
	if err != nil || !was {
		return ccci.Merge{}, err
	}
	m := ccci.Merge{Branch: p.Base.Ref, Default: p.Base.Ref != "" && p.Base.Ref == p.Base.Repo.Branch, Commit: p.MergedAs, At: at}
	return m.Compare(tested, func(commit ccci.Commit) (string, error) { return f.tree(ctx, pr.Repo, commit) })
}

// tree returns what names the files of a commit: the entries of its tree, each with its object's
// name. Gitea's answers do not give the name of the tree itself, but that of the commit again.
func (f *Forge) tree(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit) (string, error) {
	var answer struct {
		Tree []struct {
			Path string `json:"path"`
			Mode string `json:"mode"`
			SHA  string `json:"sha"`
		} `json:"tree"`
		Truncated bool `json:"truncated"`
	}
	if err := f.get(ctx, repoPath(repo, "/git/trees/%s", commit), nil, &answer); statusOf(err) == http.StatusBadRequest { // so it says that it has no such commit
		return "", fmt.Errorf("reading the files of commit %s of %s: %w: %w", commit.Short(), repo, ccci.ErrNotFound, err)
	} else if err != nil {
		return "", fmt.Errorf("reading the files of commit %s of %s: %w", commit.Short(), repo, err)
	}
	if len(answer.Tree) == 0 {
		return "", ccci.Errorf(ccci.CodeInfra, "reading the files of commit %s of %s: the answer names none", commit.Short(), repo)
	}
	if answer.Truncated { // nothing can be proven of the rest
		return "", fmt.Errorf("reading the files of commit %s of %s: there are too many: %w", commit.Short(), repo, ccci.ErrNotFound)
	}
	var entries strings.Builder
	for _, e := range answer.Tree {
		if !ccci.Commit(e.SHA).Valid() {
			return "", ccci.Errorf(ccci.CodeInfra, "reading the files of commit %s of %s: the answer does not name %q", commit.Short(), repo, e.Path)
		}
		fmt.Fprintf(&entries, "%s %s %q\n", e.Mode, e.SHA, e.Path)
	}
	return entries.String(), nil
}

// statusLimit is the port's bound of a description, in characters.
const statusLimit = 140

// SetStatus implements [ccci.Forge].
func (f *Forge) SetStatus(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit, status ccci.CommitStatus) error {
	activity := fmt.Sprintf("setting the status of %s in %s", commit.Short(), repo)
	if !commit.Valid() {
		return ccci.Errorf(ccci.CodeInvalid, "%s: it is not a full commit name", activity)
	}
	switch status.State {
	case ccci.StatePending, ccci.StateSuccess, ccci.StateFailure, ccci.StateError:
	default:
		return ccci.Errorf(ccci.CodeInvalid, "%s: there is no state %q", activity, status.State)
	}
	if text := []rune(status.Description); len(text) > statusLimit {
		status.Description = string(text[:statusLimit-1]) + "…"
	}
	in := map[string]string{"context": status.Context, "state": string(status.State), "description": status.Description, "target_url": status.URL}
	var made struct {
		ID int64 `json:"id"`
	}
	if err := f.send(ctx, http.MethodPost, repoPath(repo, "/statuses/%s", commit), in, &made); err != nil {
		return fmt.Errorf("%s: %w", activity, err)
	}
	if made.ID <= 0 {
		return fmt.Errorf("%s: the answer has no number", activity)
	}
	return nil
}

// userNumber reads a User.ID, in the one way that it is written.
func userNumber(user ccci.User) (int64, bool) {
	n, err := strconv.ParseInt(user.ID, 10, 64)
	return n, err == nil && n > 0 && strconv.FormatInt(n, 10) == user.ID
}
