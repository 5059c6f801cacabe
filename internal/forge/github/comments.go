package github

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// issueComment has the fields that are read; the library's own type lacks the last two.
type issueComment struct {
	ID   int64  `json:"id"`
	Body string `json:"body"`
	User *struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
		Type  string `json:"type"`
	} `json:"user"` // null when the account was deleted
	HTMLURL   string          `json:"html_url"`
	IssueURL  string          `json:"issue_url"`
	Created   time.Time       `json:"created_at"`
	Updated   time.Time       `json:"updated_at"`
	Minimized json.RawMessage `json:"minimized"`
	App       json.RawMessage `json:"performed_via_github_app"`
}

const (
	pageSize = 100
	// overlap is how far before the cursor is asked: GitHub promises neither that
	// a list shows what was just written, nor whether `since` is inclusive.
	overlap = 2 * time.Minute
)

// Comments implements [ccci.Forge]. The cursor holds the youngest updated_at that
// was seen, in GitHub's time. As long as nothing happens the request stays the
// same, and so does GitHub's answer, 304.
func (f *Forge) Comments(ctx context.Context, repo ccci.RepoRef, since ccci.Cursor) ([]ccci.Comment, ccci.Cursor, error) {
	p, err := parsePosition(since)
	if err != nil {
		return nil, "", ccci.Errorf(ccci.CodeInvalid, "reading comments of %s: %q is not a cursor of GitHub: %w", repo, since, err)
	}
	var from time.Time
	if !p.mark.IsZero() {
		from = p.mark.Add(-overlap)
	}
	f.recall(ctx, repo, p)
	activity := "reading comments of " + repo.String()
	// Youngest first, so that every change shows on the first page.
	rows, date, err := f.commentPage(ctx, repo, "desc", from, pageSize, 1)
	if err != nil && !errors.Is(err, errTooLong) {
		return nil, "", f.fail(activity, err)
	}
	if err != nil || len(rows) == pageSize {
		if rows, err = f.commentsSince(ctx, repo, from); err != nil {
			return nil, "", f.fail(activity, err)
		}
	}
	f.look(ctx, repo)

	if len(rows) == 0 && p.mark.IsZero() {
		p.mark = date // nothing was ever written; from now on there is a beginning
	}
	var comments []ccci.Comment
	for _, row := range rows {
		if row.Updated.After(p.mark) {
			p.mark = row.Updated
		}
		if c, ok := row.comment(repo); ok {
			comments = append(comments, c)
		}
	}
	slices.SortFunc(comments, func(a, b ccci.Comment) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	if p.mark.IsZero() {
		return comments, since, nil
	}
	p.heads = f.heads(ctx, repo)
	return comments, p.cursor(), nil
}

// commentsSince reads everything that changed since from. It goes forward by
// time rather than by page number, because a comment that is deleted meanwhile
// would push another one over a page's edge, unseen.
func (f *Forge) commentsSince(ctx context.Context, repo ccci.RepoRef, from time.Time) ([]issueComment, error) {
	all := map[int64]issueComment{}
	err := inPages(func(size int) error { // a smaller size goes on where a larger one could not
		for page := 1; ; {
			rows, _, err := f.commentPage(ctx, repo, "asc", from, size, page)
			if err != nil {
				return err
			}
			for _, row := range rows {
				all[row.ID] = row
			}
			if len(rows) < size {
				return nil
			}
			if next := rows[len(rows)-1].Updated.Add(-time.Second); next.After(from) {
				from, page = next, 1
			} else {
				page++ // a whole page within a second
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Values(all)), nil
}

// inPages reads a list in pages of the size that it hands out, and in smaller ones where
// an answer is too long: anybody may write comments of 65,536 characters.
func inPages(read func(size int) error) (err error) {
	for _, size := range []int{pageSize, 25, 5} {
		if err = read(size); !errors.Is(err, errTooLong) {
			break
		}
	}
	return err
}

func (f *Forge) commentPage(ctx context.Context, repo ccci.RepoRef, direction string, since time.Time, size, page int) ([]issueComment, time.Time, error) {
	query := url.Values{"sort": {"updated"}, "direction": {direction}, "per_page": {strconv.Itoa(size)}}
	if !since.IsZero() {
		query.Set("since", since.UTC().Format(time.RFC3339))
	}
	if page > 1 {
		query.Set("page", strconv.Itoa(page))
	}
	var rows []issueComment
	resp, err := f.read(ctx, repoPath(repo, "/issues/comments"), query, direction == "asc", &rows)
	for i := range rows {
		rows[i].Body = ccci.ShortBody(rows[i].Body)
	}
	date, _ := serverTime(resp)
	return rows, date, err
}

// comment is false for one on an issue that is no pull request.
func (c issueComment) comment(repo ccci.RepoRef) (ccci.Comment, bool) {
	number, ok := c.pull()
	if !ok {
		return ccci.Comment{}, false
	}
	out := ccci.Comment{
		ID: ccci.CommentID(strconv.FormatInt(c.ID, 10)), PR: ccci.PRRef{Repo: repo, Number: number},
		Body: c.Body, Created: c.Created.UTC(),
		// Hidden by a maintainer, or written by an App in somebody's name: neither
		// is certainly what its author wrote.
		Edited: !c.Created.Equal(c.Updated) || isSet(c.Minimized),
	}
	if c.User != nil && c.User.ID > 0 {
		out.Author = ccci.User{ID: strconv.FormatInt(c.User.ID, 10), Name: c.User.Login}
		out.Edited = out.Edited || c.User.Type == "User" && isSet(c.App)
	}
	return out, true
}

// pull is the number of the pull request, told from an issue by the page's address.
func (c issueComment) pull() (int, bool) {
	page, err := url.Parse(c.HTMLURL)
	if err != nil {
		return 0, false
	}
	parts := strings.Split(page.Path, "/")
	if len(parts) < 2 || parts[len(parts)-2] != "pull" {
		return 0, false
	}
	number, err := strconv.Atoi(parts[len(parts)-1])
	return number, err == nil && number > 0 && strings.HasSuffix(c.IssueURL, "/"+strconv.Itoa(number))
}

func isSet(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
