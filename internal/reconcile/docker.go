package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// daemon is a real Docker.
type daemon struct{ docker *client.Client }

// NewDaemon returns the daemon that a client talks to.
func NewDaemon(docker *client.Client) Daemon { return &daemon{docker} }

// Away reports whether an error says that Docker does not answer, which may pass.
func Away(err error) bool { return client.IsErrConnectionFailed(err) }

// lookLimit bounds one look, so that a daemon that hangs is told from one that is slow.
const lookLimit = 30 * time.Second

// Observe looks at everything that units are made of. What is not there before the
// swarm is made is left empty.
func (d *daemon) Observe(ctx context.Context) (Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	info, err := d.docker.Info(ctx)
	if err != nil {
		e := ccci.Errorf(ccci.CodeInfra, "asking Docker for its state: %w", err)
		if Away(err) {
			e = e.WithHint("start it (systemctl start docker), or point DOCKER_HOST at a running one")
		}
		return Observed{}, e
	}
	o := Observed{Swarm: info.Swarm.LocalNodeState, Manager: info.Swarm.ControlAvailable, NodeID: info.Swarm.NodeID,
		NoCPULimit: !info.CPUCfsPeriod || !info.CPUCfsQuota}
	if o.Swarm != swarm.LocalNodeStateActive || !o.Manager {
		return o, nil
	}
	for _, look := range []struct {
		what string
		do   func(context.Context, *Observed) error
	}{
		{"this node", d.node}, {"the swarm's settings", d.swarmLog}, {"networks", d.networks}, {"secrets", d.secrets}, {"configs", d.configs}, {"services", d.services},
	} {
		if err := look.do(ctx, &o); err != nil {
			return Observed{}, ccci.Errorf(ccci.CodeInfra, "asking Docker for %s: %w", look.what, err)
		}
	}
	slices.SortFunc(o.Files, func(a, b FileSeen) int { return strings.Compare(a.Name, b.Name) })
	return o, nil
}

func (d *daemon) node(ctx context.Context, o *Observed) error {
	node, _, err := d.docker.NodeInspectWithRaw(ctx, o.NodeID)
	o.NodeLabels = node.Spec.Labels
	return err
}

func (d *daemon) swarmLog(ctx context.Context, o *Observed) error {
	have, err := d.docker.SwarmInspect(ctx)
	o.SwarmLog = *swarmLog(have.Spec)
	return err
}

// networks lists the swarm's networks and waits for one that it has not allocated
// yet: until then nobody can tell what it is.
func (d *daemon) networks(ctx context.Context, o *Observed) error {
	for {
		all, err := d.docker.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("scope", "swarm"))})
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(all, func(n network.Summary) bool { return n.Driver == "" }); i >= 0 {
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return fmt.Errorf("the swarm does not allocate network %s: %w", all[i].Name, err)
			}
			continue
		}
		for _, n := range all {
			seen := NetworkSeen{ID: n.ID, Name: n.Name, Driver: n.Driver, Labels: n.Labels, Network: Network{Attachable: n.Attachable, Internal: n.Internal}}
			for _, c := range n.IPAM.Config {
				seen.Subnets = append(seen.Subnets, c.Subnet)
			}
			o.Networks = append(o.Networks, seen)
		}
		return nil
	}
}

func (d *daemon) secrets(ctx context.Context, o *Observed) error {
	all, err := d.docker.SecretList(ctx, swarm.SecretListOptions{})
	for _, s := range all {
		o.Files = append(o.Files, FileSeen{ID: s.ID, Kind: KindSecret, Name: s.Spec.Name, Version: s.Version, Labels: s.Spec.Labels})
	}
	return err
}

func (d *daemon) configs(ctx context.Context, o *Observed) error {
	all, err := d.docker.ConfigList(ctx, swarm.ConfigListOptions{})
	for _, c := range all {
		sum := sha256.Sum256(c.Spec.Data)
		o.Files = append(o.Files, FileSeen{ID: c.ID, Kind: KindConfig, Name: c.Spec.Name, Version: c.Version, Labels: c.Spec.Labels, Digest: hex.EncodeToString(sum[:])})
	}
	return err
}

func (d *daemon) services(ctx context.Context, o *Observed) error {
	all, err := d.docker.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return err
	}
	tasks, err := d.docker.TaskList(ctx, swarm.TaskListOptions{})
	if err != nil {
		return err
	}
	slices.SortFunc(tasks, func(a, b swarm.Task) int { return b.CreatedAt.Compare(a.CreatedAt) })
	egress := d.egress(ctx)
	for _, s := range all {
		seen := ServiceSeen{ID: s.ID, Version: s.Version, Spec: s.Spec, Previous: s.PreviousSpec != nil}
		if s.UpdateStatus != nil {
			seen.Update = *s.UpdateStatus
		}
		seen.Spec.TaskTemplate.Networks = slices.Clone(s.Spec.TaskTemplate.Networks)
		for i, n := range seen.Spec.TaskTemplate.Networks {
			if j := slices.IndexFunc(o.Networks, func(have NetworkSeen) bool { return have.ID == n.Target }); j >= 0 {
				seen.Spec.TaskTemplate.Networks[i].Target = o.Networks[j].Name
			} else if n.Target == egress {
				seen.Spec.TaskTemplate.Networks[i].Target = EgressNetwork
			}
		}
		for _, t := range tasks {
			if t.ServiceID == s.ID {
				seen.Tasks = append(seen.Tasks, taskSeen(t))
			}
		}
		o.Services = append(o.Services, seen)
	}
	return nil
}

// egress returns what services call EgressNetwork: the swarm has an identifier of its own for it,
// and does not list it.
func (d *daemon) egress(ctx context.Context) string {
	n, err := d.docker.NetworkInspect(ctx, EgressNetwork, network.InspectOptions{Scope: "swarm"})
	if err != nil {
		return "" // no service has been in it yet, on an old Docker
	}
	return n.ID
}

func taskSeen(t swarm.Task) TaskSeen {
	seen := TaskSeen{ID: t.ID, State: t.Status.State, Desired: t.DesiredState, Since: t.Status.Timestamp, Err: t.Status.Err}
	if c := t.Spec.ContainerSpec; c != nil {
		seen.Hash = c.Labels[LabelSpec]
		seen.Healthy = c.Healthcheck != nil && len(c.Healthcheck.Test) > 0
	}
	if c := t.Status.ContainerStatus; seen.Err == "" && c != nil && c.ExitCode != 0 {
		seen.Err = fmt.Sprintf("exit code %d", c.ExitCode)
	}
	return seen
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// passing reports whether an error says that somebody else was faster, or is not
// finished yet: the next look tells.
func passing(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "update out of sequence") || client.IsErrNotFound(err))
}

var errNotOne = errors.New("this is no change of Docker's")
