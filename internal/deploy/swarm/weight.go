package swarm

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/sync/errgroup"
)

// atOnce is how many containers are weighed at the same time. The daemon lets an update wait while
// the container starts.
const atOnce = 8

// runShares is the CPU weight of all containers of a run together, in Docker's CPU shares: what one
// container has that states none, as those of the proxy and of cc-ci's own services.
const runShares = 1024

// leastShares is the least that the kernel takes.
const leastShares = 2

// part is the processors of one of n runs, as the kernel's control group of processors takes them; "" stands for all.
func part(k, n, processors int) string {
	if k < 0 || k >= n || n < 2 || processors < n {
		return ""
	}
	first, last := k*processors/n, (k+1)*processors/n-1
	return strconv.Itoa(first) + "-" + strconv.Itoa(last)
}

// weights gives the containers of the run's tasks their CPU weight and their processors, from the first Deploy to Remove.
//
// A limit of processors is a quota for each 100 ms. A run may use its whole quota at once, on all
// processors, and a neighbour waits meanwhile for as long as their weights say. Docker gives each
// container the same weight, so that a run with many containers would take most of the time.
//
// With as many processors as runs, each run has its own, so that a burst of one makes no other wait.
//
// Swarm has no field for either. The weight is set at the event of a container's creation: usually
// before the container starts, and for each one that swarm makes later.
type weights struct {
	background
	d          *Deployer
	processors string // "" stands for all

	mu       sync.Mutex                  // of what follows
	services map[string]map[string]int64 // stack -> service -> shares of each of its containers
	since    string                      // when the first stack was followed, in seconds

	refused sync.Once
}

// follow notes the weights of a stack's services. Containers that run already get the new ones.
func (w *weights) follow(ctx context.Context, stack string, services []service) {
	shares := map[string]int64{}
	for _, s := range services {
		shares[s.name] = s.shares
	}
	w.mu.Lock()
	before := w.services[stack]
	w.services[stack] = shares
	if w.since == "" {
		w.since = strconv.FormatInt(time.Now().Add(-time.Second).Unix(), 10) // the daemon may have a clock of its own
	}
	w.mu.Unlock() // the goroutine takes it too
	started := w.start(func(ctx context.Context) { keepWatching(ctx, w.watchEvents) })
	if !started && len(before) > 0 && !maps.Equal(before, shares) {
		w.weighAll(ctx, shares)
	}
}

// watchEvents follows one stream of events until it ends.
func (w *weights) watchEvents(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	since := w.since // containers that were made before the stream began are weighed too
	w.mu.Unlock()
	made, broken := w.d.docker.Events(ctx, events.ListOptions{Since: since, Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("event", string(events.ActionCreate)),
		filters.Arg("label", LabelRun+"="+string(w.d.o.RunID)),
	)})
	var updates errgroup.Group
	defer func() { _ = updates.Wait() }()
	updates.SetLimit(atOnce)
	for {
		select {
		case <-ctx.Done():
			return
		case <-broken:
			return
		case e := <-made:
			labels := e.Actor.Attributes
			w.mu.Lock()
			shares := w.services[labels[LabelStack]][labels[labelServiceName]]
			w.mu.Unlock()
			updates.Go(func() error { w.weigh(ctx, e.Actor.ID, shares); return nil })
		}
	}
}

// weighAll sets the weights of the containers that there are.
func (w *weights) weighAll(ctx context.Context, shares map[string]int64) {
	list, err := w.d.taskContainers(ctx)
	if err != nil {
		w.d.log.Warn("listing the containers whose CPU weight has changed", "run", w.d.o.RunID, "error", err)
		return
	}
	for _, c := range list { // of other stacks of the run: 0
		w.weigh(ctx, c.ID, shares[c.Labels[labelServiceName]])
	}
}

// weigh sets the weight of one container. A weight decides nothing about the run: what the daemon
// refuses is logged, once.
func (w *weights) weigh(ctx context.Context, id string, shares int64) {
	if shares == 0 { // a helper container, which has its own
		return
	}
	want := container.Resources{CPUShares: shares, CpusetCpus: w.processors}
	_, err := w.d.docker.ContainerUpdate(ctx, id, container.UpdateConfig{Resources: want})
	if err != nil && want.CpusetCpus != "" { // Docker may itself be held to other processors
		want.CpusetCpus = ""
		_, _ = w.d.docker.ContainerUpdate(ctx, id, container.UpdateConfig{Resources: want})
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	c, gone := w.d.docker.ContainerInspect(ctx, id)
	if cerrdefs.IsNotFound(gone) || gone == nil && c.State != nil && slices.Contains([]container.ContainerState{container.StateExited, container.StateRemoving, container.StateDead}, c.State.Status) {
		return
	}
	w.refused.Do(func() {
		w.d.log.Warn("the daemon refuses a container's CPU weight: work beside this run may be slower", "run", w.d.o.RunID, "error", err)
	})
}
