package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	dockerswarm "github.com/docker/docker/api/types/swarm"

	"github.com/recipe-maintainers/cc-ci/internal/reconcile"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/attacker"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// attackWorld is a daemon of the attacks' own, and the canary on its host.
type attackWorld struct {
	docker  *dockerd.Server
	program string
	gateway string

	mu   sync.Mutex
	hits []string
}

func newAttackWorld(t *testing.T) *attackWorld {
	w := &attackWorld{docker: dockerd.Start(t), program: filepath.Join(t.TempDir(), "cc-ci")}
	if err := compile(w.program); err != nil {
		t.Fatal(err)
	}
	attacker.Import(t, w.docker)
	// Addresses of the host that apps like to try: metadata of a cloud, a private network.
	for _, address := range []string{"169.254.169.254/32", "10.213.7.1/32"} {
		if out, err := w.docker.Command(t.Context(), "ip", "address", "add", address, "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if _, err := w.docker.Docker.SwarmInit(t.Context(), dockerswarm.InitRequest{ListenAddr: "127.0.0.1:2377", AdvertiseAddr: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	w.gateway = gateway(t, w.docker)
	listener, err := w.docker.Listen("tcp", ":"+canaryPort)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hits = append(w.hits, r.Method+" "+r.URL.String())
		fmt.Fprintln(rw, "<h1>the canary</h1>")
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	w.reaches(t)
	w.neighbours(t)
	// As on a production host, where a unit of the flake does it.
	if out, err := w.docker.Command(t.Context(), w.program, "firewall").CombinedOutput(); err != nil {
		t.Fatalf("cc-ci firewall: %v\n%s", err, out)
	}
	return w
}

// reaches makes sure that an app could reach the canary: without this no attack could be seen to.
func (w *attackWorld) reaches(t *testing.T) {
	t.Helper()
	w.container(t, "", "dial control 10.213.7.1:"+canaryPort, "exit 0")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.hits) != 1 {
		t.Fatalf("without a firewall a container does not reach the canary: %q", w.hits)
	}
}

// neighbour is a service beside the apps, with the other names by which it is known on its own network: those of
// cc-ci's services.
const neighbour = "cc-ci_socket-proxy"

var neighbourNames = []string{neighbour, "socket-proxy", "cc-ci_drone", "cc-ci_bridge", "cc-ci_dashboard"}

// neighbours starts it, and makes sure that its names lead to it on its network: without this no attack
// could be seen to resolve them.
func (w *attackWorld) neighbours(t *testing.T) {
	t.Helper()
	docker := w.docker.Docker
	if _, err := docker.NetworkCreate(t.Context(), reconcile.InfraNetwork, network.CreateOptions{Driver: "overlay", Attachable: true}); err != nil {
		t.Fatal(err)
	}
	image, err := docker.ImageInspect(t.Context(), attacker.Image)
	if err != nil {
		t.Fatal(err)
	}
	spec := dockerswarm.ServiceSpec{Annotations: dockerswarm.Annotations{Name: neighbour}, TaskTemplate: dockerswarm.TaskSpec{
		ContainerSpec: &dockerswarm.ContainerSpec{Image: image.ID}, // for which swarm asks no registry
		Networks:      []dockerswarm.NetworkAttachmentConfig{{Target: reconcile.InfraNetwork, Aliases: neighbourNames[1:]}},
	}, EndpointSpec: &dockerswarm.EndpointSpec{Mode: dockerswarm.ResolutionModeDNSRR}} // an address of its own needs IPVS
	if _, err := docker.ServiceCreate(t.Context(), spec, dockerswarm.ServiceCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var needs []string
	for _, name := range neighbourNames {
		needs = append(needs, "needs "+name+":8080")
	}
	for end := time.Now().Add(time.Minute); w.container(t, reconcile.InfraNetwork, append(needs, "exit 0")...) != 0; {
		if time.Now().After(end) {
			t.Fatalf("on their own network the names %q do not lead to a service", neighbourNames)
		}
	}
}

// container runs the attacker once, on a network, and returns its exit code.
func (w *attackWorld) container(t *testing.T, on string, attacks ...string) int64 {
	t.Helper()
	docker := w.docker.Docker
	made, err := docker.ContainerCreate(t.Context(), &container.Config{Image: attacker.Image, Cmd: attacks}, &container.HostConfig{NetworkMode: container.NetworkMode(on)}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := docker.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	ended, failed := docker.ContainerWait(t.Context(), made.ID, container.WaitConditionNotRunning)
	var code int64
	select {
	case end := <-ended:
		code = end.StatusCode
	case err := <-failed:
		t.Fatal(err)
	}
	if err := docker.ContainerRemove(t.Context(), made.ID, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	return code
}

// packets opens a port of a case's own, for UDP and TCP. Whatever arrives there is a hit of that case: what speaks
// no HTTP does not say of which it is.
func (w *attackWorld) packets(t *testing.T, name string) (port string) {
	t.Helper()
	connections, err := w.docker.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connections.Close() })
	_, port, _ = net.SplitHostPort(connections.Addr().String())
	var datagrams net.PacketConn
	inside := dockerd.Within(w.docker.Namespace(), func() { datagrams, err = net.ListenPacket("udp", ":"+port) })
	if err := errors.Join(inside, err); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { datagrams.Close() })
	hit := func(what string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hits = append(w.hits, what+" for /"+name)
	}
	go func() {
		for {
			conn, err := connections.Accept()
			if err != nil {
				return
			}
			hit("a connection")
			conn.Close()
		}
	}()
	go func() {
		for text := make([]byte, 2048); ; {
			if _, _, err := datagrams.ReadFrom(text); err != nil {
				return
			}
			hit("a packet")
		}
	}()
	return port
}

// gateway returns the host's address on the network by which tasks reach the world. Swarm makes it
// some time after it has begun.
func gateway(t *testing.T, docker *dockerd.Server) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		bridge, err := docker.Docker.NetworkInspect(ctx, "docker_gwbridge", network.InspectOptions{})
		if err == nil && len(bridge.IPAM.Config) > 0 {
			return bridge.IPAM.Config[0].Gateway
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
