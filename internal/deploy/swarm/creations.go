package swarm

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/recipe-maintainers/cc-ci/harness"
)

// creations are the requests of one Deployer to create an object whose outcome is
// unknown. Each is written down before the request is sent. A request goes on
// when its caller gives up, because the daemon may carry it out at any later time:
// Remove returns only when each request has been answered, its object has been
// seen, or the object has been absent for long enough.
type creations struct {
	mu   sync.Mutex
	open []*creation
}

type creation struct {
	kind, name, stack string
	lost              bool // the request ended without an answer that says what became of it
}

func (c *creation) String() string { return c.kind + " " + c.name }

// create sends one request to create an object. It returns when the daemon has answered
// or ctx has ended; in the second case the request goes on for at most
// Options.AnswerPatience.
func (d *Deployer) create(ctx context.Context, kind, name, stack string, request func(context.Context) error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("creating %s %s: %w", kind, name, context.Cause(ctx))
	}
	lasting, cancel := cleanupContext(ctx, d.o.AnswerPatience)
	c := &creation{kind: kind, name: name, stack: stack}
	d.creations.add(c)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		err := request(lasting)
		d.creations.ended(c, err)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("creating %s %s: %w", kind, name, context.Cause(ctx))
	}
}

// Creating sends a request of another part of the run to create an object with the run's label. Remove of
// the run outlives it like the Deployer's own.
func (d *Deployer) Creating(ctx context.Context, kind, name string, request func(context.Context) error) error {
	return d.create(ctx, kind, name, "", request)
}

func (cs *creations) add(c *creation) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.open = append(cs.open, c)
}

// ended notes the end of a request. The daemon answers 500 also when its own
// time-out was too short for what swarm does later all the same.
func (cs *creations) ended(c *creation, err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if err == nil || refused(err) {
		cs.forget(func(o *creation) bool { return o == c })
		return
	}
	c.lost = true
}

// refused reports whether the daemon said that it has not created the object.
func refused(err error) bool {
	return cerrdefs.IsInvalidArgument(err) || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) ||
		cerrdefs.IsAlreadyExists(err) || cerrdefs.IsPermissionDenied(err) || cerrdefs.IsUnauthorized(err)
}

func (cs *creations) forget(which func(*creation) bool) { cs.open = slices.DeleteFunc(cs.open, which) }

// seen settles the requests whose objects are there: what is there can be removed.
func (cs *creations) seen(objects harness.Snapshot) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.forget(func(c *creation) bool {
		return slices.ContainsFunc(objects, func(o harness.Object) bool { return o.Kind == c.kind && o.Name == c.name })
	})
}

// of lists an app's open requests: those that wait for an answer, and those that lost it.
func (cs *creations) of(stack string, whole bool) (waiting, lost []string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.open {
		switch {
		case !whole && c.stack != stack:
		case c.lost:
			lost = append(lost, c.String())
		default:
			waiting = append(waiting, c.String())
		}
	}
	return waiting, lost
}

// absence watches for how long the objects of lost requests have not been there.
type absence struct{ since time.Time }

// open names the requests that may still create something. Call it when the daemon has
// nothing of the app, with the requests as they were before it was asked.
func (a *absence) open(waiting, lost []string, now time.Time, patience time.Duration) []string {
	if len(waiting) > 0 || len(lost) == 0 {
		a.since = time.Time{}
		return append(waiting, lost...)
	}
	if a.since.IsZero() {
		a.since = now
	}
	if now.Sub(a.since) < patience {
		return lost
	}
	return nil
}

// giveUp settles the lost requests of an app, whose objects have been absent for long enough.
func (d *Deployer) giveUp(app harness.App, lost []string) {
	if len(lost) == 0 {
		return
	}
	d.log.Warn("the daemon never said what became of requests to create objects; the janitor removes what still appears",
		"app", app.StackName, "objects", lost, "absent for", d.o.AbsencePatience)
	d.creations.mu.Lock()
	defer d.creations.mu.Unlock()
	d.creations.forget(func(c *creation) bool { return c.lost && (app.RunID == d.o.RunID || c.stack == app.StackName) })
}
