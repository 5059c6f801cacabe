package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// awaited is a service that is being waited for.
type awaited struct {
	since  time.Time
	failed map[string]bool // tasks that had failed before
	words  string
}

// failures is after how many tasks that ended badly nobody waits any longer. Swarm itself
// would try for ever.
const failures = 3

// await waits a moment for a service, or ends the wait.
func (r *unitRun) await(ctx context.Context, o Observed, a Action) error {
	i := slices.IndexFunc(o.Services, func(s ServiceSeen) bool { return s.Spec.Name == a.Name })
	if i < 0 {
		return nil // gone meanwhile: the next plan says so
	}
	s := o.Services[i]
	w := r.awaited[a.Name+a.Hash]
	if w == nil {
		w = &awaited{since: o.At, failed: map[string]bool{}}
		for _, t := range s.Tasks {
			if failed(t) && r.updated[a.Name] == "" {
				w.failed[t.ID] = true
			}
		}
		r.awaited[a.Name+a.Hash] = w
		r.Began(r.unit.Name, a)
	}
	news := 0
	for _, t := range s.Tasks {
		if t.Hash == a.Hash && failed(t) && !w.failed[t.ID] {
			news++
		}
	}
	watched := s.Update.State == swarm.UpdateStateUpdating || s.Update.State == swarm.UpdateStateRollbackStarted
	late := o.At.Sub(w.since) > r.patience(a.Name)
	var err *ccci.Error
	switch {
	case isTrial(a.Name) && (news >= failures || late):
		return r.failedTrial(ctx, o, s, cmp.Or(s.words(a.Hash), a.Why))
	case s.Update.State == swarm.UpdateStatePaused:
		err = ccci.Errorf(ccci.CodeInfra, "swarm has stopped the update of %s: %s", a.Name, s.Update.Message)
	case news >= failures && !watched:
		err = ccci.Errorf(ccci.CodeInfra, "service %s does not run: %s", a.Name, s.words(a.Hash))
	case late:
		err = ccci.Errorf(ccci.CodeInfra, "service %s does not come up within %v: %s", a.Name, r.patience(a.Name), a.Why)
	default:
		return r.sleep(ctx)
	}
	return r.back(ctx, err.WithHint("docker service ps --no-trunc %s and docker service logs %s say more", a.Name, a.Name))
}

func (r *unitRun) patience(service string) time.Duration {
	if s, _ := r.desired.service(service); s.Patience > 0 {
		return s.Patience
	}
	return 3 * time.Minute
}

// backLimit bounds how long going back may take.
const backLimit = 2 * time.Minute

// back takes back the updates that this run made, the last one first, and returns cause with
// what became of that.
func (r *unitRun) back(ctx context.Context, cause error) error {
	if len(r.order) == 0 || ctx.Err() != nil {
		return cause
	}
	ctx, cancel := context.WithTimeout(ctx, backLimit)
	defer cancel()
	var errs []error
	for _, name := range slices.Backward(r.order) {
		if err := r.backOne(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("rolling back %s: %w", name, err))
		}
	}
	r.order = nil
	if err := errors.Join(errs...); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "%w; and %v", cause, err).WithHint("%s", ccci.HintOf(cause))
	}
	return ccci.Errorf(ccci.CodeInfra, "%w; what was before serves again", cause).WithHint("%s", ccci.HintOf(cause))
}

func (r *unitRun) backOne(ctx context.Context, name string) error {
	asked := false
	for {
		o, err := r.observe(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(o.Services, func(s ServiceSeen) bool { return s.Spec.Name == name })
		if i < 0 {
			return errors.New("the service is gone")
		}
		s := o.Services[i]
		if hash := s.Spec.Labels[LabelSpec]; hash != r.updated[name] { // swarm, or we, have gone back
			if done, _ := s.judge(hash, o.At); done || hash == "" {
				return nil
			}
		} else if !asked {
			if !s.Previous {
				return errors.New("there is nothing to go back to")
			}
			a := Action{Verb: Rollback, Kind: KindService, Name: name, ID: s.ID, Why: "the new version does not serve"}
			r.Began(r.unit.Name, a)
			if err := r.Daemon.Apply(ctx, r.desired, o, a); err != nil {
				return err
			}
			r.report.Actions = append(r.report.Actions, a)
			r.Applied(r.unit.Name, a)
			asked = true
		}
		if err := r.sleep(ctx); err != nil {
			return fmt.Errorf("it does not come up again: %w", err)
		}
	}
}
