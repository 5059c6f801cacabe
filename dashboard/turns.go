package dashboard

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// turns are the places in which pages with a log or a result are put together: few in sum, because each takes
// memory, and one for each client, so that one with many requests does not take the places of all others.
type turns struct {
	places chan struct{}

	mu      sync.Mutex
	clients map[netip.Prefix]*clientTurn
}

// clientTurn is the one place of a client.
type clientTurn struct {
	place chan struct{}
	users int // requests that have it or wait for it
}

// turnLimit is how long a request waits for its turn.
const turnLimit = 5 * time.Second

func newTurns(places int) *turns {
	return &turns{places: make(chan struct{}, places), clients: map[netip.Prefix]*clientTurn{}}
}

// take waits for a turn. It returns errBusy when that takes too long.
func (t *turns) take(ctx context.Context, who netip.Prefix) (leave func(), err error) {
	timer := time.NewTimer(turnLimit)
	defer timer.Stop()
	own := t.join(who)
	for i, place := range []chan struct{}{own.place, t.places} {
		select {
		case place <- struct{}{}:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		case <-timer.C:
			err = errBusy
		}
		if i > 0 {
			<-own.place
		}
		t.part(who)
		return nil, err
	}
	return func() {
		<-t.places
		<-own.place
		t.part(who)
	}, nil
}

func (t *turns) join(who netip.Prefix) *clientTurn {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.clients[who]
	if c == nil {
		c = &clientTurn{place: make(chan struct{}, 1)}
		t.clients[who] = c
	}
	c.users++
	return c
}

func (t *turns) part(who netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.clients[who]
	if c.users--; c.users == 0 {
		delete(t.clients, who)
	}
}
