package ingress

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// labelRun marks the probe as something that the janitor may remove.
const labelRun = "cc-ci.run"

// known reports whether the swarm knows a network that the daemon lists. A network that was
// removed while something was attached to it stays in the daemon's own list, and
// no request for it shows the difference. A service does: one without tasks is
// created on the network, which the swarm refuses for a network that it does not know.
func known(ctx context.Context, docker *client.Client, id string) (bool, error) {
	var unique [6]byte
	if _, err := rand.Read(unique[:]); err != nil {
		return false, fmt.Errorf("reading randomness: %w", err)
	}
	name, none := "network-probe-"+hex.EncodeToString(unique[:]), uint64(0)
	made, err := docker.ServiceCreate(ctx, swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: name, Labels: map[string]string{labelRun: name}},
		Mode:        swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &none}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Image: "cc-ci/none"}, // never pulled: there is no task
			Networks:      []swarm.NetworkAttachmentConfig{{Target: id}},
		},
		EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR},
	}, swarm.ServiceCreateOptions{})
	if err != nil {
		if strings.Contains(err.Error(), "network "+id+" not found") || cerrdefs.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("looking whether the swarm knows network %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := docker.ServiceRemove(ctx, made.ID); err != nil && !cerrdefs.IsNotFound(err) {
		return true, fmt.Errorf("removing the probe %s: %w", name, err)
	}
	return true, nil
}

// forgetLimit bounds the time that a daemon takes to forget a network that the swarm has
// removed already.
const forgetLimit = 10 * time.Second

// forget removes a network that the swarm does not know from the daemon's list.
func forget(ctx context.Context, docker *client.Client, ghost network.Inspect) error {
	ctx, cancel := context.WithTimeout(ctx, forgetLimit)
	defer cancel()
	for {
		removeErr := docker.NetworkRemove(ctx, ghost.ID)
		_, err := docker.NetworkInspect(ctx, ghost.ID, network.InspectOptions{})
		if cerrdefs.IsNotFound(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			if removeErr == nil {
				removeErr = context.Cause(ctx)
			}
			return ccci.Errorf(ccci.CodeInfra, "network %s: the daemon lists it and the swarm does not know it: %w", ghost.Name, removeErr).
				WithHint("restart Docker (systemctl restart docker), which makes it forget the network; cc-ci creates it again")
		case <-time.After(100 * time.Millisecond):
		}
	}
}
