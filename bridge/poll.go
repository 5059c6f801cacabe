package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// poll looks at one repository at least every PollInterval (A4), and at once
// when somebody says on the bus that there is something to see.
func (b *Bridge) poll(ctx context.Context, repo Repo, wake <-chan struct{}) {
	for failures := 0; ; {
		if err := b.sweep(ctx, repo); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			failures++
			b.log.Warn("reading comments", "repository", repo.Ref, "failures", failures, "error", err)
		}
		timer := time.NewTimer(b.cfg.PollInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// listen turns hints on the bus into looks. A hint about a repository that
// is not configured leads to one look too, so that a command there gets an answer (U15).
func (b *Bridge) listen(ctx context.Context, wakes map[ccci.RepoRef]chan struct{}) {
	for try := 0; ctx.Err() == nil; try++ {
		hints, err := b.cfg.Bus.Subscribe(ctx, ccci.TopicForge)
		if err != nil {
			if ctx.Err() == nil {
				b.log.Warn("listening for hints", "error", err)
				pause(ctx, backoff(try))
			}
			continue
		}
		try = 0
		for hint := range hints {
			ref, err := ccci.ParseRepoRef(hint)
			if err != nil {
				b.log.Debug("a hint that names no repository", "hint", hint)
				continue
			}
			if wake, known := wakes[ref]; known {
				select {
				case wake <- struct{}{}:
				default: // a look is already due
				}
				continue
			}
			if err := b.sweep(ctx, Repo{Ref: ref}); err != nil && ctx.Err() == nil {
				b.log.Warn("reading comments of a repository that is not enrolled", "repository", ref, "error", err)
			}
		}
	}
}

// sweep reads what is new in a repository and handles every comment. The
// cursor is saved only when all of them were: a batch that was cut short is
// read again, and what was handled already recognises itself.
func (b *Bridge) sweep(ctx context.Context, repo Repo) error {
	self, err := b.whoAmI(ctx)
	if err != nil {
		return err
	}
	name := b.cfg.Forge.Name()
	cursor, err := b.cfg.Store.Cursor(ctx, name, repo.Ref)
	if err != nil {
		return fmt.Errorf("reading the cursor of %s: %w", repo.Ref, err)
	}
	comments, next, err := b.cfg.Forge.Comments(ctx, repo.Ref, cursor)
	if err != nil {
		return fmt.Errorf("asking for comments of %s: %w", repo.Ref, err)
	}
	var failed []error
	for _, c := range comments {
		if cursor == "" && b.beforeFirstLook(c) {
			b.log.Info("comment decided", "comment", c.ID, "pr", c.PR, "decision", "ignored", "reason", "written long before this repository was first read")
			continue
		}
		if err := b.handle(ctx, repo, self, c); err != nil {
			if ctx.Err() != nil {
				return err
			}
			// The others need not wait for this one.
			failed = append(failed, fmt.Errorf("handling comment %s on %s: %w", c.ID, c.PR, err))
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	if next == cursor {
		return nil
	}
	if err := b.cfg.Store.SaveCursor(ctx, name, repo.Ref, next); err != nil {
		return fmt.Errorf("saving the cursor of %s: %w", repo.Ref, err)
	}
	return nil
}

func (b *Bridge) beforeFirstLook(c ccci.Comment) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !c.Created.IsZero() && c.Created.Before(b.since.Add(-b.cfg.FirstLook))
}

// whoAmI asks once who this bridge is on the forge.
func (b *Bridge) whoAmI(ctx context.Context) (ccci.User, error) {
	b.mu.Lock()
	self := b.self
	b.mu.Unlock()
	if self.ID != "" {
		return self, nil
	}
	self, err := b.cfg.Forge.Self(ctx)
	if err != nil {
		return ccci.User{}, fmt.Errorf("asking the forge who we are: %w", err)
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
	runs, err := b.allRuns(ctx, ccci.RunFilter{PR: pr})
	if err != nil {
		return ccci.Run{}, false, err
	}
	i := slices.IndexFunc(runs, func(r ccci.Run) bool { return r.Key == key })
	if i < 0 {
		return ccci.Run{}, false, nil
	}
	return runs[i], true, nil
}
