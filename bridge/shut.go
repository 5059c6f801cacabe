package bridge

import (
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// shut holds the pull requests on which the forge itself refuses to take a comment
// ([ccci.ErrRefused]). The author of a pull request can bring that about, with as many
// comments waiting as the bridge answers. So there is one try for each such pull
// request, at growing distances, and it counts for nothing elsewhere. Only the
// goroutine that delivers uses it.
type shut map[ccci.PRRef]refusals

type refusals struct {
	tries int
	next  time.Time
}

// shutLimit bounds how many pull requests are remembered. Forgotten ones are tried again.
const shutLimit = 10_000

// refused notes a refusal and returns when the next try may come. A status is refused
// by itself: it stands on a commit, not in the conversation.
func (s shut) refused(msg ccci.Message, now time.Time) time.Time {
	if msg.Kind == ccci.MessageStatus {
		return now.Add(backoffTo(msg.Attempts, refusedLimit))
	}
	if len(s) >= shutLimit {
		clear(s)
	}
	r := s[msg.PR]
	r.next = now.Add(backoffTo(r.tries, refusedLimit))
	r.tries++
	s[msg.PR] = r
	return r.next
}

// until reports whether a message must wait for the next try on its pull request.
func (s shut) until(msg ccci.Message, now time.Time) (time.Time, bool) {
	next := s[msg.PR].next
	return next, msg.Kind == ccci.MessageComment && now.Before(next)
}

// passed notes that the forge took a message.
func (s shut) passed(msg ccci.Message) {
	if msg.Kind == ccci.MessageComment {
		delete(s, msg.PR)
	}
}
