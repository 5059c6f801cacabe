package gitea

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// PullRequest implements [ccci.Forge]. Its clone URL is the base repository's: that
// keeps the head of a fork as refs/pull/N/head and gives out any commit by its full
// name, so that no access to the fork is needed, and its being deleted does not matter.
func (f *Forge) PullRequest(ctx context.Context, pr ccci.PRRef) (ccci.PullRequest, error) {
	var p struct {
		Number int      `json:"number"`
		Title  string   `json:"title"`
		User   *account `json:"user"`
		State  string   `json:"state"`
		Merged bool     `json:"merged"`
		Head   struct {
			Ref string      `json:"ref"`
			SHA ccci.Commit `json:"sha"`
		} `json:"head"`
		Base struct {
			Ref string `json:"ref"`
		} `json:"base"`
	}
	if err := f.get(ctx, repoPath(pr.Repo, "/pulls/%d", pr.Number), nil, &p); err != nil {
		return ccci.PullRequest{}, fmt.Errorf("reading %s: %w", pr, err)
	}
	if p.Number != pr.Number || !p.Head.SHA.Valid() {
		return ccci.PullRequest{}, fmt.Errorf("reading %s: the answer names no head", pr)
	}
	out := ccci.PullRequest{
		Ref: pr, Title: p.Title, Open: p.State == "open" && !p.Merged, Head: p.Head.SHA, Branch: p.Head.Ref, Base: p.Base.Ref,
		CloneURL: f.cloneURL(pr.Repo), URL: fmt.Sprintf("%s/%s/pulls/%d", f.base, pr.Repo, pr.Number),
	}
	if p.User != nil {
		out.Author = p.User.user()
	}
	return out, nil
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
