package inproc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Locker implements [ccci.Locker]. The zero value is ready. Its leases need no
// renewal: their holders live and die with the process.
type Locker struct {
	mu    sync.Mutex
	fence uint64
	keys  map[string]*key
}

var _ ccci.Locker = (*Locker)(nil)

// key is a key that is held or waited for.
type key struct {
	holder  *lease
	waiting []chan *lease // capacity 1 each, in the order in which they came
}

// Acquire implements [ccci.Locker]. Those who wait are served in the order in
// which they came. The lease does not end with ctx.
func (l *Locker) Acquire(ctx context.Context, name string, ttl time.Duration) (ccci.Lease, error) {
	if name == "" || ttl <= 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "acquiring the lease %q for %s: it needs a name and a time", name, ttl)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("acquiring the lease %s: %w", name, err)
	}
	l.mu.Lock()
	if l.keys == nil {
		l.keys = map[string]*key{}
	}
	k := l.keys[name]
	if k == nil {
		k = &key{}
		l.keys[name] = k
	}
	if k.holder == nil {
		granted := l.grant(name, k)
		l.mu.Unlock()
		return granted, nil
	}
	turn := make(chan *lease, 1)
	k.waiting = append(k.waiting, turn)
	l.mu.Unlock()
	select {
	case granted := <-turn:
		return granted, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	k.waiting = slices.DeleteFunc(k.waiting, func(c chan *lease) bool { return c == turn })
	l.mu.Unlock()
	select {
	case granted := <-turn: // granted in the same moment: hand it on
		granted.Release()
	default:
	}
	return nil, fmt.Errorf("waiting for the lease %s: %w", name, context.Cause(ctx))
}

// grant makes the next lease of a free key; l.mu is held.
func (l *Locker) grant(name string, k *key) *lease {
	l.fence++
	ctx, cancel := context.WithCancelCause(context.Background())
	k.holder = &lease{locker: l, name: name, fence: l.fence, ctx: ctx, cancel: cancel}
	return k.holder
}

// Revoke takes a lease away from its holder, whose context ends with
// ErrLeaseLost. It reports whether there was a holder.
func (l *Locker) Revoke(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[name]
	if k == nil || k.holder == nil {
		return false
	}
	l.free(k.holder, ccci.ErrLeaseLost)
	return true
}

// free ends held and grants the key to the next; l.mu is held.
func (l *Locker) free(held *lease, cause error) {
	k := l.keys[held.name]
	if k == nil || k.holder != held { // released or lost before
		return
	}
	held.cancel(cause)
	k.holder = nil
	if len(k.waiting) == 0 {
		delete(l.keys, held.name)
		return
	}
	turn := k.waiting[0]
	k.waiting = k.waiting[1:]
	turn <- l.grant(held.name, k)
}

type lease struct {
	locker *Locker
	name   string
	fence  uint64
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (h *lease) Context() context.Context { return h.ctx }
func (h *lease) Fence() uint64            { return h.fence }

func (h *lease) Release() error {
	h.locker.mu.Lock()
	defer h.locker.mu.Unlock()
	h.locker.free(h, nil)
	return nil
}
