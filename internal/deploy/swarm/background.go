package swarm

import (
	"context"
	"sync"
)

// background is work in one goroutine, from the first start to stop. The zero value is ready.
type background struct {
	mu     sync.Mutex
	cancel context.CancelFunc // nil while nothing runs
	done   chan struct{}
}

// start runs do, unless it runs already. It reports whether it did.
func (b *background) start(do func(ctx context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel != nil {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	b.cancel, b.done = cancel, done
	go func() {
		defer close(done)
		do(ctx)
	}()
	return true
}

// stop ends the work and waits for it. Legal at any time. It reports whether there was any.
func (b *background) stop() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel == nil {
		return false
	}
	b.cancel()
	<-b.done
	b.cancel = nil
	return true
}
