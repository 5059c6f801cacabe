package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	gh "github.com/google/go-github/v60/github"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// posted is what must be known of an own comment to edit it.
type posted struct {
	pr  ccci.PRRef
	tag ccci.CommentTag
}

// unsureFor is how long a comment whose writing ended in doubt is waited for:
// GitHub may have it without showing it in a list yet.
const unsureFor = 10 * time.Second

const remembered = 10_000 // entries of each bounded map

// PostComment implements [ccci.Forge]. A body that is longer than GitHub takes is
// cut, with a sentence that says so.
func (f *Forge) PostComment(ctx context.Context, pr ccci.PRRef, key, body string) (ccci.CommentID, error) {
	activity := "commenting on " + pr.String()
	if key == "" {
		return "", ccci.Errorf(ccci.CodeInvalid, "%s: the key is empty", activity)
	}
	self, err := f.Self(ctx)
	if err != nil {
		return "", err
	}
	if err := take(ctx, f.posting); err != nil {
		return "", err
	}
	defer func() { <-f.posting }()

	tag := ccci.TagOfKey(key)
	doubt := pr.String() + " " + string(tag)
	f.mu.Lock()
	tried, unsure := f.unsure[doubt]
	f.mu.Unlock()
	if wait := tried.Add(unsureFor).Sub(f.opts.Now()); unsure && wait > 0 {
		return "", ccci.Errorf(ccci.CodeInfra, "%s: the last attempt ended in doubt, and GitHub may not show its comment yet", activity)
	}
	id, err := f.findOwn(ctx, pr, self, tag)
	if err != nil || id != "" {
		return id, err
	}
	made, _, err := f.client.Issues.CreateComment(ctx, pr.Repo.Owner, pr.Repo.Name, pr.Number, &gh.IssueComment{Body: gh.String(tagged(body, tag))})
	if err == nil && made.GetID() <= 0 {
		err = errors.New("GitHub's answer has no id")
	}
	if err != nil {
		var blocked *Blocked
		if status := statusOf(err); status < 300 && !errors.As(err, &blocked) || status >= 500 {
			f.mu.Lock()
			f.unsure[doubt] = f.opts.Now()
			bound(f.unsure)
			f.mu.Unlock()
		}
		return "", f.fail(activity, err)
	}
	id = ccci.CommentID(strconv.FormatInt(made.GetID(), 10))
	f.remember(id, posted{pr, tag})
	return id, nil
}

// findOwn looks for our comment with a tag, "" when there is none.
func (f *Forge) findOwn(ctx context.Context, pr ccci.PRRef, self ccci.User, tag ccci.CommentTag) (ccci.CommentID, error) {
	var id ccci.CommentID
	err := inPages(func(size int) error {
		for page := 1; ; page++ {
			query := url.Values{"per_page": {strconv.Itoa(size)}}
			if page > 1 {
				query.Set("page", strconv.Itoa(page))
			}
			var rows []issueComment
			if _, err := f.read(ctx, repoPath(pr.Repo, "/issues/%d/comments", pr.Number), query, false, &rows); err != nil {
				return err
			}
			for _, row := range rows {
				if row.ownTag(self) == tag {
					id = ccci.CommentID(strconv.FormatInt(row.ID, 10))
					f.remember(id, posted{pr, tag})
					return nil
				}
			}
			if len(rows) < size {
				return nil
			}
		}
	})
	if err != nil {
		return "", f.fail("reading the comments on "+pr.String(), err)
	}
	return id, nil
}

// ownTag is the tag of a comment that self wrote, else "".
func (c issueComment) ownTag(self ccci.User) ccci.CommentTag {
	if c.User == nil || strconv.FormatInt(c.User.ID, 10) != self.ID {
		return ""
	}
	return ccci.TagOfBody(c.Body)
}

// EditComment implements [ccci.Forge]. A comment that we did not post is refused,
// also where GitHub would let the token edit it.
func (f *Forge) EditComment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID, body string) error {
	activity := fmt.Sprintf("editing comment %s on %s", id, pr)
	f.mu.Lock()
	known, ok := f.posted[id]
	f.mu.Unlock()
	if !ok {
		self, err := f.Self(ctx)
		if err != nil {
			return err
		}
		row, err := f.comment(ctx, pr, id)
		if err != nil {
			return fmt.Errorf("%s: %w", activity, err)
		}
		if known = (posted{pr, row.ownTag(self)}); known.tag == "" {
			return ccci.Errorf(ccci.CodeRefused, "%s: it was not posted by cc-ci", activity)
		}
	}
	if known.pr != pr {
		return fmt.Errorf("%s: it is on another one: %w", activity, ccci.ErrNotFound)
	}
	number, err := strconv.ParseInt(string(id), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", activity, ccci.ErrNotFound)
	}
	_, _, err = f.client.Issues.EditComment(ctx, pr.Repo.Owner, pr.Repo.Name, number, &gh.IssueComment{Body: gh.String(tagged(body, known.tag))})
	if err != nil {
		if status := statusOf(err); status == http.StatusNotFound || status == http.StatusGone {
			f.mu.Lock()
			delete(f.posted, id)
			f.mu.Unlock()
		}
		return f.fail(activity, err)
	}
	f.remember(id, known)
	return nil
}

func (f *Forge) remember(id ccci.CommentID, p posted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posted[id] = p
	bound(f.posted)
}

// bound drops some entry of a map that only saves requests.
func bound[K comparable, V any](m map[K]V) {
	for k := range m {
		if len(m) <= remembered {
			return
		}
		delete(m, k)
	}
}

// bodyLimit is GitHub's, 65,536 characters, with room for the tag. Characters are
// counted as UTF-16 does, which is never less than any other way to count.
const bodyLimit = 65_536 - 100

const cutSentence = "\n\n*The rest was cut: GitHub takes no longer comments. The whole text is on the run's page.*"

// tagged is the body that is sent.
func tagged(body string, tag ccci.CommentTag) string {
	return tag.AppendTo(shorten(body, bodyLimit))
}

// shorten cuts a Markdown text at the end of a line, and closes what is open.
func shorten(body string, limit int) string {
	if units(body) <= limit {
		return body
	}
	left := limit - units(cutSentence) - len("\n~~~~~~~~~~")
	end, lineEnd, used := 0, 0, 0
	for i, r := range body {
		used += utf16.RuneLen(max(r, 0))
		if used > left {
			break
		}
		end = i + len(string(r))
		if r == '\n' {
			lineEnd = i
		}
	}
	if lineEnd > end/2 {
		end = lineEnd
	}
	cut := body[:end]
	return cut + openFence(cut) + cutSentence
}

func units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// openFence is what closes the code block that s ends in, "" when in none.
func openFence(s string) string {
	open := ""
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimLeft(line, " ")
		mark := ""
		if line != "" && (line[0] == '`' || line[0] == '~') {
			mark = line[:len(line)-len(strings.TrimLeft(line, line[:1]))]
		}
		switch {
		case len(mark) < 3:
		case open == "":
			open = mark
		case mark[0] == open[0] && len(mark) >= len(open) && strings.TrimSpace(line[len(mark):]) == "":
			open = ""
		}
	}
	if open == "" {
		return ""
	}
	return "\n" + open
}
