package swarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

// removeLimit bounds the removal of one object. Docker waits without end where a container's lock is
// held by something that hangs, and what is left must still be removed and named. A removal that takes
// longer goes on without its request; the next look shows what became of it.
const removeLimit = 30 * time.Second

// removalOrder lists kinds in rounds. Within a round everything goes at once.
var removalOrder = [][]string{
	{kindService},
	{kindContainer},
	{kindNetwork, kindConfig, kindSecret, kindVolume},
}

// Remove removes an app.
//
// Swarm's own way is slow: it withdraws a task from its networks, waits two seconds
// for the news to spread, sends SIGTERM, waits for the grace period, and removes
// the network later still. Nothing of that protects data that is about to be
// deleted. So the services go first, after which no new task can be made; their
// containers are killed at once; what they held is then free. A task that was
// on its way to a container when its service went may still make one: Remove
// therefore looks until the daemon has neither an object nor a task that could
// make one. A request of this Deployer's to create something may still be carried
// out: Remove outlives it too (creations.go). Swarm keeps the tasks of a removed
// service only briefly; one that it keeps is an error that names it.
func (d *Deployer) Remove(ctx context.Context, app harness.App) (map[string]int, error) {
	if app.RunID == "" && app.StackName == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "removing an app: it has neither a run nor a stack name")
	}
	whole := app.RunID == d.o.RunID
	if whole {
		d.guard.quiet.Store(true) // it still looks, and ends nothing
	}
	d.memory.stop()
	d.disk.stop()
	d.endings.stop()
	d.weights.stop()
	d.copier.drop() // it would hold the volumes of an app that is removed by its name
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	// First of all: swarm leaves a network behind when the run's last task goes and the
	// proxy is still on it.
	d.link.stop()
	if err := d.detachProxy(ctx, cmp.Or(app.RunID, d.o.RunID)); err != nil {
		// Tried again before the network goes; the rest must not wait for it.
		d.log.Warn("cannot take the proxy off the run's network", "run", app.RunID, "stack", app.StackName, "error", err)
	}
	removed := map[string]int{}
	tasks := map[string]bool{} // service id -> its tasks must be proven harmless
	progress := d.o.Now()
	var absent absence
	once := emptied{}
	for {
		// Before the daemon is asked: a request that is answered in between has made
		// something that this look does not show.
		waiting, lost := d.creations.of(app.StackName, whole)
		left, err := d.belonging(ctx, app)
		if err != nil {
			return removed, err
		}
		d.creations.seen(left)
		guards, left := parted(left, isGuard)
		for _, o := range left {
			if o.Kind == kindService {
				tasks[o.ID] = true
			}
		}
		var why error
		if len(left) == 0 {
			pending, err := d.pendingTasks(ctx, app, tasks)
			if err != nil {
				return removed, err
			}
			open := absent.open(waiting, lost, d.o.Now(), d.o.AbsencePatience)
			switch {
			case len(pending)+len(open) > 0:
				if len(pending) == 0 {
					progress = d.o.Now() // requests have bounds of their own
				}
				why = fmt.Errorf("the daemon still has, or may still create, %s", strings.Join(append(pending, open...), ", "))
			case whole && d.guard.stop():
				continue // it may have asked for another container since the look
			default:
				// Only now: it guards the daemon while the other containers go.
				var n int
				if n, why = d.sweep(ctx, guards, map[string]int{}, once); n == len(guards) {
					d.giveUp(app, lost)
					d.dropImages(ctx)
					return removed, nil
				}
				left = guards
			}
		} else {
			n, err := d.sweep(ctx, left, removed, once)
			if n > 0 && err != nil && ctx.Err() != nil { // there is no further look; err names what stays
				return removed, d.stuck(app, nil, err)
			}
			if n > 0 {
				progress = d.o.Now()
				continue // look again at once: the common case is that nothing is left
			}
			why = err
		}
		if d.o.Now().Sub(progress) > d.o.RemovePatience {
			return removed, d.stuck(app, left, why)
		}
		if err := d.sleep(ctx); err != nil {
			return removed, d.stuck(app, left, errors.Join(why, err))
		}
	}
}

// parted returns the objects of which is is true, and the others.
func parted(objects harness.Snapshot, is func(harness.Object) bool) (those, others harness.Snapshot) {
	for _, o := range objects {
		if is(o) {
			those = append(those, o)
		} else {
			others = append(others, o)
		}
	}
	return those, others
}

func (d *Deployer) stuck(app harness.App, left harness.Snapshot, why error) error {
	what := "removing " + app.StackName
	if len(left) > 0 {
		what += ": still there: " + describe(left)
	}
	if why != nil {
		what += ": " + clip(words(why), 300)
	}
	return &ccci.Error{
		Code:    ccci.CodeInfra,
		Message: what,
		Hint:    "the janitor tries again; docker inspect shows who uses them",
		Err:     why,
	}
}

// sweep removes objects, kind by kind, and returns how many it got. Its error says
// why some stay, which is normal while others let go of them.
func (d *Deployer) sweep(ctx context.Context, objects harness.Snapshot, removed map[string]int, once emptied) (int, error) {
	var count int
	var errs []error
	for _, kinds := range removalOrder {
		batch := slices.DeleteFunc(slices.Clone(objects), func(o harness.Object) bool { return !slices.Contains(kinds, o.Kind) })
		gone := make([]bool, len(batch))
		failed := make([]error, len(batch))
		var group errgroup.Group
		group.SetLimit(8)
		for i, o := range batch {
			group.Go(func() error {
				gone[i], failed[i] = d.removeObject(ctx, o)
				return nil
			})
		}
		_ = group.Wait() // the errors are in failed
		if d.o.Box.Empty != nil {
			d.emptyFirst(ctx, batch, gone, failed, once)
		}
		for i, o := range batch {
			if gone[i] {
				count++
				removed[o.Kind]++
			}
			if failed[i] != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", o.Kind, o.Name, failed[i]))
			}
		}
	}
	return count, errors.Join(errs...)
}

// removeObject reports whether this call removed the object, within removeLimit. That
// somebody else did is no error.
func (d *Deployer) removeObject(ctx context.Context, o harness.Object) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, removeLimit, fmt.Errorf("Docker has not removed it within %s", removeLimit))
	defer cancel()
	err := d.askToRemove(ctx, o)
	if cerrdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err == nil, err
}

func (d *Deployer) askToRemove(ctx context.Context, o harness.Object) error {
	switch o.Kind {
	case kindService:
		return d.docker.ServiceRemove(ctx, o.ID)
	case kindContainer:
		return d.docker.ContainerRemove(ctx, o.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	case kindNetwork:
		if isRunNetwork(o.Name, map[string]string{LabelRun: o.Run}) {
			_ = d.clear(ctx, o.ID, ccci.RunID(o.Run)) // for one that came late; the removal says what stays
		}
		return d.docker.NetworkRemove(ctx, o.ID)
	case kindConfig:
		return d.docker.ConfigRemove(ctx, o.ID)
	case kindSecret:
		return d.docker.SecretRemove(ctx, o.ID)
	case kindVolume:
		return d.docker.VolumeRemove(ctx, o.ID, true)
	default:
		return fmt.Errorf("removing %s %s: this kind is unknown", o.Kind, o.Name)
	}
}

// pendingTasks names tasks of removed services that may still make a container, and those
// that swarm keeps. A task that has ended makes none, and neither does one whose
// container was made already and is gone, or that no node was told of. Swarm
// forgets a task once its desired state is "remove"; the tasks of a job that has
// completed never get there, and no request of the API removes them.
func (d *Deployer) pendingTasks(ctx context.Context, app harness.App, services map[string]bool) ([]string, error) {
	if len(services) == 0 && app.StackName == "" {
		return nil, nil
	}
	tasks, err := d.docker.TaskList(ctx, swarm.TaskListOptions{})
	if err != nil {
		return nil, d.fault("listing tasks", err)
	}
	var pending []string
	for _, t := range tasks {
		if !services[t.ServiceID] && !taskOf(t, app) {
			continue
		}
		kept := t.DesiredState != swarm.TaskStateRemove
		harmless := t.NodeID == "" || ended(t.Status.State) || d.spent(ctx, t)
		if kept || !harmless {
			pending = append(pending, "task "+t.ID)
		}
	}
	return pending, nil
}

func taskOf(t swarm.Task, app harness.App) bool {
	if t.Spec.ContainerSpec == nil {
		return false
	}
	labels := t.Spec.ContainerSpec.Labels
	return belongs(harness.Object{Stack: labels[LabelStack], Run: labels[LabelRun]}, harness.App{RunID: app.RunID, StackName: app.StackName})
}

// spent reports whether a task had its one container and lost it.
func (d *Deployer) spent(ctx context.Context, t swarm.Task) bool {
	if t.Status.ContainerStatus == nil || t.Status.ContainerStatus.ContainerID == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, explainLimit) // one whose lock is held is there
	defer cancel()
	_, err := d.docker.ContainerInspect(ctx, t.Status.ContainerStatus.ContainerID)
	return cerrdefs.IsNotFound(err)
}

// ended reports whether a task in this state runs nothing and never will.
func ended(s swarm.TaskState) bool {
	switch s {
	case swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed,
		swarm.TaskStateRejected, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return true
	}
	return false
}

// cleanupContext outlives ctx for a bounded time: what must be asked or undone at the
// end of a deadline is still asked and undone.
func cleanupContext(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}
