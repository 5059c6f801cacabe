package host

import (
	"context"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// EnsureSwarm makes a swarm of this one node unless the node is a manager
// already, and returns whether it made one. The swarm listens on
// the loopback address only. A node that is a worker, or whose swarm is
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
	_, err = docker.SwarmInit(ctx, swarm.InitRequest{
		ListenAddr:    "127.0.0.1:2377",
		AdvertiseAddr: "127.0.0.1",
		DataPathAddr:  "127.0.0.1",
	})
	if err != nil {
		return false, ccci.Errorf(ccci.CodeInfra, "making a swarm: %w", err)
	}
	return true, nil
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
