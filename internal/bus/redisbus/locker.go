package redisbus

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// retry is how often a lease that is held is asked for.
	retry = 100 * time.Millisecond
	// renewal is how often a lease is renewed at least: a holder learns within
	// that time that it is no longer the holder.
	renewal = 5 * time.Second
)

// The scripts run as one step each. A lease is a key that holds its holder's
// token and ends by itself.
var (
	// take answers with the fence, or with nothing when somebody holds the lease.
	// Fences follow the server's clock in microseconds, so that they grow on
	// though Redis lost its memory.
	take = redis.NewScript(`
		if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
		local clock = redis.call('TIME')
		local fence = clock[1] * 1000000 + clock[2]
		local last = tonumber(redis.call('GET', KEYS[2]) or '0')
		if fence <= last then fence = last + 1 end
		redis.call('SET', KEYS[2], string.format('%.0f', fence))
		return string.format('%.0f', fence)`)
	renew = redis.NewScript(`
		if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
		return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)
	give = redis.NewScript(`
		if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
		return redis.call('DEL', KEYS[1])`)
)

// Locker implements [ccci.Locker]. Those who wait are served in no order.
type Locker struct{ client }

var _ ccci.Locker = (*Locker)(nil)

// Locker returns the locks that are on the same Redis. They end with the bus.
func (b *Bus) Locker() *Locker { return &Locker{b.client} }

// Acquire implements [ccci.Locker]. The lease does not end with ctx.
func (l *Locker) Acquire(ctx context.Context, name string, ttl time.Duration) (ccci.Lease, error) {
	if name == "" || ttl < time.Millisecond {
		return nil, ccci.Errorf(ccci.CodeInvalid, "acquiring the lease %q for %s: it needs a name and a time", name, ttl)
	}
	h := &lease{locker: l, key: prefix + "lock:" + name, token: rand.Text(), ttl: ttl, stop: make(chan struct{})}
	for {
		asked := time.Now() // before the key's own clock begins
		fence, err := take.Run(ctx, l.redis, []string{h.key, prefix + "fence:" + name}, h.token, ttl.Milliseconds()).Uint64()
		if err == nil {
			h.fence = fence
			h.ctx, h.cancel = context.WithCancelCause(context.Background())
			go h.keep(asked.Add(ttl))
			return h, nil
		}
		if err != redis.Nil {
			h.release() // the answer may have been lost, and not the question
			return nil, l.explain("acquiring the lease "+name, err)
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lease %s: %w", name, context.Cause(ctx))
		}
	}
}

type lease struct {
	locker     *Locker
	key, token string
	ttl        time.Duration
	fence      uint64
	ctx        context.Context
	cancel     context.CancelCauseFunc
	once       sync.Once
	stop       chan struct{}
}

func (h *lease) Context() context.Context { return h.ctx }
func (h *lease) Fence() uint64            { return h.fence }

// keep renews the lease until it is released or lost. It counts as lost when
// another has it, or when ttl went by since the last renewal that is known to have
// been made: Redis has let it go by then.
func (h *lease) keep(until time.Time) {
	defer h.cancel(ccci.ErrLeaseLost) // after a release the context has ended already
	tick := time.NewTicker(min(h.ttl/3, renewal))
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-time.After(time.Until(until)):
			return
		case <-tick.C:
		}
		asked := time.Now()
		ctx, done := context.WithDeadline(h.ctx, until)
		held, err := renew.Run(ctx, h.locker.redis, []string{h.key}, h.token, h.ttl.Milliseconds()).Bool()
		done()
		if err == nil && !held {
			return
		}
		if err == nil {
			until = asked.Add(h.ttl)
		}
	}
}

// Release implements [ccci.Lease]. What Redis could not be told ends by itself.
func (h *lease) Release() (err error) {
	h.once.Do(func() {
		lost := h.ctx.Err() != nil
		h.cancel(nil)
		close(h.stop)
		if !lost {
			err = h.release()
		}
	})
	return err
}

// release frees the key if it is still this lease's.
func (h *lease) release() error {
	ctx, done := context.WithTimeout(context.Background(), patience)
	defer done()
	return h.locker.explain("giving back the lease "+h.key, give.Run(ctx, h.locker.redis, []string{h.key}, h.token).Err())
}
