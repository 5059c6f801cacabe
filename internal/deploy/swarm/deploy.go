package swarm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

var _ harness.Deployer = (*Deployer)(nil)

// Deploy brings the daemon to the stack and waits until it has converged. It
// does not wait for swarm's update monitor; [Deployer.Settle] does.
func (d *Deployer) Deploy(ctx context.Context, stack *recipe.Stack) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	d.guard.start()
	m, err := d.model(ctx, stack)
	if err != nil {
		return err
	}
	refs, err := d.prepare(ctx, stack, m)
	if err != nil {
		return err
	}
	present, err := d.stackServices(ctx, stack.Name)
	if err != nil {
		return err
	}
	d.memory.start(stack.Name)
	d.weights.follow(ctx, stack.Name, m.services)
	if err := d.link.follow(ctx, stack.Name, m.proxied); err != nil {
		return err
	}
	d.disk.start()
	d.endings.start()
	for _, old := range present {
		if !slices.ContainsFunc(m.services, func(s service) bool { return s.name == old.Spec.Name }) {
			d.log.Info("removing a service that the stack no longer has", "stack", stack.Name, "service", old.Spec.Name)
			if err := d.docker.ServiceRemove(ctx, old.ID); err != nil && !cerrdefs.IsNotFound(err) {
				return d.fault(fmt.Sprintf("deploying %s: removing service %s", stack.Name, old.Spec.Name), err)
			}
		}
	}
	volumes, err := d.fill(ctx, stack, m.services)
	if err != nil {
		return err
	}
	if err := d.guard.await(ctx); err != nil {
		return err
	}
	for _, svc := range m.services {
		if err := d.apply(ctx, stack, svc, refs, present); err != nil {
			return err
		}
	}
	// dockerd makes one container after the other, and the first files are copied once the stack has
	// converged: the container for that must not delay those of the tasks.
	running := func() { d.copier.begin(ctx, stack.Name, volumes) }
	if err := d.wait(ctx, stack, m.services, false, running); err != nil || !m.proxied {
		return err
	}
	return d.link.await(ctx)
}

// model is what the daemon is to be brought to. Deploy, Converge and Settle make the same of a stack.
func (d *Deployer) model(ctx context.Context, stack *recipe.Stack) (*model, error) {
	images, err := d.imagesOf(stack)
	if err != nil {
		return nil, err
	}
	return convert(stack, images, d.o.RunID, d.useDNSRR(ctx, stack), d.o.Network, d.o.Ceilings)
}

// Limits says what each service of a stack may use, by its key, and what was lowered for that.
func (d *Deployer) Limits(ctx context.Context, stack *recipe.Stack) (map[string]string, []string, error) {
	if err := d.check(ctx); err != nil {
		return nil, nil, err
	}
	m, err := convert(stack, nil, d.o.RunID, d.useDNSRR(ctx, stack), d.o.Network, d.o.Ceilings)
	if err != nil {
		return nil, nil, err
	}
	return m.lowered.effective, m.lowered.notes, nil
}

// Converge waits, like Deploy, until what is deployed has converged, without changing it.
func (d *Deployer) Converge(ctx context.Context, stack *recipe.Stack) error {
	return d.await(ctx, stack, false)
}

// Settle waits until what is deployed has converged, and beyond Deploy until swarm
// has stopped monitoring the last update (Ceilings.UpdateMonitor bounds that): from
// then on swarm does not roll it back any more. A service of which tasks have ended by
// themselves must run for longer than they did, one without a healthcheck for some seconds.
// Call it as late in a stage as its verdict allows; the time passes meanwhile and usually
// nothing is left to wait for.
func (d *Deployer) Settle(ctx context.Context, stack *recipe.Stack) error {
	return d.await(ctx, stack, true)
}

func (d *Deployer) await(ctx context.Context, stack *recipe.Stack, settle bool) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	m, err := d.model(ctx, stack)
	if err != nil {
		return err
	}
	return d.wait(ctx, stack, m.services, settle, func() {})
}

func (d *Deployer) stackServices(ctx context.Context, stack string) ([]swarm.Service, error) {
	list, err := d.docker.ServiceList(ctx, swarm.ServiceListOptions{
		Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+stack)),
		Status:  true,
	})
	return list, d.fault("listing services", err)
}

// apply creates or updates one service. Its image is named by the ID of what Pull has brought:
// swarm pulls nothing for an ID, so that no registry is asked and no credentials go along.
func (d *Deployer) apply(ctx context.Context, stack *recipe.Stack, svc service, refs references, present []swarm.Service) error {
	activity := fmt.Sprintf("deploying %s: service %s", stack.Name, svc.key)
	spec := refs.bind(svc.spec) // its ContainerSpec is a copy
	spec.TaskTemplate.ContainerSpec.Healthcheck = d.calmed(spec.TaskTemplate.ContainerSpec.Image, spec.TaskTemplate.ContainerSpec.Healthcheck)
	i := slices.IndexFunc(present, func(s swarm.Service) bool { return s.Spec.Name == svc.name })
	if i < 0 {
		return d.fault(activity, d.create(ctx, kindService, svc.name, stack.Name, func(ctx context.Context) error {
			made, err := d.docker.ServiceCreate(ctx, spec, swarm.ServiceCreateOptions{})
			d.warn(stack, svc, made.Warnings)
			return err
		}))
	}
	old := present[i]
	const attempts = 4 // swarm itself writes to a service while an update ends
	for attempt := 1; ; attempt++ {
		spec.TaskTemplate.ForceUpdate = old.Spec.TaskTemplate.ForceUpdate
		answer, err := d.docker.ServiceUpdate(ctx, old.ID, old.Version, spec, swarm.ServiceUpdateOptions{})
		if err == nil {
			d.warn(stack, svc, answer.Warnings)
			d.mu.Lock()
			d.floor[old.ID] = old.Version.Index
			d.mu.Unlock()
			return nil
		}
		if attempt == attempts || !strings.Contains(err.Error(), "out of sequence") {
			return d.fault(activity, err)
		}
		if old, _, err = d.docker.ServiceInspectWithRaw(ctx, old.ID, swarm.ServiceInspectOptions{}); err != nil {
			return d.fault(activity, err)
		}
	}
}

func (d *Deployer) warn(stack *recipe.Stack, svc service, warnings []string) {
	for _, w := range warnings {
		d.log.Warn("Docker warns about a service", "stack", stack.Name, "service", svc.key, "warning", w)
	}
}

// confirmations is how many looks at what has converged fit into one PollInterval, where healthchecks say
// that every service works: they confirm what was seen, and wait for nothing.
const confirmations = 3

// wait looks until the services have converged, have failed, or ctx ends. It calls running once, when
// every service that has tasks has a running container.
func (d *Deployer) wait(ctx context.Context, stack *recipe.Stack, services []service, settle bool, running func()) error {
	h := newHistory(services)
	h.loopWindow, h.settle, h.grace = d.o.LoopWindow, settle, d.grace(ctx, settle)
	d.mu.Lock()
	for id, version := range d.floor {
		h.floor[id] = version
	}
	d.mu.Unlock()

	probed := !slices.ContainsFunc(services, func(s service) bool { return !s.probed })
	var last decision
	var same, broken int
	for {
		o, err := d.observe(ctx, stack, services)
		switch {
		case err != nil && ctx.Err() == nil:
			// One failing look proves nothing; a daemon that keeps failing does.
			if broken++; broken >= 5 {
				return err
			}
		case err == nil:
			broken = 0
			if o.allRunning() {
				running()
				running = func() {}
			}
			if settle {
				d.measureLives(ctx, h, o)
			}
			dec := h.judge(o)
			if dec.failed != nil {
				return d.deployError(ctx, stack, dec.failed)
			}
			if dec.converged && last.converged && dec.tasks == last.tasks {
				same++
			} else {
				same = 1
			}
			last = dec
			if dec.converged && (same >= d.o.Stable || settle && dec.aged) {
				return nil
			}
		}
		pause := d.o.PollInterval
		if last.converged && probed {
			pause /= confirmations
		}
		if sleep(ctx, pause) != nil {
			return d.timeout(ctx, stack, last)
		}
	}
}

// grace says how long after a service's start the ends of others may come from it. The time that the
// recipe allows its services decides about one without a healthcheck, unless that is short. All of
// them were ready once when Settle is called.
func (d *Deployer) grace(ctx context.Context, settle bool) grace {
	window := d.o.LoopWindow
	if settle {
		return grace{probed: 3 * window, bare: 3 * window}
	}
	g := grace{probed: 6 * window, bare: 12 * window}
	if deadline, ok := ctx.Deadline(); ok {
		g.bare = max(g.bare, deadline.Sub(d.o.Now())/2)
	}
	return g
}

// measureLives finds out how long the tasks that ended had run. Swarm says only when they ended.
func (d *Deployer) measureLives(ctx context.Context, h *history, o observation) {
	for _, t := range o.tasks {
		if _, known := h.lives[t.ID]; known || t.Status.State != swarm.TaskStateFailed && t.Status.State != swarm.TaskStateComplete {
			continue
		}
		life := t.Status.Timestamp.Sub(t.CreatedAt) // at most, if its container is gone
		if t.Status.ContainerStatus != nil && t.Status.ContainerStatus.ContainerID != "" {
			if c, err := d.docker.ContainerInspect(ctx, t.Status.ContainerStatus.ContainerID); err == nil && c.State != nil {
				started, startErr := time.Parse(time.RFC3339Nano, c.State.StartedAt)
				finished, endErr := time.Parse(time.RFC3339Nano, c.State.FinishedAt)
				if startErr == nil && endErr == nil {
					life = finished.Sub(started)
				}
			}
		}
		h.lives[t.ID] = max(life, 0)
	}
}

func (d *Deployer) observe(ctx context.Context, stack *recipe.Stack, services []service) (observation, error) {
	o := observation{at: d.o.Now()}
	var err error
	if o.services, err = d.stackServices(ctx, stack.Name); err != nil {
		return o, err
	}
	o.tasks, err = d.docker.TaskList(ctx, swarm.TaskListOptions{
		Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+stack.Name)),
	})
	if err != nil {
		return o, d.fault("listing tasks", err)
	}
	containers, err := d.docker.ContainerList(ctx, container.ListOptions{
		All:     true, // until swarm has removed it, a stopped one holds its volumes
		Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+stack.Name), filters.Arg("label", labelServiceName)),
	})
	if err != nil {
		return o, d.fault("listing containers", err)
	}
	d.noteVolumes(containers)
	for _, c := range containers {
		if c.State == container.StateRunning {
			o.running = append(o.running, c.Labels[labelServiceName])
		}
		if !slices.ContainsFunc(services, func(s service) bool { return s.name == c.Labels[labelServiceName] }) {
			o.strays++
		}
	}
	return o, nil
}

// timeout says what each service lacked when time was up.
func (d *Deployer) timeout(ctx context.Context, stack *recipe.Stack, last decision) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("waiting for %s to converge: %w", stack.Name, context.Cause(ctx))
	}
	var unfinished []string
	de := &harness.DeployError{Reason: "timeout"}
	grace, cancel := cleanupContext(ctx, explainLimit)
	defer cancel()
	for _, s := range last.states {
		if s.current && !s.watching && !s.unproven {
			continue
		}
		task := harness.TaskFailure{Service: s.service.key, State: "missing", Message: s.words}
		if s.failing != nil { // the newest task of such a service has not said anything yet
			s.words += fmt.Sprintf("; its task failed %d times: %s", s.failing.total, s.failing.words())
			s.newest = &s.failing.tasks[0]
		}
		if s.newest != nil {
			task = d.explain(grace, s.service.key, *s.newest)
		}
		unfinished = append(unfinished, fmt.Sprintf("%s (%s)", s.service.key, s.words))
		de.Tasks = append(de.Tasks, task)
	}
	what := "nothing was seen of it"
	if len(unfinished) > 0 {
		what = strings.Join(unfinished, "; ")
	} else if last.strays > 0 {
		what = "containers of removed services are still running"
	}
	de.Err = &ccci.Error{
		Code:    ccci.CodeRecipe,
		Message: fmt.Sprintf("deploying %s: it has not converged in time: %s", stack.Name, what),
		Hint:    "read the log lines of the service; when it only needs longer, raise the recipe's timeout label or the time-out in tests/" + stack.Recipe + "/recipe.yml",
		Err:     context.Cause(ctx),
	}
	return de
}

// Label returns a label of a deployed service as the daemon reports it, "" when the
// service has none of that name.
func (d *Deployer) Label(ctx context.Context, stack *recipe.Stack, service, label string) (string, error) {
	if err := d.check(ctx); err != nil {
		return "", err
	}
	name := stack.Name + "_" + service
	svc, _, err := d.docker.ServiceInspectWithRaw(ctx, name, swarm.ServiceInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return "", ccci.Errorf(ccci.CodeNotFound, "reading label %s: no service %s is deployed", label, name)
	}
	if err != nil {
		return "", d.fault("reading a label of "+name, err)
	}
	return svc.Spec.Labels[label], nil
}
