package github

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

type checkKey struct {
	repo    ccci.RepoRef
	commit  ccci.Commit
	context string
}

// SetStatus implements [ccci.Forge]. As an App it sets a check run of the same name
// too, unless told otherwise.
func (f *Forge) SetStatus(ctx context.Context, repo ccci.RepoRef, commit ccci.Commit, status ccci.CommitStatus) error {
	activity := fmt.Sprintf("setting the status of %s in %s", commit.Short(), repo)
	switch status.State {
	case ccci.StatePending, ccci.StateSuccess, ccci.StateFailure, ccci.StateError:
	default:
		return ccci.Errorf(ccci.CodeInvalid, "%s: %q is not a state", activity, status.State)
	}
	if n := len([]rune(status.Description)); n > 140 || status.Context == "" {
		return ccci.Errorf(ccci.CodeInvalid, "%s: it needs a context, and a description of at most 140 characters (it has %d)", activity, n)
	}
	if !commit.Valid() {
		return ccci.Errorf(ccci.CodeInvalid, "%s: %q is not a commit", activity, commit)
	}
	wanted := &gh.RepoStatus{State: gh.String(string(status.State)), Context: gh.String(status.Context), Description: gh.String(status.Description)}
	if status.URL != "" {
		wanted.TargetURL = gh.String(status.URL)
	}
	_, _, err := f.client.Repositories.CreateStatus(ctx, repo.Owner, repo.Name, string(commit), wanted)
	if err != nil {
		err = f.fail(activity, err)
		if strings.Contains(err.Error(), "No commit found") { // 422
			return fmt.Errorf("%s: %w", activity, ccci.ErrNotFound)
		}
		return err
	}
	if f.asApp == nil || f.opts.NoCheckRuns {
		return nil
	}
	if err := f.setCheck(ctx, checkKey{repo, commit, status.Context}, status); err != nil {
		return f.fail("setting the check run of "+commit.Short(), err)
	}
	return nil
}

// setCheck brings the check run up to date; a new attempt gets a new one.
func (f *Forge) setCheck(ctx context.Context, key checkKey, status ccci.CommitStatus) error {
	id, done, err := f.findCheck(ctx, key)
	if err != nil {
		return err
	}
	now := "completed"
	conclusion := new(string)
	switch status.State {
	case ccci.StatePending:
		now, conclusion = "in_progress", nil
	case ccci.StateSuccess:
		*conclusion = "success"
	case ccci.StateFailure:
		*conclusion = "failure"
	default:
		*conclusion = "cancelled" // not the pull request's fault, and not a pass
	}
	title := status.Description
	if title == "" {
		title = string(status.State)
	}
	output := &gh.CheckRunOutput{Title: &title, Summary: &title}
	var page *string
	if strings.HasPrefix(status.URL, "https://") || strings.HasPrefix(status.URL, "http://") {
		page = &status.URL
	}
	if id != 0 && !(done && status.State == ccci.StatePending) {
		_, _, err = f.client.Checks.UpdateCheckRun(ctx, key.repo.Owner, key.repo.Name, id, gh.UpdateCheckRunOptions{
			Name: key.context, Status: &now, Conclusion: conclusion, DetailsURL: page, Output: output,
		})
	} else {
		var made *gh.CheckRun
		made, _, err = f.client.Checks.CreateCheckRun(ctx, key.repo.Owner, key.repo.Name, gh.CreateCheckRunOptions{
			Name: key.context, HeadSHA: string(key.commit), Status: &now, Conclusion: conclusion, DetailsURL: page, Output: output,
		})
		id = made.GetID()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || now == "completed" {
		delete(f.checks, key) // looked up next time
		return err
	}
	f.checks[key] = id
	bound(f.checks)
	return nil
}

// findCheck returns the newest check run of that name that this App made, or 0.
func (f *Forge) findCheck(ctx context.Context, key checkKey) (id int64, done bool, err error) {
	f.mu.Lock()
	id = f.checks[key]
	f.mu.Unlock()
	if id != 0 {
		return id, false, nil
	}
	var list struct {
		Runs []struct {
			ID     int64  `json:"id"`
			Status string `json:"status"`
			App    struct {
				ID       int64  `json:"id"`
				ClientID string `json:"client_id"`
			} `json:"app"`
		} `json:"check_runs"`
	}
	_, err = f.read(ctx, repoPath(key.repo, "/commits/%s/check-runs", key.commit),
		url.Values{"check_name": {key.context}, "filter": {"latest"}, "per_page": {strconv.Itoa(pageSize)}}, true, &list)
	if statusOf(err) == http.StatusNotFound {
		return 0, false, nil
	}
	for _, run := range list.Runs {
		own := strconv.FormatInt(run.App.ID, 10) == f.opts.App.ID || run.App.ClientID == f.opts.App.ID
		if own && run.ID > id {
			id, done = run.ID, run.Status == "completed"
		}
	}
	return id, done, err
}
