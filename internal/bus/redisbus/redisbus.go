// Package redisbus is the bus and the locks of a cc-ci that is several
// processes: [ccci.Bus] and [ccci.Locker] on Redis.
//
// Everything is below the prefix "cc-ci:", so that one Redis database may have
// other users. Nothing that matters is kept there alone: an empty Redis costs
// hints, which are lossy anyway, and leases, which are taken anew.
package redisbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// prefix of every channel and key.
const prefix = "cc-ci:"

// backlog is how many messages a subscriber may be behind before it misses some.
const backlog = 64

// patience bounds one question to Redis. Whoever gives a hint waits no longer
// for a server that is away.
const patience = 2 * time.Second

// client is a connection to Redis that both halves of the package use.
type client struct {
	redis *redis.Client
	where string // for messages; without the password
}

func open(url ccci.Secret) (client, error) {
	o, err := redis.ParseURL(url.Reveal())
	if err != nil { // its text may hold the password
		return client{}, ccci.Errorf(ccci.CodeInvalid, "the address of Redis cannot be read").
			WithHint("write it as unix://:PASSWORD@/run/redis-cc-ci/redis.sock, as redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS")
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries = patience, patience, patience, 1
	o.ContextTimeoutEnabled = true
	logging.Disable() // it writes to standard error; every error reaches a caller besides
	return client{redis: redis.NewClient(o), where: fmt.Sprintf("Redis at %s, database %d", o.Addr, o.DB)}, nil
}

func (c client) explain(doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return ccci.Errorf(ccci.CodeInfra, "%s through %s: %w", doing, c.where, err).
		WithHint("see that Redis runs and that bus.redis.url_file names it")
}

// Bus implements [ccci.Bus].
type Bus struct{ client }

var _ ccci.Bus = (*Bus)(nil)

// Address returns where the Redis of a url is, as net.Dial takes it: "unix" and a path, or "tcp" with
// host and port.
func Address(url ccci.Secret) (network, address string, err error) {
	c, err := open(url)
	if err != nil {
		return "", "", err
	}
	o := c.redis.Options()
	return o.Network, o.Addr, c.redis.Close()
}

// New returns a bus on the Redis at url, as "unix://:password@/path" or "redis://:password@host:6379/0". The
// server is not asked for anything yet: it may be away. The caller closes the bus.
func New(url ccci.Secret) (*Bus, error) {
	c, err := open(url)
	if err != nil {
		return nil, err
	}
	return &Bus{c}, nil
}

// Close ends every subscription.
func (b *Bus) Close() error { return b.redis.Close() }

// Publish implements [ccci.Bus]. With Redis away it fails within a few seconds.
func (b *Bus) Publish(ctx context.Context, topic, message string) error {
	return b.explain("publishing on "+topic, b.redis.Publish(ctx, prefix+topic, message).Err())
}

// Subscribe implements [ccci.Bus]. When the connection breaks it is made anew, and
// what was published meanwhile is missed.
func (b *Bus) Subscribe(ctx context.Context, topic string) (<-chan string, error) {
	sub := b.redis.Subscribe(ctx, prefix+topic)
	if _, err := sub.Receive(ctx); err != nil { // the server's confirmation
		sub.Close()
		return nil, b.explain("subscribing to "+topic, err)
	}
	in, out := sub.Channel(redis.WithChannelSize(backlog)), make(chan string, backlog)
	stop := context.AfterFunc(ctx, func() { sub.Close() }) // closes in
	go func() {
		defer close(out)
		defer stop()
		for message := range in {
			select {
			case out <- message.Payload:
			default: // it is behind, and reads the store anyway
			}
		}
	}()
	return out, nil
}
