package host

import (
	"context"
	"net/netip"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// SwarmLog are the settings that bound what a swarm keeps of ended tasks. Swarm writes each state of each
// task, with its whole specification, to a log. It drops entries of that log, in memory and on disk,
// when it makes a snapshot; its default is one for 10,000 entries. Of each slot it keeps five tasks, as by
// default: runs read the logs of those that ended, look for secrets in them, and compare how long they ran.
func SwarmLog() swarm.Spec {
	history := int64(5)
	return swarm.Spec{
		Raft:          swarm.RaftConfig{SnapshotInterval: 500},
		Orchestration: swarm.OrchestrationConfig{TaskHistoryRetentionLimit: &history},
	}
}

// BoundSwarmLog gives the swarm of which this node is a manager the settings of [SwarmLog]. Its other
// settings stay.
func BoundSwarmLog(ctx context.Context, docker *client.Client) error {
	have, err := docker.SwarmInspect(ctx)
	if err != nil {
		return err
	}
	want := SwarmLog()
	have.Spec.Raft.SnapshotInterval = want.Raft.SnapshotInterval
	have.Spec.Orchestration = want.Orchestration
	return docker.SwarmUpdate(ctx, have.Version, have.Spec, swarm.UpdateFlags{})
}

// Gateway is the network by which containers of the swarm reach the internet: all of them are on its bridge.
const Gateway = "docker_gwbridge"

// GatewayBits is the length of its prefix: 1,021 containers. A container can ask the kernel for each address of the
// network and takes a place in the table of neighbours by it, which is that of all containers and has 2^20 places. /22 is
// the largest network whose containers cannot fill it together. Docker's own choice is a /16.
const GatewayBits = 22

// EnsureSwarm makes a swarm of this one node unless the node is a manager
// already, and returns whether it made one. The swarm listens on
// the loopback address only and has the settings of [SwarmLog]. A node that is a worker, or whose swarm is
// locked or broken, is an Error with CodeInfra.
func EnsureSwarm(ctx context.Context, docker *client.Client) (bool, error) {
	info, err := docker.Info(ctx)
	if err != nil {
		return false, ccci.Errorf(ccci.CodeInfra, "asking Docker about the swarm: %w", err)
	}
	f := Facts{Docker: DockerUp, Swarm: Swarm{State: string(info.Swarm.LocalNodeState), Manager: info.Swarm.ControlAvailable}, Restic: "-", Chromium: "-", Git: "-"}
	next, err := decide(f, false)
	if err != nil || next.kind != initSwarm {
		return false, err
	}
	if err := ensureGateway(ctx, docker); err != nil {
		return false, ccci.Errorf(ccci.CodeInfra, "making the network %s: %w", Gateway, err)
	}
	_, err = docker.SwarmInit(ctx, swarm.InitRequest{
		ListenAddr:    "127.0.0.1:2377",
		AdvertiseAddr: "127.0.0.1",
		DataPathAddr:  "127.0.0.1",
		Spec:          SwarmLog(),
	})
	if err != nil {
		return false, ccci.Errorf(ccci.CodeInfra, "making a swarm: %w", err)
	}
	return true, nil
}

// ensureGateway makes the network as Docker would, with fewer addresses. One that is there stays as it is; the
// doctor says how to replace it.
func ensureGateway(ctx context.Context, docker *client.Client) error {
	if _, err := docker.NetworkInspect(ctx, Gateway, network.InspectOptions{}); !cerrdefs.IsNotFound(err) {
		return err
	}
	// Which addresses are free is known to Docker alone: it chooses first.
	if err := makeGateway(ctx, docker, nil); err != nil {
		return err
	}
	has, should, err := WideGateway(ctx, docker)
	if err != nil || !has.IsValid() {
		return err
	}
	if err := docker.NetworkRemove(ctx, Gateway); err != nil {
		return err
	}
	return makeGateway(ctx, docker, &network.IPAM{Config: []network.IPAMConfig{{Subnet: should.String(), Gateway: should.Addr().Next().String()}}})
}

func makeGateway(ctx context.Context, docker *client.Client, addresses *network.IPAM) error {
	_, err := docker.NetworkCreate(ctx, Gateway, network.CreateOptions{Driver: "bridge", IPAM: addresses, Options: map[string]string{
		"com.docker.network.bridge.name":                 Gateway,
		"com.docker.network.bridge.enable_icc":           "false",
		"com.docker.network.bridge.enable_ip_masquerade": "true",
	}})
	return err
}

// WideGateway returns the addresses of the network if they are more than [GatewayBits] allows, and those that it should
// have; the zero values if they are not, or if there is no such network.
func WideGateway(ctx context.Context, docker *client.Client) (has, should netip.Prefix, err error) {
	made, err := docker.NetworkInspect(ctx, Gateway, network.InspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return has, should, nil
	}
	if err != nil {
		return has, should, ccci.Errorf(ccci.CodeInfra, "asking Docker about %s: %w", Gateway, err).WithHint("run docker network inspect %s", Gateway)
	}
	for _, config := range made.IPAM.Config {
		subnet, err := netip.ParsePrefix(config.Subnet)
		if err == nil && subnet.Addr().Is4() && subnet.Bits() < GatewayBits {
			return subnet.Masked(), netip.PrefixFrom(subnet.Masked().Addr(), GatewayBits), nil
		}
	}
	return has, should, nil
}

// leaveSwarm leaves the swarm unless services are left in it, and returns whether
// this node is in none now. Legal without a swarm.
func leaveSwarm(ctx context.Context, docker *client.Client) (bool, error) {
	info, err := docker.Info(ctx)
	if err != nil {
		return false, err
	}
	if info.Swarm.LocalNodeState == swarm.LocalNodeStateInactive {
		return true, nil
	}
	services, err := docker.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil || len(services) > 0 {
		return false, err
	}
	return true, docker.SwarmLeave(ctx, true)
}
