package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// outboxEvery is how often the outbox is looked into without being asked.
	outboxEvery = 2 * time.Second
	// outboxBatch is how many messages are read at a time.
	outboxBatch = 500
	// retryLimit is the longest wait between two tries to deliver while the forge fails.
	retryLimit = 5 * time.Minute
	// refusedLimit is the longest wait where the forge itself refuses.
	refusedLimit = time.Hour
	// keptFor is the age at which a message is given up that fails by itself. While the forge
	// fails, nothing is given up.
	keptFor = 7 * 24 * time.Hour
	// replyKeptFor is the same of a reply: anyone can cause many, and each try has the whole
	// thread read.
	replyKeptFor = 24 * time.Hour
)

// deliver sends what the store holds for the forge until ctx is done. A
// message stays in the store until the forge has it, refuses it for good, or it is
// too old; of several versions only the last is sent.
func (b *Bridge) deliver(ctx context.Context) {
	var measured time.Time
	for {
		wait := b.flush(ctx, false)
		if now := b.cfg.Now(); now.Sub(measured) >= measureEvery {
			measured = now
			b.measure(ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-b.wakeOutbox:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// nudge makes deliver look now.
func (b *Bridge) nudge() {
	select {
	case b.wakeOutbox <- struct{}{}:
	default:
	}
}

// messageKey keeps the messages of several forges in one store apart.
func (b *Bridge) messageKey(key string) string { return b.name() + "/" + key }

// sendEarly makes deliver try now what it had put off: the forge is back.
func (b *Bridge) sendEarly() {
	b.mu.Lock()
	b.early = true
	b.mu.Unlock()
	b.writes.early()
	b.nudge()
}

// pending returns what this forge is to be told and is due at now: what failed less often
// first, then verdicts and statuses before replies, then by age.
// Messages for other forges in the same store do not crowd it out.
func (b *Bridge) pending(ctx context.Context, now time.Time) ([]ccci.Message, error) {
	for limit := outboxBatch; ; limit *= 4 {
		all, err := b.cfg.Store.PendingMessages(ctx, now, limit)
		if err != nil {
			return nil, err
		}
		full := len(all) == limit
		own := slices.DeleteFunc(all, func(m ccci.Message) bool { return !strings.HasPrefix(m.Key, b.messageKey("")) })
		if !full || len(own) >= outboxBatch/2 {
			slices.SortStableFunc(own, func(a, o ccci.Message) int {
				return cmp.Or(cmp.Compare(a.Attempts, o.Attempts), cmp.Compare(b.rank(a), b.rank(o)))
			})
			return own, nil
		}
	}
}

// rank puts what tells of a run before replies, of which anyone can cause many.
func (b *Bridge) rank(msg ccci.Message) int {
	if msg.Kind == ccci.MessageStatus || strings.HasPrefix(msg.Key, b.messageKey("run/")) {
		return 0
	}
	return 1
}

// flush sends every message that is due, and returns how long to wait until the next
// may be. With all set the gap between edits is not kept: nobody comes after.
func (b *Bridge) flush(ctx context.Context, all bool) time.Duration {
	wait := outboxEvery
	now := b.cfg.Now()
	if rest, _ := b.writes.wait(now); rest > 0 {
		return min(rest, wait)
	}
	b.mu.Lock()
	early := b.early
	b.early = false
	b.mu.Unlock()
	if early {
		now = now.Add(retryLimit)
	}
	pending, err := b.pending(ctx, now)
	if err != nil {
		if ctx.Err() == nil {
			b.log.Error("reading what is to be said", "error", err)
		}
		return wait
	}
	for _, msg := range pending {
		if rest, _ := b.writes.wait(b.cfg.Now()); ctx.Err() != nil || rest > 0 {
			return wait
		}
		if gap := b.sent.gap(msg.Key, b.cfg.Now(), b.cfg.EditGap); gap > 0 && !all && msg.Posted != "" {
			wait = min(wait, gap)
			continue
		}
		if until, shut := b.shut.until(msg, b.cfg.Now()); shut {
			b.putOff(ctx, msg, until, fmt.Errorf("another comment on the same pull request: %w", ccci.ErrRefused))
			continue
		}
		b.attempt(ctx, msg)
	}
	return wait
}

// attempt tries to deliver a message and notes what came of it.
func (b *Bridge) attempt(ctx context.Context, msg ccci.Message) {
	posted, err := b.send(ctx, msg)
	now := b.cfg.Now()
	if err != nil && ctx.Err() != nil {
		return
	}
	b.cfg.Observer.Said(b.name(), msg.Kind, err)
	if err != nil {
		b.failed(ctx, msg, now, err)
		return
	}
	b.shut.passed(msg)
	if lasted, was := b.writes.passed(now); was {
		b.log.Info("the forge can be spoken to again", "after", lasted.Round(time.Second))
		b.sendEarly()
	}
	b.sent.note(msg.Key, now, b.cfg.EditGap)
	asked, ended := b.sent.settled(msg.Key)
	if !asked.IsZero() {
		b.cfg.Observer.Answered(b.name(), max(now.Sub(asked), 0))
	}
	if !ended.IsZero() {
		b.cfg.Observer.Told(b.name(), max(now.Sub(ended), 0))
	}
	if err := b.cfg.Store.MarkSent(ctx, msg.Key, msg.Version, posted); err != nil && ctx.Err() == nil {
		b.log.Error("noting a delivery", "message", msg.Key, "error", err) // it will be sent again, which is harmless
	}
}

// failed notes that a try failed, and decides when the next one comes.
func (b *Bridge) failed(ctx context.Context, msg ccci.Message, now time.Time, err error) {
	again := now.Add(backoffTo(msg.Attempts, retryLimit))
	began := false
	if errors.Is(err, ccci.ErrRefused) { // it speaks, so it does not fail
		again = b.shut.refused(msg, now)
	} else if began = b.writes.failed(now, err); began {
		b.log.Error("nothing can be said on the forge; it is kept until it can", "error", err)
	}
	if _, down := b.writes.wait(now); !down && !began {
		b.log.Log(ctx, once(msg.Attempts), "saying something on the forge", "message", msg.Key, "pr", msg.PR, "attempts", msg.Attempts+1, "again", again, "error", err)
	}
	b.putOff(ctx, msg, again, err)
}

// putOff keeps a message until then, or gives it up where it has failed by itself for too long.
func (b *Bridge) putOff(ctx context.Context, msg ccci.Message, until time.Time, cause error) {
	refused, kept := errors.Is(cause, ccci.ErrRefused), keptFor
	if refused && b.rank(msg) > 0 {
		kept = replyKeptFor
	}
	now := b.cfg.Now()
	_, down := b.writes.wait(now)
	var err error
	if (refused || !down) && now.Sub(msg.Updated) > kept {
		b.log.Warn("what was to be said is given up", "message", msg.Key, "pr", msg.PR, "since", msg.Updated, "error", cause)
		err = b.cfg.Store.MarkSent(ctx, msg.Key, msg.Version, msg.Posted)
	} else {
		err = b.cfg.Store.MarkFailed(ctx, msg.Key, until, cause.Error())
	}
	if err != nil && ctx.Err() == nil {
		b.log.Error("noting a failed delivery", "message", msg.Key, "error", err)
	}
}

// send delivers one message and returns the comment that holds it.
func (b *Bridge) send(ctx context.Context, msg ccci.Message) (ccci.CommentID, error) {
	if msg.Kind == ccci.MessageStatus {
		err := b.cfg.Forge.SetStatus(ctx, msg.PR.Repo, msg.Commit, msg.Status)
		if final(err) {
			b.log.Warn("the commit is gone or closed to cc-ci, its status is dropped", "message", msg.Key, "commit", msg.Commit, "error", err)
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("setting the status of %s: %w", msg.Commit.Short(), err)
		}
		return "", nil
	}
	if msg.Posted != "" {
		err := b.cfg.Forge.EditComment(ctx, msg.PR, msg.Posted, msg.Body)
		if err == nil {
			return msg.Posted, nil
		}
		if !errors.Is(err, ccci.ErrNotFound) {
			return b.orGone(msg, msg.Posted, fmt.Errorf("editing comment %s on %s: %w", msg.Posted, msg.PR, err))
		}
		// Somebody deleted it. It is written once more; deleted again, it stays away.
		id, err := b.post(ctx, msg, msg.Key+"/again")
		return b.orGone(msg, id, err)
	}
	id, err := b.post(ctx, msg, msg.Key)
	return b.orGone(msg, id, err)
}

// post writes a comment. The forge may have it from an earlier life of this
// process, with an older text; then that is brought up to date.
func (b *Bridge) post(ctx context.Context, msg ccci.Message, key string) (ccci.CommentID, error) {
	first := b.sent.unsaid(key)
	id, err := b.cfg.Forge.PostComment(ctx, msg.PR, key, msg.Body)
	if err != nil {
		return "", fmt.Errorf("commenting on %s: %w", msg.PR, err)
	}
	if msg.Version > 1 && !first {
		if err := b.cfg.Forge.EditComment(ctx, msg.PR, id, msg.Body); err != nil {
			return id, fmt.Errorf("editing comment %s on %s: %w", id, msg.PR, err)
		}
	}
	return id, nil
}

func (b *Bridge) orGone(msg ccci.Message, id ccci.CommentID, err error) (ccci.CommentID, error) {
	if final(err) {
		b.log.Warn("the pull request or comment is gone or closed to cc-ci, what was to be said is dropped", "message", msg.Key, "pr", msg.PR, "error", err)
		return id, nil
	}
	return id, err
}

// final reports whether no later try can succeed.
func final(err error) bool { return errors.Is(err, ccci.ErrNotFound) || errors.Is(err, ccci.ErrLocked) }

// sentLog remembers when each comment was last written, to keep edits apart.
// It need not survive a restart.
type sentLog struct {
	mu     sync.Mutex
	last   map[string]time.Time
	urgent map[string]bool
	fresh  map[string]bool
	asked  map[string]time.Time // answers that somebody waits for, since when
	ended  map[string]time.Time // verdicts likewise
}

// figuresLimit bounds how many waits are remembered.
const figuresLimit = 10_000

// awaited says since when somebody waits for key to be posted.
func (s *sentLog) awaited(key string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil || len(s.asked) > figuresLimit {
		s.asked = map[string]time.Time{}
	}
	s.asked[key] = since
}

// verdict says that key's next version tells the end of what ended at since.
func (s *sentLog) verdict(key string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil || len(s.ended) > figuresLimit {
		s.ended = map[string]time.Time{}
	}
	s.ended[key] = since
}

// settled returns, once, since when somebody waited for key, and for its verdict.
func (s *sentLog) settled(key string) (asked, ended time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, ended = s.asked[key], s.ended[key]
	delete(s.asked, key)
	delete(s.ended, key)
	return asked, ended
}

// born says that key came into being here and now, so that no earlier life of
// this process can have posted it.
func (s *sentLog) born(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fresh == nil {
		s.fresh = map[string]bool{}
	}
	s.fresh[key] = true
}

// unsaid reports, once, whether key was born here and was not tried to be posted.
func (s *sentLog) unsaid(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh[key]
	delete(s.fresh, key)
	return fresh
}

// forget starts over: meanwhile another process may have sent anything.
func (s *sentLog) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.urgent, s.fresh = nil, nil, nil
}

// hurry lets the next edit of key through at once: it is the last one.
func (s *sentLog) hurry(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.urgent == nil {
		s.urgent = map[string]bool{}
	}
	if _, waits := s.last[key]; waits {
		s.urgent[key] = true
	}
}

// gap is how long key must still wait.
func (s *sentLog) gap(key string, now time.Time, least time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.last[key]
	if !ok || s.urgent[key] {
		return 0
	}
	return last.Add(least).Sub(now)
}

// note records a delivery and forgets those that no longer matter.
func (s *sentLog) note(key string, now time.Time, least time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[string]time.Time{}
	}
	s.last[key] = now
	delete(s.urgent, key)
	for k, t := range s.last {
		if now.Sub(t) > least {
			delete(s.last, k)
			delete(s.urgent, k)
		}
	}
}
