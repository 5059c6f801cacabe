package dashboard

import "sync"

// hint is one message of the bus.
type hint struct{ topic, message string }

// hub hands hints to the live pages. A reader that is busy gets one wake-up for
// many hints: what changed, it reads from the store.
type hub struct {
	mu      sync.Mutex
	readers map[*reader]struct{}
}

type reader struct {
	wants func(hint) bool
	wake  chan struct{} // holds at most one
}

func newHub() *hub { return &hub{readers: map[*reader]struct{}{}} }

// join registers a reader. leave is legal twice.
func (h *hub) join(wants func(hint) bool) (wake <-chan struct{}, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &reader{wants: wants, wake: make(chan struct{}, 1)}
	h.readers[r] = struct{}{}
	return r.wake, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.readers, r)
	}
}

func (h *hub) publish(m hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.readers {
		if !r.wants(m) {
			continue
		}
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}
