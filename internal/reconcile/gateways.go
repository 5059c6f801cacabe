package reconcile

import (
	"cmp"
	"context"
	"net/netip"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Gateway is a host, or a range of them, that passes connections of visitors on to the proxy and names
// the visitor by the PROXY protocol.
type Gateway struct {
	From  netip.Prefix // of IPv4
	Place string       // where the configuration lists it, for errors
}

// ContainerRange is a range from which containers have, or will have, addresses.
type ContainerRange struct {
	Range netip.Prefix
	Of    string // as "the network docker_gwbridge"
}

// defaultPool is what a swarm takes the addresses of its networks from unless it was made otherwise.
const defaultPool = "10.0.0.0/8"

// ContainerRanges returns a function that lists the ranges from which this Docker gives addresses to
// containers that the proxy can meet: what the swarm takes new networks from, as those of runs, and the
// bridge and overlay networks that exist.
func ContainerRanges(docker *client.Client) func(context.Context) ([]ContainerRange, error) {
	return func(ctx context.Context) ([]ContainerRange, error) {
		info, err := docker.Info(ctx)
		if err != nil {
			return nil, ccci.Errorf(ccci.CodeInfra, "asking Docker for the addresses of its networks: %w", err).
				WithHint("start it (systemctl start docker), or point DOCKER_HOST at a running one")
		}
		var all []ContainerRange
		add := func(text, of string) {
			if p, err := netip.ParsePrefix(text); err == nil {
				all = append(all, ContainerRange{p.Masked(), of})
			}
		}
		pools := []string{defaultPool}
		if c := info.Swarm.Cluster; c != nil && len(c.DefaultAddrPool) > 0 {
			pools = c.DefaultAddrPool
		}
		for _, pool := range pools {
			add(pool, "the networks that the swarm makes")
		}
		networks, err := docker.NetworkList(ctx, network.ListOptions{})
		if err != nil {
			return nil, ccci.Errorf(ccci.CodeInfra, "asking Docker for the addresses of its networks: %w", err)
		}
		for _, n := range networks {
			if n.Driver != "bridge" && n.Driver != "overlay" {
				continue
			}
			for _, c := range n.IPAM.Config {
				add(c.Subnet, "the network "+n.Name)
			}
		}
		return all, nil
	}
}

// CheckGateways refuses gateways that containers could be: an app could name any address as that of its
// visitor then.
func CheckGateways(gateways []Gateway, containers []ContainerRange) error {
	for _, g := range gateways {
		for _, c := range containers {
			if c.Range.Overlaps(g.From) {
				return ccci.Errorf(ccci.CodeInvalid, "%s: %s holds addresses of %s, %s: an app could name any address as its visitor's", cmp.Or(g.Place, "gateways"), g.From, c.Of, c.Range).
					WithHint("write the address from which the gateway connects to this host; if it is this one, have Docker use other addresses (docker swarm init --default-addr-pool, for networks of the swarm)")
			}
		}
	}
	return nil
}

// checkGateways asks Docker for the addresses of containers, where there is a gateway to compare with them.
func (p *proxy) checkGateways(ctx context.Context) error {
	if len(p.Gateways) == 0 {
		return nil
	}
	containers, err := p.Containers(ctx)
	if err != nil {
		return err
	}
	return CheckGateways(p.Gateways, containers)
}
