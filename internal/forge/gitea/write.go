package gitea

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// ownTag is the tag of a comment that self wrote, else "".
func (r row) ownTag(self ccci.User) ccci.CommentTag {
	if r.User == nil || r.User.user().ID != self.ID {
		return ""
	}
	return ccci.TagOfBody(r.Body)
}

const (
	// threadLimit bounds the list of one pull request's comments, which comes in one piece.
	threadLimit = 1 << 30
	// threadTimes is how many times the usual timeout it may take.
	threadTimes = 3
)

// PostComment implements [ccci.Forge]. Whether the key was used is read from the
// forge each time, also after an attempt whose answer was lost.
func (f *Forge) PostComment(ctx context.Context, pr ccci.PRRef, key, body string) (ccci.CommentID, error) {
	activity := "commenting on " + pr.String()
	if key == "" {
		return "", ccci.Errorf(ccci.CodeInvalid, "%s: the key is empty", activity)
	}
	self, err := f.Self(ctx)
	if err != nil {
		return "", err
	}
	unlock, err := f.posting.lock(ctx, pr.String())
	if err != nil {
		return "", err
	}
	defer unlock()
	var known row
	tag := ccci.TagOfKey(key)
	path := repoPath(pr.Repo, "/issues/%d/comments", pr.Number)
	if _, err := f.do(ctx, http.MethodGet, path, nil, nil, wanted{limit: threadLimit, keep: keptBody, times: threadTimes, out: each[row](func(r row) {
		if known.ID == 0 && r.ownTag(self) == tag {
			known = r
		}
	})}); err != nil {
		_, gone := f.PullRequest(ctx, pr)
		switch {
		// Asked for the comments of what is not there, it answers 500.
		case statusOf(err) == http.StatusInternalServerError && errors.Is(gone, ccci.ErrNotFound):
			err = gone
		case errors.Is(err, errTooLarge), ctx.Err() == nil && gone == nil && errors.Is(err, context.DeadlineExceeded):
			err = fmt.Errorf("what is written there is too much to be read: %w: %w", ccci.ErrRefused, err)
		}
		return "", fmt.Errorf("%s: %w", activity, err)
	}
	if known.ID > 0 {
		return commentID(known.ID), nil
	}
	var made row
	if err := f.send(ctx, http.MethodPost, path, map[string]string{"body": tag.AppendTo(body)}, &made); err != nil {
		return "", fmt.Errorf("%s: %w", activity, err)
	}
	if made.ID <= 0 {
		return "", fmt.Errorf("%s: the answer has no number", activity)
	}
	return commentID(made.ID), nil
}

// EditComment implements [ccci.Forge]. A comment that we did not post is refused, also
// where the forge would let the token edit it.
func (f *Forge) EditComment(ctx context.Context, pr ccci.PRRef, id ccci.CommentID, body string) error {
	activity := fmt.Sprintf("editing comment %s on %s", id, pr)
	self, err := f.Self(ctx)
	if err != nil {
		return err
	}
	old, err := f.comment(ctx, pr, id)
	if err != nil {
		return fmt.Errorf("%s: %w", activity, err)
	}
	if old.User == nil || old.User.user().ID != self.ID {
		return ccci.Errorf(ccci.CodeRefused, "%s: it was not posted by cc-ci", activity)
	}
	body = old.ownTag(self).AppendTo(body)
	if body == old.Body {
		return nil
	}
	err = f.send(ctx, http.MethodPatch, repoPath(pr.Repo, "/issues/comments/%s", id), map[string]string{"body": body}, &old)
	if statusOf(err) == http.StatusNoContent {
		err = errors.New("the forge did not edit it")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", activity, err)
	}
	return nil
}
