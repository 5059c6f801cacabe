package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/box"
)

// Label marks the ingress's container; its value is a digest of what it was made for.
const Label = "cc-ci.ingress"

// ProxyLabel marks the container as the proxy that joins the networks of runs.
const ProxyLabel = "cc-ci.proxy"

const (
	httpsPort = nat.Port("8443/tcp") // above 1024: the container's user may not be root
	httpPort  = nat.Port("8080/tcp")
	// startLimit bounds the time until a new container answers.
	startLimit = 30 * time.Second
)

// ensureContainer finds or makes the container, and sets the addresses. The
// caller holds the lock of the state directory.
func (in *Ingress) ensureContainer(ctx context.Context) error {
	want := shortDigest("4", in.opts.Box, in.opts.Domain, in.opts.StateDir, in.opts.Addr, in.opts.WebAddr, user())
	found, err := in.opts.Docker.ContainerInspect(ctx, in.opts.Name)
	if err != nil && !cerrdefs.IsNotFound(err) {
		return ccci.Errorf(ccci.CodeInfra, "looking for the ingress: %w", err)
	}
	if err == nil {
		if _, ours := found.Config.Labels[Label]; !ours {
			return ccci.Errorf(ccci.CodeConflict, "starting the ingress: a container that is not ours has the name %s", in.opts.Name).
				WithHint("rename or remove that container")
		}
		if found.Config.Labels[Label] == want && found.State.Running && in.adopt(ctx, found) == nil {
			return nil
		}
		in.opts.Logger.InfoContext(ctx, "replacing the ingress", "container", in.opts.Name)
		if err := in.removeContainer(ctx); err != nil {
			return ccci.Errorf(ccci.CodeInfra, "replacing the ingress: %w", err)
		}
	}
	return in.start(ctx, want)
}

// start creates the container. A port that was free a moment ago may be taken, so
// ports that nobody asked for by number are chosen again.
func (in *Ingress) start(ctx context.Context, digest string) error {
	chosen := strings.HasSuffix(in.opts.Addr, ":0") || strings.HasSuffix(in.opts.WebAddr, ":0")
	for attempt := 1; ; attempt++ {
		err := in.create(ctx, digest)
		if err == nil {
			return nil
		}
		if rmErr := in.removeContainer(context.WithoutCancel(ctx)); rmErr != nil {
			return ccci.Errorf(ccci.CodeInfra, "starting the ingress: %w", rmErr)
		}
		taken := strings.Contains(err.Error(), "already allocated") || strings.Contains(err.Error(), "address already in use")
		if taken && chosen && attempt < 5 {
			continue
		}
		e := ccci.Errorf(ccci.CodeInfra, "starting the ingress: %w", err)
		if taken {
			e = e.WithHint("another program listens on %s or %s; choose other addresses", in.opts.Addr, in.opts.WebAddr)
		}
		return e
	}
}

func (in *Ingress) create(ctx context.Context, digest string) error {
	https, err := binding(in.opts.Addr)
	if err != nil {
		return err
	}
	web, err := binding(in.opts.WebAddr)
	if err != nil {
		return err
	}
	if err := in.dir.make(); err != nil { // after Close the directories are gone
		return err
	}
	created, err := in.opts.Docker.ContainerCreate(ctx,
		&container.Config{
			Image:        in.opts.Box,
			User:         user(),
			Env:          []string{"GOMEMLIMIT=448MiB"}, // below what resources allow
			Labels:       map[string]string{Label: digest, ProxyLabel: "true"},
			ExposedPorts: nat.PortSet{httpsPort: {}, httpPort: {}},
			Cmd: []string{box.Program, "ingress", "serve", "--conf", "/conf", "--socket", "/run/cc-ci/" + socketFile,
				"--http", ":" + httpPort.Port(), "--https", ":" + httpsPort.Port(), "--https-port", https.HostPort},
		},
		&container.HostConfig{
			NetworkMode:    "bridge", // an overlay network takes more than twice as long to join
			PortBindings:   nat.PortMap{httpsPort: {https}, httpPort: {web}},
			CapDrop:        []string{"ALL"},
			SecurityOpt:    []string{"no-new-privileges"},
			ReadonlyRootfs: true,
			RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 10},
			Resources:      resources(),
			LogConfig:      container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "2"}},
			Mounts: []mount.Mount{
				{Type: mount.TypeBind, Source: in.dir.conf(), Target: "/conf", ReadOnly: true},
				{Type: mount.TypeBind, Source: in.dir.run(), Target: "/run/cc-ci"},
			},
		}, nil, nil, in.opts.Name)
	if err != nil {
		return err
	}
	if err := in.opts.Docker.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		return err
	}
	return in.awaitStart(ctx, created.ID)
}

// resources bound what apps, which reach the container on the networks of their runs, can make it take.
func resources() container.Resources {
	pids := int64(1024)
	return container.Resources{Memory: 512 << 20, PidsLimit: &pids}
}

// awaitStart waits until the container serves.
func (in *Ingress) awaitStart(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := in.opts.Docker.ContainerInspect(ctx, id)
		if err != nil {
			return err
		}
		if found.State.Running {
			err = in.adopt(ctx, found)
		} else {
			return fmt.Errorf("its container ended with exit code %d: %s", found.State.ExitCode, in.lastLog(ctx, id))
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not answer after %v: %w: %s", startLimit, err, in.lastLog(context.WithoutCancel(ctx), id))
		case <-tick.C:
		}
	}
}

// adopt takes a running container's addresses over, if it reads our files and
// serves with our certificate.
func (in *Ingress) adopt(ctx context.Context, found container.InspectResponse) error {
	addr, err := published(found, httpsPort)
	if err != nil {
		return err
	}
	web, err := published(found, httpPort)
	if err != nil {
		return err
	}
	if err := in.dir.control(ctx, http.MethodPost, "/reload"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: in.cas, ServerName: in.opts.Domain}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	in.addr, in.web = addr, web
	return conn.Close()
}

// published is the host address of a container's port.
func published(found container.InspectResponse, port nat.Port) (string, error) {
	bindings := found.NetworkSettings.Ports[port]
	if len(bindings) == 0 {
		return "", fmt.Errorf("port %s is not published", port)
	}
	return net.JoinHostPort(bindings[0].HostIP, bindings[0].HostPort), nil
}

// binding reads host:port and finds a free port for 0. The port is fixed here, so that
// it stays the same when Docker starts the container again.
func binding(addr string) (nat.PortBinding, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nat.PortBinding{}, ccci.Errorf(ccci.CodeInvalid, "%q is not an address", addr).WithHint("write 127.0.0.1:443, or port 0 for a free one")
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return nat.PortBinding{}, ccci.Errorf(ccci.CodeInvalid, "the ingress listens on loopback addresses only, and %s is none", host).
			WithHint("use 127.0.0.1; apps under test must not be reachable from elsewhere")
	}
	if port != "0" {
		return nat.PortBinding{HostIP: host, HostPort: port}, nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nat.PortBinding{}, err
	}
	defer l.Close()
	return nat.PortBinding{HostIP: host, HostPort: strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}, nil
}

// user is who owns the state directory; the container needs no other right.
func user() string { return fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) }

// removeContainer removes the container, running or not.
func (in *Ingress) removeContainer(ctx context.Context) error {
	err := in.opts.Docker.ContainerRemove(ctx, in.opts.Name, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// lastLog returns the end of the container's log, for an error message.
func (in *Ingress) lastLog(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := in.opts.Docker.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: "5"})
	if err != nil {
		return "no log"
	}
	defer body.Close()
	var b bytes.Buffer
	_, _ = stdcopy.StdCopy(&b, &b, io.LimitReader(body, 16<<10))
	return strings.TrimSpace(b.String())
}
