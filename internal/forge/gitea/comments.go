package gitea

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// row is a comment as the forge reports it, in the list of a repository.
type row struct {
	ID      int64     `json:"id"`
	Body    string    `json:"body"`
	User    *account  `json:"user"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
	Pull    string    `json:"pull_request_url"` // "" on an issue
}

// pull is the number of the pull request it stands on, 0 on an issue.
func (r row) pull() int {
	u, err := url.Parse(r.Pull)
	if err != nil || r.Pull == "" {
		return 0
	}
	n, err := strconv.Atoi(path.Base(u.Path))
	if err != nil || n < 1 {
		return 0
	}
	return n
}

// comment is the port's form of it, as far as its times tell; see edited.go.
func (r row) comment(repo ccci.RepoRef) ccci.Comment {
	c := ccci.Comment{ID: commentID(r.ID), PR: ccci.PRRef{Repo: repo, Number: r.pull()}, Body: r.Body, Created: r.Created.UTC(),
		Edited: !r.Created.Equal(r.Updated)}
	if r.User != nil {
		c.Author = r.User.user()
	}
	return c
}

func commentID(id int64) ccci.CommentID { return ccci.CommentID(strconv.FormatInt(id, 10)) }

// commentNumber reads a comment's id, in the one way that it is written.
func commentNumber(id ccci.CommentID) (int64, bool) {
	n, err := strconv.ParseInt(string(id), 10, 64)
	return n, err == nil && n > 0 && commentID(n) == id
}

// overlap is how far before its mark a poll begins. The forge compares whole seconds
// of its own clock, and what was written within one transaction may show later than
// what was written after it.
const overlap = 30 * time.Second

// mark is what a Cursor holds: the latest change that was read, and which comments
// of the seconds that the next poll reads again were read already, as they were then:
// one that was changed since comes again, so that the log can say why it is no command.
type mark struct {
	at   int64           // Unix seconds; 0 before anything was read
	seen map[int64]int64 // the comment's number and its last change, in Unix seconds
}

// cursorLimit bounds how many comments a cursor names; others are returned again.
const cursorLimit = 500

func (m mark) cursor() ccci.Cursor {
	if m.at == 0 {
		return ""
	}
	ids := make([]int64, 0, len(m.seen))
	for id := range m.seen {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	ids = ids[max(0, len(ids)-cursorLimit):]
	var b strings.Builder
	b.WriteString(strconv.FormatInt(m.at, 10))
	for i, id := range ids {
		b.WriteByte(":,"[min(i, 1)])
		fmt.Fprintf(&b, "%d-%d", id, m.at-m.seen[id])
	}
	return ccci.Cursor(b.String())
}

// parseMark reads a cursor. One that cannot be read stands for the beginning, which
// leaves nothing out.
func parseMark(c ccci.Cursor) mark {
	at, list, _ := strings.Cut(string(c), ":")
	m := mark{seen: map[int64]int64{}}
	var err error
	if m.at, err = strconv.ParseInt(at, 10, 64); err != nil || m.at < 0 {
		return mark{seen: map[int64]int64{}}
	}
	for text := range strings.SplitSeq(list, ",") {
		var id, before int64
		if n, _ := fmt.Sscanf(text, "%d-%d", &id, &before); n == 2 {
			m.seen[id] = m.at - before
		}
	}
	return m
}

// Comments implements [ccci.Forge] with one list of the whole repository.
func (f *Forge) Comments(ctx context.Context, repo ccci.RepoRef, since ccci.Cursor) ([]ccci.Comment, ccci.Cursor, error) {
	from := parseMark(since)
	rows, until, err := f.changed(ctx, repo, from)
	if err != nil {
		return nil, since, fmt.Errorf("reading the comments of %s: %w", repo, err)
	}
	next := mark{at: from.at, seen: map[int64]int64{}}
	for _, r := range rows {
		next.at = max(next.at, r.Updated.Unix())
	}
	if next.at == from.at { // a part in which nothing is new, and more comes after it
		next.at = max(next.at, until)
	}
	var comments []ccci.Comment
	for _, r := range rows {
		if r.Updated.Unix() >= next.at-int64(overlap/time.Second) {
			next.seen[r.ID] = r.Updated.Unix()
		}
		if r.pull() > 0 && from.seen[r.ID] != r.Updated.Unix() {
			comments = append(comments, r.comment(repo))
		}
	}
	if err := f.markEdited(ctx, comments); err != nil {
		return nil, since, fmt.Errorf("reading the comments of %s: %w", repo, err)
	}
	return comments, next.cursor(), nil
}

const (
	// keptBody is how much is kept of the beginning of a comment in a list: more than a
	// command can have.
	keptBody = 3 << 10
	// partRows is how many comments are read at a time where all are too many.
	partRows = 20
)

// changed lists what changed since a mark, oldest first. Where that is too much for one
// poll, it lists what changed up to a certain second, until, which is 0 elsewhere.
func (f *Forge) changed(ctx context.Context, repo ccci.RepoRef, from mark) (rows []row, until int64, err error) {
	query := url.Values{}
	if from.at > 0 {
		query.Set("since", moment(from.at-int64(overlap/time.Second)))
	}
	all := list{path: repoPath(repo, "/issues/comments"), query: query, counted: true, empty: 1, keep: keptBody, until: f.opts.Now().Add(listTime)}
	rows, err = f.settled(ctx, all)
	if !errors.Is(err, errTooMuch) {
		return rows, 0, err
	}
	if until, err = f.part(ctx, all, from); err != nil {
		return nil, 0, err
	}
	all.until = time.Time{}
	all.query.Set("before", moment(until))
	rows, err = f.settled(ctx, all)
	return rows, until, err
}

func moment(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }

// part finds the last second up to which no more than partRows comments changed besides
// those that are read again, and which is later than the mark in any case. The forge
// sorts by the time when a comment was written and chooses by the time of its change,
// so the beginning of the list is no such part.
func (f *Forge) part(ctx context.Context, all list, from mark) (int64, error) {
	var failed error
	upTo := func(second int64) int {
		query := maps.Clone(all.query)
		query.Set("before", moment(second))
		n, err := f.count(ctx, all.path, query)
		failed = cmp.Or(failed, err)
		return n
	}
	again := 0
	if from.at > 0 {
		again = upTo(from.at)
	}
	first := from.at + 1
	more := sort.Search(int(max(f.opts.Now().Unix()-first, 0)), func(i int) bool {
		return failed != nil || upTo(first+int64(i)+1) > again+partRows
	})
	return first + int64(more), failed
}

// settled reads a list of comments, oldest first. One of several pages is
// read until one reading finds nothing new: a comment that is deleted meanwhile moves
// those behind it to pages that were read already.
func (f *Forge) settled(ctx context.Context, all list) ([]row, error) {
	found := map[int64]row{}
	for {
		rows, reads, err := pages[row](ctx, &f.client, all)
		if err != nil {
			return nil, err
		}
		fresh := false
		for _, r := range rows {
			if r.ID <= 0 || r.Created.IsZero() || r.Updated.IsZero() {
				return nil, fmt.Errorf("a comment came without its number or its times")
			}
			if _, known := found[r.ID]; !known {
				fresh = true
			}
			found[r.ID] = r
		}
		if reads < 2 || !fresh {
			break
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b row) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	}), nil
}

// comment reads one comment; ErrNotFound when it is on another pull request.
func (f *Forge) comment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID) (row, error) {
	number, ok := commentNumber(id)
	if !ok {
		return row{}, ccci.ErrNotFound
	}
	var r row
	if err := f.get(ctx, repoPath(pr.Repo, "/issues/comments/%d", number), nil, &r); statusOf(err) == http.StatusNoContent { // an entry of another kind
		return row{}, ccci.ErrNotFound
	} else if err != nil {
		return row{}, err
	}
	if r.ID != number || r.pull() != pr.Number {
		return row{}, fmt.Errorf("it stands elsewhere: %w", ccci.ErrNotFound)
	}
	return r, nil
}
