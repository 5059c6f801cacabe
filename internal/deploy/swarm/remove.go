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
	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

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
// make one.
func (d *Deployer) Remove(ctx context.Context, app harness.App) (map[string]int, error) {
	if app.RunID == "" && app.StackName == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "removing an app: it has neither a run nor a stack name")
	}
	d.memory.stop()
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	removed := map[string]int{}
	tasks := map[string]bool{} // service id -> its tasks must be proven harmless
	progress := d.o.Now()
	for {
		left, err := d.belonging(ctx, app)
		if err != nil {
			return removed, err
		}
		for _, o := range left {
			if o.Kind == kindService {
				tasks[o.ID] = true
			}
		}
		if len(left) == 0 {
			pending, err := d.pendingTasks(ctx, app, tasks)
			if err != nil {
				return removed, err
			}
			if len(pending) == 0 {
				return removed, nil
			}
			if d.o.Now().Sub(progress) > d.o.RemovePatience {
				return removed, d.stuck(app, nil, fmt.Errorf("tasks %s have not ended", strings.Join(pending, ", ")))
			}
		} else {
			n, err := d.sweep(ctx, left, removed)
			if n > 0 {
				progress = d.o.Now()
				continue // look again at once: the common case is that nothing is left
			}
			if d.o.Now().Sub(progress) > d.o.RemovePatience {
				return removed, d.stuck(app, left, err)
			}
		}
		if err := d.sleep(ctx); err != nil {
			return removed, d.stuck(app, left, err)
		}
	}
}

func (d *Deployer) stuck(app harness.App, left harness.Snapshot, err error) error {
	what := "its tasks"
	if len(left) > 0 {
		what = describe(left)
	}
	return &ccci.Error{
		Code:    ccci.CodeInfra,
		Message: fmt.Sprintf("removing %s: still there: %s", app.StackName, what),
		Hint:    "the janitor tries again; docker inspect shows who uses them",
		Err:     err,
	}
}

// sweep removes objects, kind by kind, and returns how many it got. Its error says
// why some stay, which is normal while others let go of them.
func (d *Deployer) sweep(ctx context.Context, objects harness.Snapshot, removed map[string]int) (int, error) {
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

// removeObject reports whether this call removed the object. That somebody else
// did is no error.
func (d *Deployer) removeObject(ctx context.Context, o harness.Object) (bool, error) {
	var err error
	switch o.Kind {
	case kindService:
		err = d.docker.ServiceRemove(ctx, o.ID)
	case kindContainer:
		err = d.docker.ContainerRemove(ctx, o.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	case kindNetwork:
		err = d.docker.NetworkRemove(ctx, o.ID)
	case kindConfig:
		err = d.docker.ConfigRemove(ctx, o.ID)
	case kindSecret:
		err = d.docker.SecretRemove(ctx, o.ID)
	case kindVolume:
		err = d.docker.VolumeRemove(ctx, o.ID, true)
	default:
		return false, fmt.Errorf("removing %s %s: this kind is unknown", o.Kind, o.Name)
	}
	if cerrdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// pendingTasks names tasks of removed services that may still make a container.
// A task that has ended cannot, and neither can one whose container was made
// already and is gone. Tasks outlive their service in the list only briefly.
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
		// Nothing assigns a task whose service is gone.
		unassigned := t.NodeID == ""
		if !unassigned && !ended(t.Status.State) && !d.spent(ctx, t) {
			pending = append(pending, t.ID)
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
