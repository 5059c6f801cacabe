package gitea

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// How much of what a forge has noted of pushes is read, the newest first. A merge is asked about within an hour
// or, where the pull request was tested weeks ago, a few.
const (
	feedPages = 6
	feedText  = 32 << 10 // bytes of one note; in a longer one no commit is found
)

// wasHead reports whether the base of a merged pull request was at the commit that it is said to be merged as, and since when.
//
// The proof is a push that the forge has noted, or that the branch is there now. Nothing is noted for
// cc-ci's account of a person who keeps their activity private, and by forges that are old. So a commit that
// is not the pull request's own head, which a merge by Gitea makes, needs no proof: it counts unless a
// push is noted that brought it along below another one.
func (f *Forge) wasHead(ctx context.Context, repo ccci.RepoRef, p pull) (at time.Time, was bool, err error) {
	at, below, err := f.pushed(ctx, repo, p.Base.Ref, p.MergedAs)
	switch {
	case err != nil:
		return at, false, err
	case !at.IsZero(): // that of the merge is, where it was a push, the author's of the commit, who chooses it
		return at, true, nil
	case !below && p.MergedAs != p.Head.SHA:
		return p.MergedAt, true, nil
	}
	var branch struct {
		Commit struct {
			ID ccci.Commit `json:"id"`
		} `json:"commit"`
	}
	err = f.get(ctx, repoPath(repo, "/branches/%s", url.PathEscape(p.Base.Ref)), nil, &branch)
	if statusOf(err) == http.StatusNotFound {
		return at, false, nil // it was removed since
	}
	if err != nil {
		return at, false, fmt.Errorf("reading branch %q of %s: %w", p.Base.Ref, repo, err)
	}
	return p.MergedAt, branch.Commit.ID == p.MergedAs, nil
}

// activity is one that a forge has noted.
type activity struct {
	Kind    string    `json:"op_type"`
	Ref     string    `json:"ref_name"`
	Content string    `json:"content"`
	Created time.Time `json:"created"`
}

// pushed returns when a branch was last pushed to a commit, as far as that is noted. below says that it is not, and that
// a push of another commit brought it along.
func (f *Forge) pushed(ctx context.Context, repo ccci.RepoRef, branch string, commit ccci.Commit) (at time.Time, below bool, err error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	for page := 1; page <= feedPages && at.IsZero(); page++ {
		query.Set("page", strconv.Itoa(page))
		rows := 0
		_, err := f.do(ctx, http.MethodGet, repoPath(repo, "/activities/feeds"), query, nil, wanted{keep: feedText, out: each[activity](func(a activity) {
			rows++
			if a.Kind != "commit_repo" || a.Ref != "refs/heads/"+branch || !at.IsZero() {
				return
			}
			type named struct{ Sha1 ccci.Commit }
			var push struct {
				HeadCommit named
				Commits    []named // the last few of them
			}
			if json.Unmarshal([]byte(a.Content), &push) != nil {
				return
			}
			if push.HeadCommit.Sha1 == commit {
				at = a.Created
			}
			below = below || slices.Contains(push.Commits, named{commit})
		})})
		if status := statusOf(err); status == http.StatusNotFound || status == http.StatusForbidden || errors.Is(err, errTooLarge) {
			return at, below, nil // nothing of it is shown
		}
		if err != nil {
			return at, false, fmt.Errorf("reading the pushes to %s: %w", repo, err)
		}
		if rows == 0 {
			break
		}
	}
	return at, below, nil
}
