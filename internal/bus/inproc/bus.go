// Package inproc is the bus and the locks of a cc-ci that is one process: the
// embedded profile's [ccci.Bus] and [ccci.Locker].
package inproc

import (
	"context"
	"fmt"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// backlog is how many messages a subscriber may be behind before it misses some.
const backlog = 64

// Bus implements [ccci.Bus]. The zero value is ready.
type Bus struct {
	mu     sync.Mutex
	topics map[string]map[chan string]bool
}

var _ ccci.Bus = (*Bus)(nil)

// Publish implements [ccci.Bus].
func (b *Bus) Publish(ctx context.Context, topic, message string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publishing on %s: %w", topic, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.topics[topic] {
		select {
		case ch <- message:
		default: // it is behind, and reads the store anyway
		}
	}
	return nil
}

// Subscribe implements [ccci.Bus].
func (b *Bus) Subscribe(ctx context.Context, topic string) (<-chan string, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("subscribing to %s: %w", topic, err)
	}
	ch := make(chan string, backlog)
	b.mu.Lock()
	if b.topics == nil {
		b.topics = map[string]map[chan string]bool{}
	}
	if b.topics[topic] == nil {
		b.topics[topic] = map[chan string]bool{}
	}
	b.topics[topic][ch] = true
	b.mu.Unlock()
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.topics[topic], ch)
		if len(b.topics[topic]) == 0 {
			delete(b.topics, topic)
		}
		close(ch) // no Publish is sending: it would hold the lock
	})
	return ch, nil
}
