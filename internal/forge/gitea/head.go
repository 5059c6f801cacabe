package gitea

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// The forge writes an entry "pull_push" into a pull request's timeline when it is
// opened and at every push. Entries and comments share one sequence of numbers, so an
// entry with a smaller number than a comment was a push before it, to the second
// and beyond. The entry is written some time after the push: until then the pull
// request already shows the new head. So the present head alone proves nothing; it
// has to be the one that the last entry before the comment tells of.
//
// A forced push deletes or shortens older entries (Gitea 1.26, reconcileOldCommitComments),
// but never an entry of a forced push, and its own entry comes after those.

// keptEntry is how much is kept of an entry's text, in which a push names its commits:
// 40,000 of them. One with more cannot be read, so the head before it cannot be proven.
const keptEntry = 2 << 20

// entry is a line of a timeline.
type entry struct {
	ID   int64    `json:"id"`
	Type string   `json:"type"`
	Body string   `json:"body"`
	User *account `json:"user"`
}

// push is what an entry of type pull_push tells.
type push struct {
	id     int64
	forced bool
	head   ccci.Commit // "" where it cannot be read
}

func (e entry) push() push {
	p := push{id: e.ID}
	var body struct {
		Forced  bool          `json:"is_force_push"`
		Commits []ccci.Commit `json:"commit_ids"` // oldest first; of a forced push the old head and the new one
	}
	if json.Unmarshal([]byte(e.Body), &body) != nil {
		p.forced = true // whatever it was, nothing before it can be relied on
		return p
	}
	p.forced = body.Forced
	if n := len(body.Commits); n > 0 && body.Commits[n-1].Valid() {
		p.head = body.Commits[n-1]
	}
	return p
}

// HeadAt implements [ccci.Forge]. It is exact for pushes, and for forced pushes before
// the comment. A forced push after it takes away the record of what was there
// before: that is [ccci.ErrHeadUnknown], and nothing is run either way.
func (f *Forge) HeadAt(ctx context.Context, pr ccci.PRRef, comment ccci.Comment) (ccci.Commit, error) {
	head, err := f.headAt(ctx, pr, comment.ID)
	if err != nil {
		err = fmt.Errorf("finding the head of %s when comment %s was written: %w", pr, comment.ID, err)
	}
	return head, err
}

func (f *Forge) headAt(ctx context.Context, pr ccci.PRRef, id ccci.CommentID) (ccci.Commit, error) {
	number, _ := commentNumber(id)
	switch _, err := f.comment(ctx, pr, id); {
	case errors.Is(err, ccci.ErrNotFound):
		// That of the comment, or of everything.
		if _, err := f.PullRequest(ctx, pr); err != nil {
			return "", err
		}
		return "", fmt.Errorf("the comment is not there: %w", ccci.ErrHeadUnknown)
	case err != nil:
		return "", err
	}
	deadline := f.opts.Now().Add(f.opts.Settle)
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		now, err := f.PullRequest(ctx, pr)
		if err != nil {
			return "", err
		}
		pushes, err := f.pushes(ctx, pr)
		if err != nil {
			return "", err
		}
		head, err := judge(pushes, number, now.Head)
		if !errors.Is(err, errUnsettled) {
			return head, err
		}
		// A push is known and not yet written down.
		left := deadline.Sub(f.opts.Now())
		if left <= 0 {
			return "", fmt.Errorf("the pull request shows %s, of which its timeline says nothing: %w", now.Head.Short(), ccci.ErrHeadUnknown)
		}
		timer := time.NewTimer(min(pause, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", ctx.Err()
		}
	}
}

var errUnsettled = errors.New("the timeline does not tell of the present head")

// judge says which head a comment was written at, from the pushes in their order and the
// head that the pull request shows now.
func judge(pushes []push, comment int64, now ccci.Commit) (ccci.Commit, error) {
	var before push
	moved := false
	for _, p := range pushes {
		switch {
		case p.id < comment:
			before = p
		case p.forced:
			return "", fmt.Errorf("it was pushed to by force after the comment was written: %w", ccci.ErrHeadUnknown)
		default:
			moved = true
		}
	}
	switch {
	case before.head == "" && moved:
		return "", fmt.Errorf("its timeline does not tell of an earlier head: %w", ccci.ErrHeadUnknown)
	case moved:
		return before.head, ccci.ErrHeadMoved
	case before.head == "" || before.head != now:
		return "", errUnsettled
	}
	return before.head, nil
}

// pushes lists the pushes that the timeline tells of, oldest first. The forge drops
// entries of some kinds after it has cut the pages, so a page may be short or empty
// before the end; were it to hide a push, the present head would not fit.
func (f *Forge) pushes(ctx context.Context, pr ccci.PRRef) ([]push, error) {
	entries, _, err := pages[pushEntry](ctx, &f.client, list{path: repoPath(pr.Repo, "/issues/%d/timeline", pr.Number),
		empty: emptyEnd, keep: keptEntry, until: f.opts.Now().Add(listTime)})
	if errors.Is(err, errTooLarge) || errors.Is(err, errTooMuch) {
		err = fmt.Errorf("%w: %w", ccci.ErrHeadUnknown, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading its timeline: %w", err)
	}
	var pushes []push
	for _, e := range entries {
		if e.id > 0 {
			pushes = append(pushes, push(e))
		}
	}
	return pushes, nil
}

// pushEntry is what is kept of an entry: the push that it tells of, if any.
type pushEntry push

func (p *pushEntry) UnmarshalJSON(text []byte) error {
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	if e.Type == "pull_push" && e.ID > 0 {
		*p = pushEntry(e.push())
	}
	return nil
}
