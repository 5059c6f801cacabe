package bridge

import (
	"sync"
	"time"
)

const (
	// noMemory is how long it is not asked again whether somebody is a member. It is
	// short, so that a person who was just made one is not kept out for long.
	noMemory = 2 * time.Minute
	// noLimit bounds how many are remembered. Accounts cost nothing.
	noLimit = 10_000
)

// noes remembers who is no member of which organisation, so that a stranger with many
// comments costs the forge one question and delays nobody. A yes is not remembered: who
// was removed starts nothing more. The zero value is ready.
type noes struct {
	mu sync.Mutex
	at map[string]time.Time // by organisation and user id: when the question was asked
}

func (n *noes) known(org, id string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, found := n.at[org+"/"+id]
	return found && now.Sub(at) < noMemory
}

// add notes a no. asked is when the question was put, since the answer may be as old as that.
func (n *noes) add(org, id string, asked time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.at) >= noLimit {
		for key, at := range n.at {
			if asked.Sub(at) >= noMemory {
				delete(n.at, key)
			}
		}
	}
	if n.at == nil || len(n.at) >= noLimit { // to forget costs one more question each
		n.at = map[string]time.Time{}
	}
	n.at[org+"/"+id] = asked
}
