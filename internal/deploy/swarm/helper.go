package swarm

import (
	"bytes"
	"context"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// This file makes the helper containers of a run, and runs commands in them.

// createContainer creates a container for a purpose, of which stack "" is the run's, and does not start it.
func (d *Deployer) createContainer(ctx context.Context, purpose, stack string, config *container.Config, host *container.HostConfig) (string, error) {
	id := make(chan string, 1) // the answer may come when nothing waits for it any more
	err := d.create(ctx, kindContainer, purpose, stack, func(ctx context.Context) error {
		made, err := d.docker.ContainerCreate(ctx, config, host, nil, nil, "")
		id <- made.ID
		return err
	})
	if err != nil {
		return "", err
	}
	return <-id, nil
}

// ofBox is a container of the helper image that belongs to a run.
func (d *Deployer) ofBox(command []string, run ccci.RunID) *container.Config {
	return &container.Config{Image: d.o.Box.Image, User: "0", Entrypoint: command, Labels: owned(nil, run, "")}
}

// confined gives a container what it is mounted and nothing else: no network, and of root's capabilities
// those alone that are named.
func confined(memory int64, capabilities ...string) *container.HostConfig {
	pids := int64(boxProcesses)
	return &container.HostConfig{
		NetworkMode: "none", ReadonlyRootfs: true,
		CapDrop: []string{"ALL"}, CapAdd: capabilities, SecurityOpt: []string{"no-new-privileges"},
		Resources: container.Resources{Memory: memory, PidsLimit: &pids, CPUShares: boxShares},
	}
}

// execBox runs a command in a helper container, with input as its standard input unless that is nil. It
// returns what the command prints, at most limit bytes, and the beginning of what it says on standard error.
func (d *Deployer) execBox(ctx context.Context, id string, args []string, input []byte, limit int) (stdout, stderr []byte, err error) {
	made, err := d.docker.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: args, AttachStdin: input != nil, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return nil, nil, err
	}
	conn, err := d.docker.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, conn.Close)() // a hijacked connection does not know ctx
	if input != nil {
		go func() {
			_, _ = conn.Conn.Write(input) // the command's answer says what came of it
			_ = conn.CloseWrite()
		}()
	}
	out, said := &headBuffer{limit: limit}, &headBuffer{limit: 1000}
	_, err = stdcopy.StdCopy(out, said, conn.Reader)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	return out.data, bytes.TrimSpace(said.data), err
}
