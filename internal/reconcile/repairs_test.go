package reconcile

import (
	"slices"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// repairs removes and edits each object that there is, one after the other.
func (h *testHost) repairs(t *testing.T) {
	docker := h.Docker
	d, o := h.look(t)
	check := func(name string, want []string, tamper func() error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			if err := tamper(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, text := range h.converge(t, h.options()) {
				sentence, _, _ := strings.Cut(text, ":")
				got = append(got, sentence)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("did\n%s", strings.Join(got, "\n"))
			}
			if again := h.converge(t, h.options()); len(again) > 0 {
				t.Errorf("then it does\n%s", strings.Join(again, "\n"))
			}
		})
	}
	update := func(name string, change func(*swarm.ServiceSpec)) error {
		s, _, err := docker.ServiceInspectWithRaw(t.Context(), name, swarm.ServiceInspectOptions{})
		if err != nil {
			return err
		}
		change(&s.Spec)
		if _, err = docker.ServiceUpdate(t.Context(), s.ID, s.Version, s.Spec, swarm.ServiceUpdateOptions{}); err != nil {
			return err
		}
		return nil
	}
	for _, s := range d.Services {
		name := s.Name()
		check(name+" removed", []string{"creating service " + name}, func() error { return docker.ServiceRemove(t.Context(), name) })
		check(name+" label", []string{"updating service " + name}, func() error {
			return update(name, func(s *swarm.ServiceSpec) { s.Labels["x"] = "y" })
		})
		check(name+" image", []string{"updating service " + name}, func() error {
			err := update(name, func(s *swarm.ServiceSpec) {
				s.TaskTemplate.ContainerSpec.Image = "nobody/has:it"
				s.UpdateConfig.FailureAction = swarm.UpdateFailureActionContinue
			})
			if len(s.Spec.EndpointSpec.Ports) > 0 { // else there is something to lose yet, and a trial
				h.await(t, name+" runs no longer", func() bool {
					_, o := h.look(t)
					i := slices.IndexFunc(o.Services, func(s ServiceSeen) bool { return s.Spec.Name == name })
					return !slices.ContainsFunc(o.Services[i].Tasks, func(t TaskSeen) bool { return t.State == swarm.TaskStateRunning })
				})
			}
			return err
		})
	}
	check("replicas", []string{"updating service cc-ci_socket-proxy"}, func() error {
		return update("cc-ci_socket-proxy", func(s *swarm.ServiceSpec) { *s.Mode.Replicated.Replicas = 0 })
	})
	for _, f := range o.Files {
		if f.Labels[LabelUnit] != "proxy" {
			continue
		}
		var users []string
		for _, s := range o.Services {
			if slices.Contains(uses(s.Spec, f.Kind), f.Name) {
				users = append(users, s.Spec.Name)
			}
		}
		labels := with(f.Labels, "x", "y")
		annotations := swarm.Annotations{Name: f.Name, Labels: labels}
		check(f.Name+" label", []string{"labelling " + string(f.Kind) + " " + f.Name}, func() error {
			if f.Kind == KindSecret {
				s, _, err := docker.SecretInspectWithRaw(t.Context(), f.ID)
				if err != nil {
					return err
				}
				return docker.SecretUpdate(t.Context(), f.ID, s.Version, swarm.SecretSpec{Annotations: annotations})
			}
			c, _, err := docker.ConfigInspectWithRaw(t.Context(), f.ID)
			if err != nil {
				return err
			}
			return docker.ConfigUpdate(t.Context(), f.ID, c.Version, swarm.ConfigSpec{Annotations: annotations})
		})
		want := []string{"creating " + string(f.Kind) + " " + f.Name}
		for _, u := range users {
			want = append(want, "creating service "+u)
		}
		check(f.Name+" removed", want, func() error {
			for _, u := range users { // while it is used, Docker keeps it
				if err := docker.ServiceRemove(t.Context(), u); err != nil {
					return err
				}
			}
			if f.Kind == KindSecret {
				return docker.SecretRemove(t.Context(), f.Name)
			}
			return docker.ConfigRemove(t.Context(), f.Name)
		})
	}
	check("own network removed", []string{"creating network cc-ci_infra", "creating service cc-ci_traefik"}, func() error {
		if err := docker.ServiceRemove(t.Context(), "cc-ci_traefik"); err != nil {
			return err
		}
		var err error
		h.await(t, "the network is free", func() bool { err = docker.NetworkRemove(t.Context(), InfraNetwork); return err == nil })
		return err
	})
	// The one that apps share, when no app is there.
	free := func() error {
		for _, name := range []string{"wiki_app", "cc-ci_traefik"} {
			if err := docker.ServiceRemove(t.Context(), name); err != nil && !cerrdefs.IsNotFound(err) {
				return err
			}
		}
		var err error
		h.await(t, "the network is free", func() bool { err = docker.NetworkRemove(t.Context(), "proxy"); return err == nil })
		return err
	}
	check("shared network removed", []string{"creating network proxy", "creating service cc-ci_traefik"}, free)
	check("shared network edited", []string{"removing network proxy", "creating network proxy", "creating service cc-ci_traefik"}, func() error {
		if err := free(); err != nil {
			return err
		}
		var err error
		h.await(t, "its name is free", func() bool {
			_, err = docker.NetworkCreate(t.Context(), "proxy", network.CreateOptions{Driver: "overlay", Attachable: true,
				IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.77.0.0/16"}}}})
			return err == nil
		})
		return err
	})
	h.app(t)
	check("node label", []string{"labelling node of this machine"}, func() error {
		node, _, err := docker.NodeInspectWithRaw(t.Context(), o.NodeID)
		if err != nil {
			return err
		}
		node.Spec.Labels = nil
		return docker.NodeUpdate(t.Context(), node.ID, node.Version, node.Spec)
	})
}

// look returns what the proxy wants and what there is.
func (h *testHost) look(t *testing.T) (Desired, Observed) {
	t.Helper()
	d, err := Proxy(h.options()).Desired(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewDaemon(h.Docker).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d, o
}
