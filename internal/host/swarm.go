package host

import (
	"context"

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
