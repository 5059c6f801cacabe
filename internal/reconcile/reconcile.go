// Package reconcile keeps the host's own services as they are declared: the swarm,
// the proxy, Drone, bridge, dashboard and backups.
//
// Each is a [Unit], whose [Desired] state is data. A [Runner] looks at Docker
// ([Observed]), asks the pure function [Plan] what differs, makes the first change,
// looks again, and so on until there is nothing to do. Nothing is remembered
// between two runs but what Docker itself holds, so a run that is killed at any
// moment is finished by the next one. One change is one call of Docker's API.
//
// What a unit made carries [LabelUnit]; what carries it and is wanted no longer
// goes. Secrets and configs cannot be changed in a swarm, so each content is an
// object of its own, named after its digest, and goes when no service uses it.
//
// A service's update is gated: swarm watches the new tasks and goes back by itself
// when one fails; the unit's own Check is asked afterwards, and when that fails the
// Runner goes back. Either is an error in the failed task's own words, and the
// same update is not tried again before an hour has passed, unless it is asked for.
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Unit is one part of the host's own services. Its functions read; only Steps
// returns what changes something outside of Docker's objects.
type Unit struct {
	Name string

	// Desired returns what must exist. It is called once per run, before anything is
	// looked at, reads files where it has to (a certificate, a token) and refuses what
	// could not work with an Error that says so: nothing is changed then.
	Desired func(ctx context.Context) (Desired, error)

	// Steps, which may be nil, returns what is left to do once all services run and
	// which Docker does not know of, as a setting in a server's own API. It finds out by
	// asking; none means nothing to do. After they were done it is asked again, for
	// what could not be seen before; what was done must not be among it.
	Steps func(ctx context.Context) ([]Step, error)

	// Check, which may be nil, returns nil when the unit really serves. It is asked
	// at the end of every run, repeatedly until it is content or CheckPatience is over.
	Check         func(ctx context.Context) error
	CheckPatience time.Duration // default 30 s
}

// Step is a change that only the unit knows how to make. It is idempotent.
type Step struct {
	Text string // what it does, as "setting the time limit of coop/cc-ci to 60 minutes"
	Do   func(ctx context.Context) error
	// Beside, which may be nil, makes the change by being there for a while instead of what
	// is desired otherwise. Do is asked repeatedly then, until it says that this was enough.
	Beside *Desired
}

// Daemon is what the Runner needs of Docker. [NewDaemon] returns the real one.
type Daemon interface {
	// Observe looks at everything. A daemon that does not answer (yet) is an error
	// for which [Away] reports true.
	Observe(ctx context.Context) (Observed, error)
	// Apply makes one change. The verbs Await, Hold and Refuse never get here.
	Apply(ctx context.Context, d Desired, o Observed, a Action) error
}

// Runner brings units into their desired state. Daemon is needed.
type Runner struct {
	Daemon Daemon
	DryRun bool // say what would be done and do nothing
	Retry  bool // try updates again that failed less than HoldTime ago

	// Began and Applied, which may be nil, are told of each change before and after
	// it is made.
	Began, Applied func(unit string, a Action)

	Logger   *slog.Logger     // default: discard
	Now      func() time.Time // default time.Now
	Poll     time.Duration    // between two looks while something is awaited; default 200 ms
	Patience time.Duration    // how long Docker itself may be away; default 30 s
}

// NotYet is an error of Apply's for what Docker will be able to do in a moment, when it has finished something
// else. It is tried again with what is seen then.
type NotYet struct{ Err error }

func (e *NotYet) Error() string { return e.Err.Error() }
func (e *NotYet) Unwrap() error { return e.Err }

// Gone is an error of Apply's for what an earlier unit makes and what has vanished since: a
// node lists a network that the swarm has removed until the last task in it has ended.
type Gone struct{ Err error }

func (e *Gone) Error() string { return e.Err.Error() }
func (e *Gone) Unwrap() error { return e.Err }

// notYetLimit is how long something may be too early.
const notYetLimit = time.Minute

// maxChanges is more than any unit has objects: a run that makes more goes round in circles.
const maxChanges = 200

// Run brings the units into their state, one after the other, and returns a report of each
// that it came to. It ends with the first that fails: those after it need it. The error
// is that unit's. Once it begins anew, where a unit finds [Gone] what one before it makes.
func (r *Runner) Run(ctx context.Context, units ...Unit) ([]Report, error) {
	var reports []Report
	for i, anew := 0, false; i < len(units); i++ {
		report := r.filled().unit(ctx, units[i])
		if i < len(reports) {
			report.Actions = append(reports[i].Actions, report.Actions...)
			reports[i] = report
		} else {
			reports = append(reports, report)
		}
		var gone *Gone
		if errors.As(report.Err, &gone) && i > 0 && !anew {
			i, anew = -1, true
			continue
		}
		if report.Err != nil {
			return reports, ccci.Errorf(ccci.CodeOf(report.Err), "%s: %w", units[i].Name, report.Err).WithHint("%s", ccci.HintOf(report.Err))
		}
	}
	return reports, nil
}

func (r *Runner) filled() *Runner {
	c := *r
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Began == nil {
		c.Began = func(string, Action) {}
	}
	if c.Applied == nil {
		c.Applied = func(string, Action) {}
	}
	if c.Poll <= 0 {
		c.Poll = 200 * time.Millisecond
	}
	if c.Patience <= 0 {
		c.Patience = 30 * time.Second
	}
	return &c
}

// unit brings one unit into its state.
func (r *Runner) unit(ctx context.Context, u Unit) Report {
	report := Report{Unit: u.Name, Planned: r.DryRun}
	d, err := u.Desired(ctx)
	if err == nil {
		d.Unit = u.Name
		err = d.check()
	}
	if err != nil {
		report.Err = err
		return report
	}
	run := (&unitRun{Runner: r, start: r.Now(), report: &report}).another(u, d)
	if r.DryRun {
		report.Err = run.dry(ctx)
	} else {
		report.Err = run.converge(ctx)
	}
	return report
}

// unitRun is one unit being brought into its state.
type unitRun struct {
	*Runner
	unit    Unit
	desired Desired
	start   time.Time
	report  *Report
	awaited map[string]*awaited // by service
	updated map[string]string   // services that were updated in this run, by name: the hash of their new specification
	order   []string            // of updated
	last    string              // the last change made
	early   string              // the change that Docker cannot make yet
	since   time.Time           // of early
}

func (r *unitRun) plan(o Observed) []Action {
	limit := r.start // what was refused before this run counts, unless it is to be tried again
	if !r.Retry {
		limit = o.At.Add(-HoldTime)
	}
	r.desired = r.desired.on(o)
	return Plan(r.desired, o, limit)
}

func (r *unitRun) dry(ctx context.Context) error {
	o, err := r.observe(ctx)
	if err != nil {
		return err
	}
	r.report.Actions = r.plan(o)
	if len(r.report.Actions) > 0 || r.unit.Steps == nil {
		return nil
	}
	steps, err := r.unit.Steps(ctx)
	for _, s := range steps {
		r.report.Actions = append(r.report.Actions, s.action())
	}
	return err
}

// converge goes from change to change until there is nothing left.
func (r *unitRun) converge(ctx context.Context) error {
	checked := false
	for len(r.report.Actions) < maxChanges {
		o, err := r.observe(ctx)
		if err != nil {
			return err
		}
		next, ok := first(r.plan(o))
		switch {
		case ok && (!next.Late || checked):
			if err := r.act(ctx, o, next); err != nil {
				return err
			}
		case !checked:
			if err := r.finish(ctx); err != nil {
				return r.back(ctx, err)
			}
			checked = true
		default:
			return nil
		}
	}
	return ccci.Errorf(ccci.CodeInfra, "there is always something left to do, the last was %s", r.last).
		WithHint("somebody else changes the same objects, or this is a mistake in cc-ci: please report it")
}

func first(plan []Action) (Action, bool) {
	if len(plan) == 0 {
		return Action{}, false
	}
	return plan[0], true
}

// act makes one change, or waits a moment for one that Docker is making.
func (r *unitRun) act(ctx context.Context, o Observed, a Action) error {
	switch a.Verb {
	case Refuse, Hold:
		return ccci.Errorf(ccci.CodeInfra, "%s", a.Why).WithHint("%s", a.Hint)
	case Await:
		return r.await(ctx, o, a)
	}
	text := a.String()
	if text == r.last {
		return ccci.Errorf(ccci.CodeInfra, "%s did not help", text).WithHint("somebody else changes the same object, or this is a mistake in cc-ci: please report it")
	}
	if r.early != text {
		r.Began(r.unit.Name, a)
	}
	if err := r.Daemon.Apply(ctx, r.desired, o, a); err != nil {
		var early *NotYet
		if errors.As(err, &early) {
			if o.At.Sub(r.notYet(text, o.At)) < notYetLimit {
				return r.sleep(ctx)
			}
			return ccci.Errorf(ccci.CodeInfra, "%s: for %s Docker has said: %w", a, notYetLimit, err).
				WithHint("Docker lists a network that its swarm does not know: remove it with docker network rm, or restart Docker (systemctl restart docker); cc-ci reconcile then makes it again")
		}
		var own *ccci.Error
		if errors.As(err, &own) {
			return err
		}
		return ccci.Errorf(ccci.CodeInfra, "%s: %w", a, err).WithHint("look at Docker's log; cc-ci reconcile %s goes on where this ended", r.unit.Name)
	}
	r.last = a.String()
	r.report.Actions = append(r.report.Actions, a)
	if a.Verb == Update && a.Kind == KindService {
		r.updated[a.Name] = a.Hash
		r.order = append(r.order, a.Name)
	}
	r.Applied(r.unit.Name, a)
	return nil
}

// notYet returns since when an action is too early.
func (r *unitRun) notYet(text string, at time.Time) time.Time {
	if r.early != text {
		r.early, r.since = text, at
	}
	return r.since
}

// finish does the unit's own steps and asks whether it serves.
func (r *unitRun) finish(ctx context.Context) error {
	if err := r.steps(ctx); err != nil {
		return err
	}
	if r.unit.Check == nil {
		return nil
	}
	patience := r.unit.CheckPatience
	if patience <= 0 {
		patience = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for {
		err := r.unit.Check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil { // that time is over is no reason
			last = err
		}
		if r.sleep(ctx) != nil {
			return last
		}
	}
}

// steps does the unit's own steps until there are none.
func (r *unitRun) steps(ctx context.Context) error {
	if r.unit.Steps == nil {
		return nil
	}
	done := map[string]bool{}
	for {
		steps, err := r.unit.Steps(ctx)
		if err != nil || len(steps) == 0 {
			return err
		}
		for _, s := range steps {
			if done[s.Text] {
				return ccci.Errorf(ccci.CodeInfra, "%s did not help", s.Text)
			}
			done[s.Text] = true
			r.Began(r.unit.Name, s.action())
			do := s.Do
			if s.Beside != nil {
				do = func(ctx context.Context) error { return r.beside(ctx, s) }
			}
			if err := do(ctx); err != nil {
				return fmt.Errorf("%s: %w", s.Text, err)
			}
			r.report.Actions = append(r.report.Actions, s.action())
			r.Applied(r.unit.Name, s.action())
		}
	}
}

// beside brings about what a step wants to be there for a while, and takes it away
// whatever came of it.
func (r *unitRun) beside(ctx context.Context, s Step) error {
	during := *s.Beside
	during.Unit = r.unit.Name
	if err := during.check(); err != nil {
		return err
	}
	err := r.another(Unit{Name: r.unit.Name, Check: s.Do}, during).converge(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
	defer cancel()
	return cmp.Or(err, r.another(Unit{Name: r.unit.Name}, r.desired).converge(ctx))
}

// another is a run with the same report that has something else to bring about.
func (r *unitRun) another(u Unit, d Desired) *unitRun {
	return &unitRun{Runner: r.Runner, unit: u, desired: d, start: r.start, report: r.report,
		awaited: map[string]*awaited{}, updated: map[string]string{}}
}

func (s Step) action() Action { return Action{Verb: Do, Name: s.Text} }

// observe looks at Docker, and waits for it while it is away: at boot this may come first.
func (r *Runner) observe(ctx context.Context) (Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	for {
		o, err := r.Daemon.Observe(ctx)
		if err == nil {
			o.At = r.Now()
			return o, nil
		}
		if !Away(err) || r.sleep(ctx) != nil {
			return Observed{}, err
		}
		r.Logger.Info("waiting for Docker", "error", err)
	}
}

func (r *Runner) sleep(ctx context.Context) error { return pause(ctx, r.Poll) }
