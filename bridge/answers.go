package bridge

import (
	"context"
	"slices"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// repliesPerHour bounds what one person can make the bridge say on one pull
	// request, runs not counted; of a stranger, on all pull requests together.
	repliesPerHour = 10
	// strangersPerHour bounds what all strangers together can make it say.
	strangersPerHour = 60
	// answeredLimit bounds how many counts are remembered. Strangers beyond it get no answer.
	answeredLimit = 10_000
)

// answers counts the replies of the last hour. A stranger is a person who may not start
// runs: an account costs nothing, and each answer costs the forge's rate limit. What
// strangers use up is not taken from those who may. The zero value is ready.
type answers struct {
	mu        sync.Mutex
	members   map[string][]time.Time // by pull request and id
	strangers map[string][]time.Time // by id
	sum       []time.Time            // of all strangers
}

// member reports whether a person who may start runs is answered, and counts it. until is set
// with the last answer: when the next is possible.
func (a *answers) member(pr ccci.PRRef, id string, now time.Time) (ok bool, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.members) >= answeredLimit {
		prune(a.members, now)
	}
	key := pr.String() + "/" + id
	if ok = count(&a.members, key, now, repliesPerHour); ok && len(a.members[key]) == repliesPerHour {
		until = a.members[key][0].Add(time.Hour)
	}
	return ok, until
}

// stranger reports the same of one who may not. A person whose turn is refused because
// of others is counted too: the question whether they may start runs has a bound too.
func (a *answers) stranger(id string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.strangers) >= answeredLimit {
		prune(a.strangers, now)
	}
	if _, known := a.strangers[id]; !known && len(a.strangers) >= answeredLimit {
		return false
	}
	if !count(&a.strangers, id, now, repliesPerHour) {
		return false
	}
	a.sum = recent(a.sum, now)
	if len(a.sum) >= strangersPerHour {
		return false
	}
	a.sum = append(a.sum, now)
	return true
}

// tired reports whether a person had all answers of a stranger already.
func (a *answers) tired(id string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	times, known := a.strangers[id]
	if known {
		times = recent(times, now)
		a.strangers[id] = times
	}
	return len(times) >= repliesPerHour
}

func count(m *map[string][]time.Time, key string, now time.Time, most int) bool {
	if *m == nil {
		*m = map[string][]time.Time{}
	}
	times := recent((*m)[key], now)
	(*m)[key] = times
	if len(times) >= most {
		return false
	}
	(*m)[key] = append(times, now)
	return true
}

func recent(times []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(times, func(t time.Time) bool { return now.Sub(t) > time.Hour })
}

func prune(m map[string][]time.Time, now time.Time) {
	for key, times := range m {
		if m[key] = recent(times, now); len(m[key]) == 0 {
			delete(m, key)
		}
	}
}

// mayReply reports whether a comment gets an answer, and counts it. until is set with the last
// answer to a person who may start runs: when the next is possible.
func (b *Bridge) mayReply(ctx context.Context, repo Repo, verb Verb, c ccci.Comment, d decision) (ok bool, until time.Time) {
	now := b.cfg.Now()
	may := d.label != "not-allowed"
	if verb != VerbTest || d.label == "not-enrolled" { // it was not asked whether they may start runs
		if b.answers.tired(c.Author.ID, now) {
			return false, time.Time{}
		}
		var err error
		if may, _, err = b.allowed(ctx, repo, VerbTest, c.Author); err != nil {
			b.log.Debug("not known whether its author may start runs", "comment", c.ID, "error", err)
			may = false
		}
	}
	if may {
		return b.answers.member(c.PR, c.Author.ID, now)
	}
	return b.answers.stranger(c.Author.ID, now), time.Time{}
}
