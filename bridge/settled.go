package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// settledLimit is how many settled comments are remembered per repository. It
// must be more than a forge repeats of what is older than the cursor.
const settledLimit = 1000

// settledComments remembers the commands of a repository that were answered or
// refused, so that a forge that tells them again, tomorrow and after a restart,
// gets no second thought: a !retest that came too early must not start
// a run when it is read once more. A comment that became a run needs no entry,
// its run is its memory.
//
// The memory lies in the store beside the cursor that it completes, under a
// forge name of its own.
type settledComments struct {
	mu     sync.Mutex
	loaded bool
	ids    []ccci.CommentID
}

func (b *Bridge) settledOf(repo ccci.RepoRef) *settledComments {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.settled[repo]
	if s == nil {
		s = &settledComments{}
		b.settled[repo] = s
	}
	return s
}

func (b *Bridge) settledName() string { return b.name() + "#settled" }

func (b *Bridge) isSettled(ctx context.Context, repo ccci.RepoRef, id ccci.CommentID) (bool, error) {
	s := b.settledOf(repo)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		text, err := b.cfg.Store.Cursor(ctx, b.settledName(), repo)
		if err != nil {
			return false, fmt.Errorf("reading which comments of %s are settled: %w", repo, err)
		}
		for id := range strings.FieldsSeq(string(text)) {
			s.ids = append(s.ids, ccci.CommentID(id))
		}
		s.loaded = true
	}
	return slices.Contains(s.ids, id), nil
}

func (b *Bridge) settleComment(ctx context.Context, repo ccci.RepoRef, id ccci.CommentID) error {
	s := b.settledOf(repo)
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := append(slices.Clone(s.ids), id)
	ids = ids[max(0, len(ids)-settledLimit):]
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = string(id)
	}
	if err := b.cfg.Store.SaveCursor(ctx, b.settledName(), repo, ccci.Cursor(strings.Join(words, " "))); err != nil {
		return fmt.Errorf("noting that comment %s is settled: %w", id, err)
	}
	s.ids = ids
	return nil
}
