package bridge

import (
	"context"
	"errors"
	"strings"

	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Several is one bridge for several forges: each works under its own lease, so
// that the trouble of one forge is no trouble of another, and they share engine,
// queue and store.
type Several []*Bridge

// NewSeveral makes a bridge of each configuration. Two forges of one name are refused.
func NewSeveral(configs ...Config) (Several, error) {
	var all Several
	seen := map[string]bool{}
	for _, cfg := range configs {
		b, err := New(cfg)
		if err != nil {
			return nil, err
		}
		if seen[b.name()] || strings.ContainsAny(b.name(), "/ ") || b.name() == "" {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making the bridge: a forge cannot be called %q, or two are", b.name())
		}
		seen[b.name()] = true
		all = append(all, b)
	}
	for _, b := range all {
		for _, other := range all {
			if other != b {
				b.siblings = append(b.siblings, other)
			}
		}
	}
	return all, nil
}

// Run works until ctx is done, as [Bridge.Run].
func (s Several) Run(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, len(s))
	for i, b := range s {
		all.Go(func() { errs[i] = b.Run(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Health returns how each of them does.
func (s Several) Health() []Health {
	all := make([]Health, len(s))
	for i, b := range s {
		all[i] = b.Health()
	}
	return all
}

// Cancel is [Bridge.Cancel] for a run of any of the forges.
func (s Several) Cancel(ctx context.Context, id ccci.RunID, by string) error {
	for _, b := range s {
		b.mu.Lock()
		_, follows := b.runs[id]
		b.mu.Unlock()
		if follows {
			return b.Cancel(ctx, id, by)
		}
	}
	if len(s) == 0 {
		return ccci.ErrNotFound
	}
	return s[0].Cancel(ctx, id, by)
}
