package swarm

import (
	"context"
	"errors"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// This file is how a watcher ends the run in the middle of any stage.

// Exceeded delivers, at most once, an Error when the run takes more than it may: more of the disk,
// or more of swarm's log. Its code is CodeRecipe, or CodeInfra when the run is not the cause.
func (d *Deployer) Exceeded() <-chan error { return d.exceeded }

// endRun stops the run's tasks and delivers the reason, unless one was delivered before.
func (d *Deployer) endRun(ctx context.Context, why error) {
	d.freeze(ctx)
	select {
	case d.exceeded <- why:
	default:
	}
}

// freeze pauses the run's tasks: they write nothing more, and their logs can be read.
func (d *Deployer) freeze(ctx context.Context) {
	list, err := d.taskContainers(ctx)
	for _, c := range list {
		err = errors.Join(err, d.pause(ctx, c.ID))
	}
	if err != nil {
		d.log.Warn("pausing a run that takes too much", "error", err)
	}
}

// taskContainers lists the running containers of the run's tasks.
func (d *Deployer) taskContainers(ctx context.Context) ([]container.Summary, error) {
	return d.docker.ContainerList(ctx, container.ListOptions{
		Filters: filters.NewArgs(filters.Arg("label", LabelRun+"="+string(d.o.RunID)), filters.Arg("label", labelServiceName)),
	})
}

// pause tries again: on a busy machine the kernel may refuse to freeze a container at first.
func (d *Deployer) pause(ctx context.Context, id string) (err error) {
	const tries = 5
	for range tries {
		err = d.docker.ContainerPause(ctx, id)
		if err == nil || cerrdefs.IsNotFound(err) || strings.Contains(err.Error(), "already paused") {
			return nil
		}
		if d.sleep(ctx) != nil {
			break
		}
	}
	return err
}
