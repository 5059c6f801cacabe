package reconcile

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/pkg/stdcopy"
)

// guest starts a hostile image as a service in networks and waits until it runs. Its names in them are
// those of the service and aliases.
func (h *testHost) guest(t *testing.T, name string, aliases []string, networks ...string) {
	t.Helper()
	template := swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: guestImage, Args: []string{"listen"}}}
	for _, n := range networks {
		template.Networks = append(template.Networks, swarm.NetworkAttachmentConfig{Target: n, Aliases: aliases})
	}
	_, err := h.Docker.ServiceCreate(t.Context(), swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: name}, TaskTemplate: template, EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR},
	}, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.await(t, name+" runs", func() bool { return h.container(t, name) != "" })
}

// container returns the identifier of a service's running container, "" for none.
func (h *testHost) container(t *testing.T, service string) string {
	t.Helper()
	all, err := h.Docker.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(
		filters.Arg("label", "com.docker.swarm.service.name="+service), filters.Arg("status", "running"))})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		return ""
	}
	return all[0].ID
}

// inside runs guest in the container of a service and returns what it says of each argument.
func (h *testHost) inside(t *testing.T, service string, command ...string) map[string]string {
	t.Helper()
	exec, err := h.Docker.ContainerExecCreate(t.Context(), h.container(t, service),
		container.ExecOptions{Cmd: append([]string{"/app"}, command...), AttachStdout: true, AttachStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := h.Docker.ContainerExecAttach(t.Context(), exec.ID, container.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, stream.Reader); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.Lines(out.String()) {
		about, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[about] = answer
	}
	return said
}

// TestN3_RealSocketTakeover is the attack on Traefik's way to Docker: an app bears the name of the
// socket proxy in a network that Traefik is in too, and answers as Docker there. Then
// the real one is away for a moment.
func TestN3_RealSocketTakeover(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.converge(t, h.options())
	const name = Prefix + "socket-proxy"
	h.guest(t, "evil_"+name, []string{name, "docker.sock", "traefik", Prefix + "certificates"}, "proxy")
	h.guest(t, "victim", nil, "proxy")
	h.await(t, "the name is the app's", func() bool { // or the test would show nothing
		return !slices.Contains([]string{"", "none"}, h.inside(t, "victim", "lookup", name)[name])
	})
	for range 3 {
		real := h.container(t, name)
		if err := h.Docker.ContainerRemove(t.Context(), real, container.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		h.await(t, "the socket proxy runs again", func() bool { id := h.container(t, name); return id != "" && id != real })
	}
	h.app(t) // Traefik hears of what is new from Docker itself
	for _, host := range []string{"wiki." + domain, "nobody." + domain, domain} {
		if _, body := get(t, h.client(false), "https://"+host+"/health"); body == "guest" {
			t.Errorf("%s is answered by the app that took the socket proxy's name", host)
		}
	}
}
