package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/pkg/stdcopy"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Dial connects to a port of the newest running container of a service.
//
// A host cannot route into an overlay network. But swarm also connects each task to the
// local bridge docker_gwbridge (its way out), unless all its networks are internal,
// and the host is on that bridge: on the daemon's own host this is a plain TCP
// connection. Elsewhere, and for internal networks, a box container joins the
// task's network namespace for the length of the connection and carries the bytes;
// that needs Options.Box. A refusal of the first way is final and is not tried again
// through a box: both reach the same listener.
func (d *Deployer) Dial(ctx context.Context, stack *recipe.Stack, service string, port int) (io.ReadWriteCloser, error) {
	activity := fmt.Sprintf("connecting to port %d of service %s", port, service)
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if port < 1 || port > 65535 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s: there is no such port", activity)
	}
	running, err := d.runningContainer(ctx, stack, service)
	if err != nil {
		return nil, err
	}
	task, err := d.docker.ContainerInspect(ctx, running.ID)
	if err != nil {
		return nil, d.fault(activity, err)
	}
	if address := d.bridgeAddress(ctx, task); address != "" {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.ECONNREFUSED):
			return nil, ccci.Errorf(ccci.CodeRecipe, "%s: nothing listens there: %w", activity, err)
		}
		d.log.Debug("the host cannot reach a task over docker_gwbridge", "service", service, "error", err)
	}
	if d.o.Box.Image == "" || d.o.Box.Dial == nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "%s: this host has no route to the container", activity).
			WithHint("the service has only internal networks, or Docker runs elsewhere; configure the box image")
	}
	conn, err := d.boxDial(ctx, task, stack.Name, port)
	if err != nil {
		return nil, d.fault(activity, err)
	}
	return conn, nil
}

// bridgeAddress returns a container's address on docker_gwbridge, "" when it has none
// or this process is not on that bridge.
func (d *Deployer) bridgeAddress(ctx context.Context, task container.InspectResponse) string {
	bridge, err := d.docker.NetworkInspect(ctx, "docker_gwbridge", network.InspectOptions{})
	if err != nil {
		return ""
	}
	here := false
	for _, pool := range bridge.IPAM.Config {
		here = here || onThisHost(net.ParseIP(pool.Gateway))
	}
	if !here || task.NetworkSettings == nil {
		return ""
	}
	sandbox := task.NetworkSettings.SandboxID
	for key, endpoint := range bridge.Containers {
		if key == task.ID || len(sandbox) >= 12 && endpoint.Name == "gateway_"+sandbox[:12] {
			address, _, _ := strings.Cut(endpoint.IPv4Address, "/")
			return address
		}
	}
	return ""
}

// Limits of a box, which carries bytes and nothing else.
const (
	boxMemory    = 128 << 20
	boxProcesses = 64
	boxShares    = runShares / 4
)

// boxDial starts a box in the task's network namespace. The box dials the task's own
// address, as a neighbour would, so that what listens on localhost only stays unreachable.
func (d *Deployer) boxDial(ctx context.Context, task container.InspectResponse, stack string, port int) (io.ReadWriteCloser, error) {
	host := "127.0.0.1"
	if task.NetworkSettings != nil {
		for _, n := range task.NetworkSettings.Networks {
			if n != nil && n.IPAddress != "" {
				host = n.IPAddress
				break
			}
		}
	}
	confinement := confined(boxMemory)
	confinement.NetworkMode, confinement.AutoRemove = container.NetworkMode("container:"+task.ID), true
	id, err := d.createContainer(ctx, "for a connection", stack, &container.Config{
		Image:      d.o.Box.Image,
		Entrypoint: d.o.Box.Dial(net.JoinHostPort(host, strconv.Itoa(port))),
		OpenStdin:  true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
		Labels: owned(nil, d.o.RunID, stack),
	}, confinement)
	if err != nil {
		return nil, fmt.Errorf("making a box: %w", err)
	}
	conn := &boxConn{docker: d, id: id}
	attached, err := d.docker.ContainerAttach(ctx, conn.id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		conn.remove(ctx)
		return nil, fmt.Errorf("attaching to a box: %w", err)
	}
	if err := d.docker.ContainerStart(ctx, conn.id, container.StartOptions{}); err != nil {
		attached.Close()
		conn.remove(ctx)
		return nil, fmt.Errorf("starting a box: %w", err)
	}
	reader, writer := io.Pipe()
	said := &headBuffer{limit: 4096}
	go func() {
		_, err := stdcopy.StdCopy(writer, said, attached.Reader)
		if err == nil && len(said.data) > 0 {
			err = errors.New(strings.TrimSpace(string(said.data)))
		}
		writer.CloseWithError(err) // nil is a plain end of file
	}()
	conn.Reader, conn.Writer = reader, attached.Conn
	conn.close = func() { attached.Close(); reader.Close() }
	return conn, nil
}

// boxConn is a connection through a box; closing it removes the box.
type boxConn struct {
	io.Reader
	io.Writer
	docker *Deployer
	id     string
	close  func()
}

func (c *boxConn) Close() error {
	c.close()
	return c.remove(context.Background())
}

func (c *boxConn) remove(ctx context.Context) error {
	ctx, cancel := cleanupContext(ctx, 10*time.Second)
	defer cancel()
	_, err := c.docker.removeObject(ctx, object(kindContainer, c.id, c.id[:12], nil))
	if err != nil && strings.Contains(err.Error(), "already in progress") {
		return nil // it removes itself
	}
	return err
}

// swarmNamed lists services whose name begins with name; the API matches prefixes.
func swarmNamed(name string) swarm.ServiceListOptions {
	return swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("name", name))}
}
