package swarm

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// fault classifies an error of the Docker API. What the daemon refuses as
// malformed is the recipe's, since all of it comes from there; the rest is ours.
func (d *Deployer) fault(activity string, err error) error {
	if err == nil {
		return nil
	}
	var own *ccci.Error
	if errors.As(err, &own) {
		return err
	}
	text := words(err)
	switch {
	case errors.Is(err, fs.ErrPermission) || strings.Contains(text, "permission denied while trying to connect"):
		return ccci.Errorf(ccci.CodeInfra, "%s: no permission on the Docker socket at %s: %w", activity, d.docker.DaemonHost(), err).
			WithHint("run as root, or add this user to the group that owns the socket, usually docker, and log in again")
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return ccci.Errorf(ccci.CodeInfra, "%s: %w", activity, err)
	case client.IsErrConnectionFailed(err):
		return ccci.Errorf(ccci.CodeInfra, "%s: Docker does not answer at %s: %w", activity, d.docker.DaemonHost(), err).
			WithHint("start it (systemctl start docker), or point DOCKER_HOST at a running one")
	case strings.Contains(text, "not a swarm manager"):
		return ccci.Errorf(ccci.CodeInfra, "%s: %w", activity, err).WithHint("run docker swarm init on this host, or point DOCKER_HOST at a manager")
	case strings.Contains(text, "no space left on device"):
		return ccci.Errorf(ccci.CodeInfra, "%s: the disk is full: %w", activity, err).WithHint("free space where Docker keeps its data (docker system df)")
	case cerrdefs.IsAlreadyExists(err) || strings.Contains(text, "conflicts with an existing object"):
		return &ccci.Error{Code: ccci.CodeConflict, Message: activity + ": " + clip(text, 500), Err: err}
	case strings.Contains(text, "larger than max") || strings.Contains(text, "message is too large") || strings.Contains(text, "request body too large"):
		return ccci.Errorf(ccci.CodeRecipe, "%s: it is too large for Docker: %s", activity, clip(text, 300)).
			WithHint("swarm takes specifications of at most a few megabytes, and configs and secrets of 500 kB; shorten labels, environment and files")
	case cerrdefs.IsInvalidArgument(err):
		return &ccci.Error{Code: ccci.CodeRecipe, Message: activity + ": Docker refuses it: " + clip(text, 500), Err: err}
	}
	return &ccci.Error{Code: ccci.CodeInfra, Message: activity + ": " + clip(text, 500), Err: err}
}

// words returns what the daemon said without the layers it wraps it in.
func words(err error) string {
	text := err.Error()
	text = strings.TrimPrefix(text, "Error response from daemon: ")
	if _, desc, ok := strings.Cut(text, " desc = "); ok && strings.HasPrefix(text, "rpc error: ") {
		text = desc
	}
	return strings.TrimSpace(text)
}

// swarmState says in an error why a daemon cannot take a stack.
func swarmState(info swarm.Info) error {
	switch {
	case info.LocalNodeState == swarm.LocalNodeStateInactive:
		return ccci.Errorf(ccci.CodeInfra, "this Docker is not part of a swarm").
			WithHint("run: docker swarm init --advertise-addr 127.0.0.1")
	case info.LocalNodeState == swarm.LocalNodeStateLocked:
		return ccci.Errorf(ccci.CodeInfra, "this Docker's swarm is locked").WithHint("run: docker swarm unlock")
	case info.LocalNodeState != swarm.LocalNodeStateActive:
		return ccci.Errorf(ccci.CodeInfra, "this Docker's swarm is %s: %s", info.LocalNodeState, info.Error).
			WithHint("look at docker info; docker swarm leave --force and docker swarm init make a new one")
	case !info.ControlAvailable:
		return ccci.Errorf(ccci.CodeInfra, "this Docker is a worker of its swarm and may not manage services").
			WithHint("run cc-ci on a manager, or promote this node: docker node promote %s", info.NodeID)
	}
	return nil
}
