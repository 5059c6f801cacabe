package harness

import (
	"context"
	"errors"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

const (
	// confirmPause lies between the two attempts of a check: what hinders the first one for a
	// moment must not hinder the second as well.
	confirmPause = 5 * time.Second
	// confirmLimit bounds the second attempt. A check that waits for the app has waited for its
	// whole limit before.
	confirmLimit = time.Minute
)

// confirmed is check for a question that only reads. If its failure would decide the run, it is
// asked once more of the same deployment (N14). A check that passes then is flaky: the run goes
// on from it, and does not pass.
func (l *life) confirmed(ctx context.Context, s *ccci.Stage, name string, ask func(context.Context) error) bool {
	c, err := l.ask(ctx, name, ask)
	if l.first != nil || !confirmable(c, err) {
		return l.record(s, c, err)
	}
	l.sayf("again      %s in %s: %s", name, confirmPause, c.Message)
	select {
	case <-ctx.Done():
		return l.record(s, c, err)
	case <-time.After(confirmPause):
	}
	second, secondErr := l.ask(ctx, name, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, confirmLimit)
		defer cancel()
		return ask(ctx)
	})
	if second.Status == ccci.Pass {
		return l.record(s, bothAttempts(c, second), nil)
	}
	if confirmable(second, secondErr) {
		c = bothAttempts(c, second)
	}
	return l.record(s, c, err) // the first answer stands where the second is none
}

// confirmable reports whether a check failed in a way that may be different the next time: the app
// answered otherwise than expected. An infrastructure error is repeated with the whole
// run, and what cannot change is not asked again.
func confirmable(c ccci.Check, err error) bool {
	var failure *checks.Failure
	return c.Status == ccci.Fail && c.Code == ccci.CodeRecipe && !(errors.As(err, &failure) && failure.Final)
}

// bothAttempts makes one check of a failure and the attempt after it.
func bothAttempts(first, second ccci.Check) ccci.Check {
	c := first
	for _, a := range []ccci.Check{first, second} {
		c.Attempts = append(c.Attempts, ccci.Attempt{Status: a.Status, Message: a.Message, Started: a.Started, Duration: a.Duration})
	}
	c.Duration = second.Started.Add(second.Duration).Sub(first.Started)
	if second.Status == ccci.Pass {
		c.Status, c.Code, c.Message = ccci.Flaky, "", "it failed, and passed when it was repeated: "+first.Message
	}
	return c
}
