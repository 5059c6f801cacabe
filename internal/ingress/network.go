package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// subnets are the ranges for the proxy network, in the order of preference. Each is a /16: a
// swarm gives every routed task an address there, and a /24 runs out (U22).
var subnets = []string{"10.10.0.0/16", "10.110.0.0/16", "10.210.0.0/16", "172.31.0.0/16"}

// NetworkLabel marks a network that cc-ci made. Whoever ends last may remove it,
// also when the one that made it was killed.
const NetworkLabel = "cc-ci.network"

// EnsureNetwork makes the attachable overlay network that apps and ingress
// share, unless it is there, and returns whether cc-ci has made it, in this
// process or an earlier one. One that is there
// and cannot serve (not an overlay, not attachable) is an Error with CodeConflict; no swarm is CodeInfra.
// One that the daemon lists and the swarm does not know is removed and created again.
func EnsureNetwork(ctx context.Context, docker *client.Client, name string) (bool, error) {
	found, err := awaitNetwork(ctx, docker, name)
	if err == nil {
		if err := usable(found); err != nil {
			return isOurs(found), err
		}
		there, err := known(ctx, docker, found.ID)
		if err != nil || there {
			return isOurs(found), err
		}
		if err := forget(ctx, docker, found); err != nil {
			return false, err
		}
	} else if !cerrdefs.IsNotFound(err) {
		return false, ccci.Errorf(ccci.CodeInfra, "looking for network %s: %w", name, err)
	}
	all, err := docker.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return false, ccci.Errorf(ccci.CodeInfra, "listing networks: %w", err)
	}
	subnet, err := freeSubnet(all)
	if err != nil {
		return false, err
	}
	_, err = docker.NetworkCreate(ctx, name, network.CreateOptions{
		Driver: "overlay", Scope: "swarm", Attachable: true,
		Labels: map[string]string{NetworkLabel: "made"},
		IPAM:   &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet}}},
	})
	if err != nil {
		// Another process may have been faster.
		if found, again := awaitNetwork(ctx, docker, name); again == nil {
			return isOurs(found), usable(found)
		}
		return false, ccci.Errorf(ccci.CodeInfra, "making network %s: %w", name, err).
			WithHint("overlay networks need an active swarm: docker swarm init")
	}
	if _, err := awaitNetwork(ctx, docker, name); err != nil {
		return true, ccci.Errorf(ccci.CodeInfra, "waiting for network %s: %w", name, err)
	}
	return true, nil
}

func isOurs(n network.Inspect) bool { return n.Labels[NetworkLabel] != "" }

// allocateLimit bounds the time that a swarm takes to allocate a network.
const allocateLimit = 20 * time.Second

// awaitNetwork inspects a network, waiting while it is one that the swarm knows
// and has not allocated yet: until then it has no driver.
func awaitNetwork(ctx context.Context, docker *client.Client, name string) (network.Inspect, error) {
	ctx, cancel := context.WithTimeout(ctx, allocateLimit)
	defer cancel()
	for {
		found, err := docker.NetworkInspect(ctx, name, network.InspectOptions{})
		if err != nil || found.Driver != "" {
			return found, err
		}
		select {
		case <-ctx.Done():
			return found, fmt.Errorf("the swarm does not allocate it: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// usable says why a network cannot be the proxy network, if so.
func usable(n network.Inspect) error {
	var why error
	switch {
	case n.Driver != "overlay":
		why = fmt.Errorf("its driver is %s, not overlay", n.Driver)
	case !n.Attachable:
		why = errors.New("it is not attachable")
	default:
		return nil
	}
	return ccci.Errorf(ccci.CodeConflict, "network %s cannot carry the ingress: %w", n.Name, why).
		WithHint("make it anew: docker network rm %[1]s && docker network create -d overlay --attachable --subnet 10.10.0.0/16 %[1]s", n.Name)
}

// freeSubnet returns the first range that no network overlaps.
func freeSubnet(all []network.Summary) (string, error) {
	for _, text := range subnets {
		want := netip.MustParsePrefix(text)
		if !overlapsAny(want, all) {
			return text, nil
		}
	}
	return "", ccci.Errorf(ccci.CodeConflict, "all ranges for the proxy network are taken: %v", subnets).
		WithHint("make the network yourself: docker network create -d overlay --attachable --subnet <range>/16 proxy")
}

func overlapsAny(want netip.Prefix, all []network.Summary) bool {
	for _, n := range all {
		for _, c := range n.IPAM.Config {
			have, err := netip.ParsePrefix(c.Subnet)
			if err == nil && have.Overlaps(want) {
				return true
			}
		}
	}
	return false
}
