package reconcile

import (
	"context"

	"github.com/recipe-maintainers/cc-ci/internal/host"
)

// SwarmOptions say what every unit stands on.
type SwarmOptions struct {
	Network string // that the proxy and apps deployed by hand share
	Subnet  string // its addresses, a /16
}

// Swarm is the unit that every other one stands on: the swarm of this node with the bounds of its log, the node's label,
// the network of proxy and apps deployed by hand, and that of cc-ci's own services.
func Swarm(o SwarmOptions) Unit {
	return Unit{Name: "swarm", Desired: func(context.Context) (Desired, error) {
		return Desired{
			NodeLabels: map[string]string{LabelHost: "true"},
			SwarmLog:   swarmLog(host.SwarmLog()),
			Networks:   []Network{{Name: o.Network, Subnet: o.Subnet, Attachable: true}, {Name: InfraNetwork, Internal: true}},
		}, nil
	}}
}
