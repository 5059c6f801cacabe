package ccci

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Topics of the bus.
const (
	TopicRuns  = "runs"  // a run changed; the message is its ID
	TopicForge = "forge" // a comment may have been written; the message is a [ForgeHint]
)

// ForgeHint is a message on [TopicForge]: "owner/name", and after a space the
// forge's name where it is known. Without one every forge may be meant.
func ForgeHint(forge string, repo RepoRef) string {
	if forge == "" {
		return repo.String()
	}
	return repo.String() + " " + forge
}

// ParseForgeHint reads what ForgeHint wrote.
func ParseForgeHint(message string) (forge string, repo RepoRef, err error) {
	text, forge, _ := strings.Cut(message, " ")
	repo, err = ParseRepoRef(text)
	return forge, repo, err
}

// Bus carries hints between processes. It is lossy: a subscriber that is slow
// or late misses messages, so it reads the [Store] again from time to time.
type Bus interface {
	// Publish never blocks on a slow subscriber.
	Publish(ctx context.Context, topic, message string) error
	// Subscribe delivers messages published after it returned, until ctx is
	// done; then the channel is closed.
	Subscribe(ctx context.Context, topic string) (<-chan string, error)
}

// ErrLeaseLost is the cause of a [Lease]'s context when the lease was lost.
var ErrLeaseLost = errors.New("the lease was lost")

// Locker gives out exclusive leases by key.
type Locker interface {
	// Acquire waits for the lease until ctx is done. The lease is renewed by
	// itself; when its holder dies, it is free after ttl at the latest.
	Acquire(ctx context.Context, key string, ttl time.Duration) (Lease, error)
}

// Lease is held until Release, or until it is lost.
type Lease interface {
	// Context ends when the lease is released or lost (with cause ErrLeaseLost).
	Context() context.Context
	// Fence is a number that only grows from one holder of a key to the next.
	Fence() uint64
	// Release gives it back. Legal twice.
	Release() error
}
