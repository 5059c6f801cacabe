package swarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// LabelProxy is on the proxy's container; its value is "true". A container that carries
// [LabelRun] too is not a proxy: an image brings labels along, and one with this label
// would otherwise join the network of every run.
const LabelProxy = "cc-ci.proxy"

const (
	// attachLimit bounds the time in which the proxy joins, once an app has converged.
	attachLimit = 15 * time.Second
	// detachLimit bounds one look at what is on a run's network, and what follows from it.
	detachLimit = 20 * time.Second
	attachRetry = 250 * time.Millisecond
)

// proxyLink keeps the proxy's container on the run's network for as long as a task of the
// run may be there, also when that container is replaced.
//
// Swarm makes a network on a node with the first task that needs it and takes it away with
// the last. A task's container can join a network that is there; swarm does not know, and
// does not take a network away that has a container on it, not later either. So such a
// proxy joins after the first task has started, and leaves before the last one goes. For a proxy that
// is no task swarm makes the network: it joins at once, see [Deployer.Prepare].
type proxyLink struct {
	background // started and stopped with mu held
	d          *Deployer

	mu     sync.Mutex
	stacks map[string]bool // those of the run with a task on the network

	joining sync.Mutex // one at a time looks and joins
}

// follow notes whether a stack has tasks on the run's network. The proxy leaves it when
// none has any more.
func (l *proxyLink) follow(ctx context.Context, stack string, proxied bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if proxied {
		l.stacks[stack] = true
		l.watch()
		return nil
	}
	delete(l.stacks, stack)
	if len(l.stacks) > 0 || l.cancel == nil {
		return nil
	}
	l.background.stop()
	return l.d.detachProxy(ctx, l.d.o.RunID)
}

// stop ends watching. It is legal at any time.
func (l *proxyLink) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.stacks)
	l.background.stop()
}

// watch starts, once, the goroutine that attaches the proxy whenever a container starts that
// makes it possible or necessary.
func (l *proxyLink) watch() {
	l.start(func(ctx context.Context) { keepWatching(ctx, l.watchEvents) })
}

// keepWatching has watch follow one stream of the daemon's events after the other, until ctx ends. A
// stream breaks off when the daemon restarts.
func keepWatching(ctx context.Context, watch func(context.Context)) {
	for ctx.Err() == nil {
		watch(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(attachRetry):
		}
	}
}

// watchEvents follows one stream of events until it ends.
func (l *proxyLink) watchEvents(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started, broken := l.d.docker.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("event", string(events.ActionStart)),
	)})
	joined := l.join(ctx) // what started before the stream did
	for {
		var retry <-chan time.Time
		if !joined {
			retry = time.After(attachRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-broken:
			return
		case <-retry:
		case e := <-started:
			labels := e.Actor.Attributes
			ours := labels[LabelRun] == string(l.d.o.RunID)
			if !l.d.isProxy(labels["name"], labels) && (joined || !ours) {
				continue
			}
		}
		joined = l.join(ctx)
	}
}

// join attaches the proxy where that is possible now, and reports whether one is attached.
func (l *proxyLink) join(ctx context.Context) bool {
	n, err := l.attach(ctx)
	if err != nil && ctx.Err() == nil {
		l.d.log.Debug("the proxy is not on the run's network yet", "run", l.d.o.RunID, "error", err)
	}
	return err == nil && n > 0
}

func (l *proxyLink) attach(ctx context.Context) (int, error) {
	l.joining.Lock()
	defer l.joining.Unlock()
	return l.d.attachProxy(ctx, RunNetwork(l.d.o.RunID))
}

// Prepare makes the run's network, brings the proxy onto it, and starts the helper container that
// guards the run, which costs most of a second that the first task need not wait for.
func (d *Deployer) Prepare(ctx context.Context) {
	if err := d.prepareNetwork(ctx); err != nil && ctx.Err() == nil {
		d.log.Debug("preparing the run's network", "run", d.o.RunID, "error", err)
	}
}

func (d *Deployer) prepareNetwork(ctx context.Context) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	d.guard.start()
	if err := d.makeRunNetwork(ctx); err != nil {
		return err
	}
	_, err := d.link.attach(ctx)
	return err
}

func (d *Deployer) makeRunNetwork(ctx context.Context) error {
	d.networking.Lock()
	defer d.networking.Unlock()
	name := RunNetwork(d.o.RunID)
	list, err := d.docker.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(n network.Summary) bool { return n.Name == name }) {
		return nil
	}
	_, err = d.createNetwork(ctx, "", name, runNetworkOptions(d.o.RunID))
	return err
}

// await returns when the proxy is on the run's network, or why it cannot be. That
// there is no proxy at all is not for a deployment to judge: it is logged.
func (l *proxyLink) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attachLimit)
	defer cancel()
	for {
		n, err := l.attach(ctx)
		if err == nil {
			if n == 0 {
				l.d.log.Warn("no container is labelled as the proxy: the app is not reached from outside", "label", LabelProxy+"=true", "run", l.d.o.RunID)
			}
			return nil
		}
		if l.d.sleep(ctx) != nil {
			return ccci.Errorf(ccci.CodeInfra, "attaching the proxy to the run's network %s: %w", RunNetwork(l.d.o.RunID), err).
				WithHint("docker network inspect shows who is on it; the daemon's log says more")
		}
	}
}

// isProxy reports whether a container of this name and these labels is the proxy.
func (d *Deployer) isProxy(name string, labels map[string]string) bool {
	if labels[LabelRun] != "" {
		return false
	}
	if d.o.Proxy != "" {
		return strings.TrimPrefix(name, "/") == d.o.Proxy
	}
	return labels[LabelProxy] == "true"
}

// attachProxy brings every running proxy onto a network, and returns how many there are.
func (d *Deployer) attachProxy(ctx context.Context, name string) (int, error) {
	running, err := d.docker.ContainerList(ctx, container.ListOptions{})
	if err != nil {
		return 0, d.fault("listing containers", err)
	}
	var proxies []container.Summary
	for _, c := range running {
		if len(c.Names) > 0 && d.isProxy(c.Names[0], c.Labels) {
			proxies = append(proxies, c)
		}
	}
	if len(proxies) == 0 {
		return 0, nil
	}
	found, err := d.docker.NetworkInspect(ctx, name, network.InspectOptions{})
	if err != nil {
		return 0, d.fault("looking at network "+name, err)
	}
	for _, c := range proxies {
		if _, there := found.Containers[c.ID]; there {
			continue
		}
		if err := d.connect(ctx, found, c); err != nil {
			return 0, d.fault(fmt.Sprintf("attaching %s to network %s", strings.TrimPrefix(c.Names[0], "/"), name), err)
		}
	}
	return len(proxies), nil
}

// connect joins a container to an overlay network. Swarm chooses the address of a
// container that is not a task. For a task the daemon takes one itself, and does not know
// which ones swarm has given away; it is told one from the end of the range: swarm
// begins at the other end.
func (d *Deployer) connect(ctx context.Context, to network.Inspect, c container.Summary) error {
	// The daemon goes on with a request that was broken off. Whoever detaches comes after it.
	ctx, cancel := cleanupContext(ctx, attachLimit)
	defer cancel()
	if c.Labels[LabelTaskID] == "" {
		return d.docker.NetworkConnect(ctx, to.ID, c.ID, nil)
	}
	addresses, err := lastAddresses(to)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		err = d.docker.NetworkConnect(ctx, to.ID, c.ID, &network.EndpointSettings{
			IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: address.String()},
		})
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), "address already in use") {
			return err
		}
	}
	return err
}

// lastAddresses are the highest addresses of a network that no endpoint of this node has,
// highest first, at most eight.
func lastAddresses(n network.Inspect) ([]netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for _, endpoint := range n.Containers {
		if p, err := netip.ParsePrefix(endpoint.IPv4Address); err == nil {
			taken[p.Addr()] = true
		}
	}
	for _, pool := range n.IPAM.Config {
		p, err := netip.ParsePrefix(pool.Subnet)
		if err != nil || !p.Addr().Is4() {
			continue
		}
		taken[p.Masked().Addr()] = true
		if gateway, err := netip.ParseAddr(pool.Gateway); err == nil {
			taken[gateway] = true
		}
		var out []netip.Addr
		for a := last(p).Prev(); p.Contains(a) && len(out) < 8; a = a.Prev() { // the very last is for broadcasts
			if !taken[a] {
				out = append(out, a)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, errors.New("it has no free address")
}

// last is the last address of an IPv4 range.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}

// detachProxy takes everything that is not the run's own off the run's networks to the
// proxy. It is legal when nothing is there, and twice.
func (d *Deployer) detachProxy(ctx context.Context, run ccci.RunID) error {
	ctx, cancel := cleanupContext(ctx, detachLimit)
	defer cancel()
	list, err := d.docker.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", LabelRun+"="+string(run)))})
	if err != nil {
		return d.fault("listing networks", err)
	}
	for _, n := range list {
		if !isRunNetwork(n.Name, n.Labels) {
			continue
		}
		if err := d.clear(ctx, n.ID, run); err != nil {
			return d.fault("taking the proxy off network "+n.Name, err)
		}
	}
	return nil
}

// clear takes the containers of others off a run's network.
func (d *Deployer) clear(ctx context.Context, id string, run ccci.RunID) error {
	found, err := d.docker.NetworkInspect(ctx, id, network.InspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for key, endpoint := range found.Containers {
		if strings.HasPrefix(key, "lb-") { // swarm's own, for virtual addresses
			continue
		}
		who := key
		c, err := d.docker.ContainerInspect(ctx, key)
		switch {
		case cerrdefs.IsNotFound(err):
			who = endpoint.Name // an endpoint that outlived its container goes by its name
		case err != nil:
			errs = append(errs, err)
			continue
		case c.Config.Labels[LabelRun] == string(run):
			continue
		}
		err = d.docker.NetworkDisconnect(ctx, id, who, true)
		if err != nil && !cerrdefs.IsNotFound(err) && !strings.Contains(err.Error(), "is not connected") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
