package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// look reads what is new in a repository and handles it. since is when the
// repository was first watched.
func (b *Bridge) look(ctx context.Context, repo Repo, since time.Time) look {
	self, err := b.whoAmI(ctx)
	if err != nil {
		return look{err: err}
	}
	name := b.name()
	cursor, err := b.cfg.Store.Cursor(ctx, name, repo.Ref)
	if err != nil {
		return look{reached: true, err: fmt.Errorf("reading the cursor of %s: %w", repo.Ref, notGone(err))}
	}
	asking, cancel := context.WithTimeout(ctx, lookLimit)
	comments, next, err := b.cfg.Forge.Comments(asking, repo.Ref, cursor)
	cancel()
	if err != nil {
		return look{err: fmt.Errorf("asking for comments of %s: %w", repo.Ref, err)}
	}
	l := look{reached: true}
	for _, c := range comments {
		if c.Author.ID != self.ID && c.Created.After(l.newest) {
			l.newest = c.Created
		}
	}
	l.err = b.handleAll(ctx, repo, self, comments, cursor == "", since)
	b.supersedeByPush(ctx, repo.Ref)
	b.carryOver(ctx, repo)
	if l.err != nil || next == cursor {
		return l
	}
	if err := b.cfg.Store.SaveCursor(ctx, name, repo.Ref, next); err != nil {
		l.err = fmt.Errorf("saving the cursor of %s: %w", repo.Ref, notGone(err))
	}
	return l
}

// handleAll handles every comment of a batch. The cursor is saved only when
// all of them were handled: a batch that was cut short is read again, and what was handled
// already recognises itself.
func (b *Bridge) handleAll(ctx context.Context, repo Repo, self ccci.User, comments []ccci.Comment, first bool, since time.Time) error {
	var failed []error
	for _, c := range comments {
		if first && !c.Created.IsZero() && c.Created.Before(since.Add(-b.cfg.FirstLook)) {
			b.log.Info("comment decided", "comment", c.ID, "pr", c.PR, "decision", "ignored", "reason", "written long before this repository was first read")
			continue
		}
		if err := b.handle(ctx, repo, self, c); err != nil {
			if ctx.Err() != nil {
				return err
			}
			// The others need not wait for this one.
			failed = append(failed, fmt.Errorf("handling comment %s on %s: %w", c.ID, c.PR, notGone(err)))
		}
	}
	return errors.Join(failed...)
}

// whoAmI asks once who this bridge is on the forge.
func (b *Bridge) whoAmI(ctx context.Context) (ccci.User, error) {
	b.mu.Lock()
	self := b.self
	b.mu.Unlock()
	if self.ID != "" {
		return self, nil
	}
	asking, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	self, err := b.cfg.Forge.Self(asking)
	if err != nil {
		return ccci.User{}, fmt.Errorf("asking the forge who we are: %w", notGone(err))
	}
	if self.ID == "" {
		return ccci.User{}, ccci.Errorf(ccci.CodeInfra, "asking the forge who we are: the answer has no id")
	}
	b.mu.Lock()
	b.self = self
	b.mu.Unlock()
	return self, nil
}

// runOf returns the run with a key among those of a pull request, or false.
func (b *Bridge) runOf(ctx context.Context, pr ccci.PRRef, key string) (ccci.Run, bool, error) {
	runs, err := b.runsOf(ctx, pr)
	if err != nil {
		return ccci.Run{}, false, err
	}
	i := slices.IndexFunc(runs, func(r ccci.Run) bool { return r.Key == key })
	if i < 0 {
		return ccci.Run{}, false, nil
	}
	return runs[i], true, nil
}
