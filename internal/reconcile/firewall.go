package reconcile

import (
	"context"
	"net/netip"
	"slices"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/libnetwork/resolvconf"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/firewall"
)

// FirewallOptions say what containers may reach. All may be empty but Bridges.
type FirewallOptions struct {
	Allow []firewall.Destination // of apps, besides the internet
	Ports []uint16               // TCP ports of the host for cc-ci's own services: the proxy's

	// Bridges returns the interfaces of the host on which containers are, of apps and, as infra, of
	// EgressNetwork; [Bridges] asks Docker.
	Bridges func(ctx context.Context) (apps []string, infra string, err error)
	// Resolvers returns the name servers that containers ask; default is those of this host.
	Resolvers func() ([]netip.Addr, error)
	// Namespace is a file that stands for the host's network namespace; default is this process's.
	Namespace string
}

// Firewall is the unit that keeps apps away from the host, from each other and from private
// networks, and cc-ci's own services from what is none of theirs.
func Firewall(o FirewallOptions) Unit {
	table := firewall.Table{Namespace: o.Namespace}
	return Unit{
		Name:    "firewall",
		Desired: func(context.Context) (Desired, error) { return Desired{}, nil },
		Steps: func(ctx context.Context) ([]Step, error) {
			rules, err := o.rules(ctx)
			if err != nil {
				return nil, err
			}
			why, err := table.Differs(rules)
			if why == "" || err != nil {
				return nil, err
			}
			return []Step{{Text: "putting the rules of the firewall into place: " + why, Do: func(context.Context) error { return table.Install(rules) }}}, nil
		},
	}
}

func (o FirewallOptions) rules(ctx context.Context) ([]firewall.Rule, error) {
	apps, infra, err := o.Bridges(ctx)
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "asking Docker for its bridges: %w", err)
	}
	ask := o.Resolvers
	if ask == nil {
		ask = hostResolvers
	}
	resolvers, err := ask()
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "reading the name servers of this host: %w", err)
	}
	return firewall.Rules(firewall.Options{Apps: apps, Infra: infra, Resolvers: resolvers, Allow: o.Allow, Ports: o.Ports}), nil
}

// Raise puts the rules into place that can be known without Docker, unless there is a table already,
// and reports whether it did. It is for the start of a machine, before Docker starts containers
// again; the unit adds what Docker knows. Without a list of name servers yet, none may be asked.
func (o FirewallOptions) Raise(ctx context.Context) (bool, error) {
	o.Bridges = func(context.Context) ([]string, string, error) { return []string{gatewayBridge}, defaultBridge, nil }
	ask := o.Resolvers
	if ask == nil {
		ask = hostResolvers
	}
	o.Resolvers = func() ([]netip.Addr, error) {
		all, _ := ask()
		return all, nil
	}
	rules, err := o.rules(ctx)
	if err != nil {
		return false, err
	}
	table := firewall.Table{Namespace: o.Namespace}
	if there, err := table.Exists(); there || err != nil {
		return false, err
	}
	return true, table.Install(rules)
}

// Interfaces that Docker makes, unless it is told otherwise.
const (
	gatewayBridge = "docker_gwbridge"
	defaultBridge = "docker0"
)

// Bridges returns a function that lists the interfaces of Docker's bridges on this host: the one
// of EgressNetwork, and all others, which are those of apps.
func Bridges(docker *client.Client) func(context.Context) ([]string, string, error) {
	return func(ctx context.Context) ([]string, string, error) {
		apps, infra := []string{gatewayBridge}, defaultBridge // before Docker has made them too
		all, err := docker.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("driver", "bridge"), filters.Arg("scope", "local"))})
		for _, n := range all {
			name := n.Options[bridgeName]
			if name == "" {
				name = "br-" + n.ID[:min(12, len(n.ID))]
			}
			if n.Name == EgressNetwork {
				infra = name
			} else {
				apps = append(apps, name)
			}
		}
		slices.Sort(apps)
		return slices.Compact(apps), infra, err
	}
}

// bridgeName is the option of a bridge network that names its interface.
const bridgeName = "com.docker.network.bridge.name"

// hostResolvers are those that Docker hands to containers. On loopback they are not reached
// from there: Docker asks those itself.
func hostResolvers() ([]netip.Addr, error) {
	file, err := resolvconf.GetSpecific(resolvconf.Path())
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, server := range resolvconf.GetNameserversAsPrefix(file.Content) {
		if a := server.Addr().WithZone(""); !a.IsLoopback() {
			all = append(all, a.Unmap())
		}
	}
	return all, nil
}
