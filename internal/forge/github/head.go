package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// GitHub does not record a pull request's head with a comment, so the head at
// that time is proven from several of its records, strongest first:
//
//  1. the activity of the head's repository: every push to the branch with its
//     time, what was there before and after. It proves both yes and no.
//  2. the ledger: we saw this head before the comment and it is the head now, and
//     no forced push lies between, so that it cannot have been away.
//  3. check suites, where the branch is in the repository itself: the commit was
//     known before the comment. Whoever pushes there may write anyway. A fork's
//     author could make the commit known beforehand, so for a fork this proves nothing.
//
// Forced pushes since the comment refuse in any case. Times are all GitHub's and
// in whole seconds; the same second counts as after. Commit dates and the pull
// request's own updated_at are never believed.

// settling is how long GitHub's records of one event may disagree.
const settling = 2 * time.Minute

// skew is allowed between the clocks behind two kinds of records.
const skew = 2 * time.Second

// moment is everything about one question.
type moment struct {
	pr      ccci.PRRef
	comment ccci.CommentID
	at      time.Time // when it was written
	asked   time.Time // now
	pull    *gh.PullRequest
	head    ccci.Commit // now
	forced  []time.Time // forced pushes of the pull request
}

// HeadAt implements [ccci.Forge].
func (f *Forge) HeadAt(ctx context.Context, pr ccci.PRRef, comment ccci.Comment) (ccci.Commit, error) {
	m, err := f.moment(ctx, pr, comment)
	if err != nil {
		return "", err
	}
	then, why, err := f.headByActivity(ctx, m)
	if err != nil {
		return then, err // with the old head where it was away and came back
	}
	if then == "" {
		var more string
		if then, more, err = f.headByLedger(ctx, m); err != nil {
			return "", err
		}
		why += "; " + more
	}
	if then == "" && len(m.forcedSince(m.at)) == 0 {
		var more string
		if then, more, err = f.headBySuites(ctx, m); err != nil {
			return "", err
		}
		why += "; " + more
	}
	switch {
	case then == "":
		return "", m.unknown("%s", why)
	case then == m.head && len(m.forcedSince(m.at)) > 0:
		return "", m.unknown("it was force-pushed since, and GitHub's other records do not show it")
	case then != m.head:
		return then, fmt.Errorf("%s, comment %s: %w", pr, comment.ID, ccci.ErrHeadMoved)
	}
	return then, nil
}

func (m *moment) unknown(format string, args ...any) error {
	return ccci.Errorf(ccci.CodeRefused, "%s, comment %s: %w: %s", m.pr, m.comment, ccci.ErrHeadUnknown, fmt.Sprintf(format, args...)).
		WithHint("comment again, naming the commit: !testme %s", m.head)
}

// moment reads the comment as GitHub has it, whose time counts, the pull request
// and its forced pushes.
func (f *Forge) moment(ctx context.Context, pr ccci.PRRef, comment ccci.Comment) (*moment, error) {
	m := &moment{pr: pr, comment: comment.ID}
	row, err := f.comment(ctx, pr, comment.ID)
	if errors.Is(err, ccci.ErrNotFound) {
		if _, _, err := f.pull(ctx, pr); err != nil {
			return nil, err
		}
		return nil, m.unknown("there is no such comment on it")
	}
	if err != nil {
		return nil, err
	}
	m.at = row.Created.UTC()
	if m.pull, m.asked, err = f.pull(ctx, pr); err != nil {
		return nil, err
	}
	m.head = ccci.Commit(m.pull.GetHead().GetSHA())
	m.forced, err = f.forcedPushes(ctx, pr)
	return m, err
}

// comment reads one comment of a pull request; another one's is ErrNotFound.
func (f *Forge) comment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID) (issueComment, error) {
	activity := fmt.Sprintf("reading comment %s on %s", id, pr)
	number, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil || number <= 0 {
		return issueComment{}, fmt.Errorf("%s: %w", activity, ccci.ErrNotFound)
	}
	var row issueComment
	if _, err := f.read(ctx, repoPath(pr.Repo, "/issues/comments/%d", number), nil, false, &row); err != nil {
		return issueComment{}, f.fail(activity, err)
	}
	if on, ok := row.pull(); row.ID != number || !ok || on != pr.Number {
		return issueComment{}, fmt.Errorf("%s: it is on another one: %w", activity, ccci.ErrNotFound)
	}
	return row, nil
}

func (m *moment) forcedSince(t time.Time) []time.Time {
	var since []time.Time
	for _, at := range m.forced {
		if !at.Before(t) {
			since = append(since, at)
		}
	}
	return since
}

// pages bounds how much of one pull request's history is read for one question.
const pages = 20

// forcedPushes reads the times of forced pushes from the timeline, oldest first.
func (f *Forge) forcedPushes(ctx context.Context, pr ccci.PRRef) ([]time.Time, error) {
	var forced []time.Time
	var whole bool
	err := inPages(func(size int) error {
		forced = nil
		for page := 1; page <= pages*pageSize/size; page++ {
			var events []struct {
				Event   string    `json:"event"`
				Created time.Time `json:"created_at"`
			}
			_, err := f.read(ctx, repoPath(pr.Repo, "/issues/%d/timeline", pr.Number),
				url.Values{"per_page": {strconv.Itoa(size)}, "page": {strconv.Itoa(page)}}, true, &events)
			if err != nil {
				return err
			}
			for _, e := range events {
				if e.Event == "head_ref_force_pushed" {
					forced = append(forced, e.Created.UTC())
				}
			}
			if whole = len(events) < size; whole {
				return nil
			}
		}
		return nil
	})
	activity := "reading the timeline of " + pr.String()
	switch {
	case err != nil && !errors.Is(err, errTooLong):
		return nil, f.fail(activity, err)
	case err != nil || !whole:
		return nil, ccci.Errorf(ccci.CodeRefused, "%s: %w: it has more than %d entries, or too long ones", activity, ccci.ErrHeadUnknown, pages*pageSize).
			WithHint("open a new pull request")
	}
	return forced, nil
}

// push is an entry of a repository's activity.
type push struct {
	Before ccci.Commit `json:"before"`
	After  ccci.Commit `json:"after"`
	Ref    string      `json:"ref"`
	Time   time.Time   `json:"timestamp"`
}

// headByActivity returns "" and the reason where the activity proves nothing.
func (f *Forge) headByActivity(ctx context.Context, m *moment) (ccci.Commit, string, error) {
	head := m.pull.GetHead()
	if head.Repo == nil {
		return "", "the repository of the head is gone", nil
	}
	repo := ccci.RepoRef{Owner: head.GetRepo().GetOwner().GetLogin(), Name: head.GetRepo().GetName()}
	ref := "refs/heads/" + head.GetRef()
	query := url.Values{"ref": {ref}, "per_page": {strconv.Itoa(pageSize)}}
	var newest, first *push // the newest of all; the first at or after the comment
	for range pages {
		var pushes []push
		resp, err := f.read(ctx, repoPath(repo, "/activity"), query, true, &pushes)
		if status := statusOf(err); status == http.StatusNotFound || status == http.StatusForbidden || status == http.StatusUnprocessableEntity {
			return "", fmt.Sprintf("the pushes to %s cannot be read", repo), nil
		} else if err != nil {
			return "", "", f.fail("reading the pushes to "+repo.String(), err)
		}
		for i := range pushes {
			p := &pushes[i]
			if p.Ref != ref {
				continue
			}
			if newest == nil {
				newest = p
			}
			if p.Time.Before(m.at) {
				return f.judgePushes(m, newest, first, p)
			}
			first = p
		}
		if resp.After == "" {
			break
		}
		query.Set("after", resp.After)
	}
	if first != nil {
		return f.judgePushes(m, newest, first, nil)
	}
	return "", "GitHub has no record of pushes to the branch", nil
}

// judgePushes draws the conclusion: first is the first push since the comment, last
// the last one before it; either may be nil, not both.
func (f *Forge) judgePushes(m *moment, newest, first, last *push) (ccci.Commit, string, error) {
	if newest.After != m.head {
		// One of two records is behind. Soon they agree; a person need not know.
		if m.asked.Sub(m.at) < settling {
			return "", "", ccci.Errorf(ccci.CodeInfra, "reading the pushes to %s: GitHub's records do not agree yet", m.pr)
		}
		if first == nil {
			return "", "", m.unknown("GitHub's record of pushes ends with %s and its pull request with %s", newest.After.Short(), m.head.Short())
		}
	}
	switch {
	case first == nil:
		return last.After, "", nil
	case last != nil && last.After != first.Before:
		return "", "", m.unknown("GitHub's record of pushes has a gap")
	case !first.Before.Valid() || isZero(first.Before):
		return "", "", m.unknown("the branch was made after the comment")
	}
	then := first.Before
	if then == m.head { // away and back again
		return then, "", fmt.Errorf("%s, comment %s: %w", m.pr, m.comment, ccci.ErrHeadMoved)
	}
	return then, "", nil
}

func isZero(c ccci.Commit) bool {
	for _, r := range c {
		if r != '0' {
			return false
		}
	}
	return true
}

func (f *Forge) headByLedger(ctx context.Context, m *moment) (ccci.Commit, string, error) {
	seen, err := f.opts.Ledger.Sightings(ctx, m.pr)
	if err != nil {
		return "", "", fmt.Errorf("reading the heads that %s was seen with: %w", m.pr, err)
	}
	// The sighting that the comment falls into, or that is the last one before it.
	i := len(seen) - 1
	for i >= 0 && !seen[i].First.Before(m.at) {
		i--
	}
	if i < 0 {
		return "", "we did not see it before the comment", nil
	}
	s := seen[i]
	since := s.First
	if s.Last.Before(m.at) {
		since = s.Last
	}
	if s.Last.After(m.at) || i == len(seen)-1 && s.Head == m.head {
		// It was the head before and after. Only a forced push leads away and back.
		for _, at := range m.forced {
			if !at.Before(since) && (s.Head == m.head || !at.After(s.Last)) {
				return "", "it was force-pushed around the time of the comment", nil
			}
		}
		return s.Head, "", nil
	}
	return "", "it was pushed to around the time of the comment", nil
}

func (f *Forge) headBySuites(ctx context.Context, m *moment) (ccci.Commit, string, error) {
	head, base := m.pull.GetHead().GetRepo().GetID(), m.pull.GetBase().GetRepo().GetID()
	var list struct {
		Suites []struct {
			Head    ccci.Commit `json:"head_sha"`
			Created time.Time   `json:"created_at"`
		} `json:"check_suites"`
	}
	_, err := f.read(ctx, repoPath(m.pr.Repo, "/commits/%s/check-suites", m.head), url.Values{"per_page": {strconv.Itoa(pageSize)}}, true, &list)
	if status := statusOf(err); status == http.StatusNotFound || status == http.StatusForbidden || status == http.StatusUnprocessableEntity {
		return "", "its check suites cannot be read", nil
	} else if err != nil {
		return "", "", f.fail("reading the check suites of "+m.head.Short(), err)
	}
	var first time.Time
	for _, s := range list.Suites {
		if s.Head == m.head && (first.IsZero() || s.Created.Before(first)) {
			first = s.Created
		}
	}
	switch {
	case first.IsZero():
		return "", "no check suite says when its commit came", nil
	case !first.Before(m.at.Add(-skew)):
		return "", "its commit came after the comment", nil
	case head == 0 || head != base:
		return "", "it comes from a fork", nil
	}
	return m.head, "", nil
}
