package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/host"
)

// Apply makes one change. What somebody else has done meanwhile is no error: the
// next plan knows.
func (d *daemon) Apply(ctx context.Context, want Desired, o Observed, a Action) error {
	if err := d.fetch(ctx, want, a); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	switch a.Kind {
	case KindSwarm:
		if a.Verb == Update {
			err = host.BoundSwarmLog(ctx, d.docker)
		} else {
			_, err = host.EnsureSwarm(ctx, d.docker)
		}
	case KindNode:
		err = d.labelNode(ctx, want, a)
	case KindNetwork:
		err = d.applyNetwork(ctx, want, a)
	case KindSecret:
		err = d.applySecret(ctx, want, o, a)
	case KindConfig:
		err = d.applyConfig(ctx, want, o, a)
	case KindService:
		err = d.applyService(ctx, want, o, a)
	default:
		err = errNotOne
	}
	switch {
	case tooEarly(err):
		return &NotYet{err}
	case cerrdefs.IsAlreadyExists(err) || passing(err):
		return nil
	}
	return err
}

// fetchLimit bounds how long an image may take to arrive.
const fetchLimit = 10 * time.Minute

// fetch makes sure that the image of a service is there before the service is touched: an old
// task may have to end before a new one starts, and is not ended for one that cannot.
func (d *daemon) fetch(ctx context.Context, want Desired, a Action) error {
	service, wanted := want.service(a.Name)
	if a.Kind != KindService || a.Verb != Create && a.Verb != Update || !wanted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	ref := service.Spec.TaskTemplate.ContainerSpec.Image
	_, err := d.docker.ImageInspect(ctx, ref)
	if !cerrdefs.IsNotFound(err) {
		return err
	}
	answer, err := d.docker.ImagePull(ctx, ref, image.PullOptions{})
	if err == nil {
		defer answer.Close()
		err = pulled(answer)
	}
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "pulling image %s for service %s: %w", ref, a.Name, err).
			WithHint("the service is as it was; mend the reference or the way to the registry, or load the image: docker load")
	}
	return nil
}

// pulled reads a pull's progress to its end and returns the error in it: the call itself succeeds
// before the pull does.
func pulled(progress io.Reader) error {
	for messages := json.NewDecoder(progress); ; {
		var m struct{ Error string }
		switch err := messages.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Error != "":
			return errors.New(m.Error)
		}
	}
}

// tooEarly recognises that a network is on its way out: while a last container is in it, the node
// lists it although the swarm knows it no longer.
func tooEarly(err error) bool {
	return err != nil && strings.Contains(err.Error(), "network") && strings.Contains(err.Error(), "not found")
}

func (d *daemon) labelNode(ctx context.Context, want Desired, a Action) error {
	node, _, err := d.docker.NodeInspectWithRaw(ctx, a.ID)
	if err != nil {
		return err
	}
	spec := node.Spec
	spec.Labels = maps.Clone(spec.Labels)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	maps.Copy(spec.Labels, want.NodeLabels)
	return d.docker.NodeUpdate(ctx, a.ID, node.Version, spec)
}

// releaseLimit bounds how long Docker may take to free a network of the tasks that
// have just ended.
const releaseLimit = 30 * time.Second

func (d *daemon) applyNetwork(ctx context.Context, want Desired, a Action) error {
	if a.Verb == Remove {
		ctx, cancel := context.WithTimeout(ctx, releaseLimit)
		defer cancel()
		for {
			err := d.docker.NetworkRemove(ctx, a.ID)
			if err == nil || !strings.Contains(err.Error(), "in use") && !strings.Contains(err.Error(), "active endpoints") {
				return err
			}
			if pause(ctx, 200*time.Millisecond) != nil {
				return err
			}
		}
	}
	i := slices.IndexFunc(want.Networks, func(n Network) bool { return n.Name == a.Name })
	n := want.Networks[i]
	options := network.CreateOptions{
		Driver: "overlay", Scope: "swarm", Attachable: n.Attachable, Internal: n.Internal,
		Labels: map[string]string{LabelUnit: want.Unit, LabelStack: Stack},
	}
	if n.Subnet != "" {
		options.IPAM = &network.IPAM{Config: []network.IPAMConfig{{Subnet: n.Subnet}}}
	}
	_, err := d.docker.NetworkCreate(ctx, n.Name, options)
	return err
}

func (d *daemon) applySecret(ctx context.Context, want Desired, o Observed, a Action) error {
	spec := swarm.SecretSpec{Annotations: swarm.Annotations{Name: a.Name, Labels: a.File.labels(want.Unit)}}
	switch a.Verb {
	case Remove:
		return d.docker.SecretRemove(ctx, a.ID)
	case Label: // its content cannot be given: it cannot be changed
		return d.docker.SecretUpdate(ctx, a.ID, o.version(a.ID), spec)
	}
	spec.Data = []byte(a.File.Content.Reveal())
	_, err := d.docker.SecretCreate(ctx, spec)
	return err
}

func (d *daemon) applyConfig(ctx context.Context, want Desired, o Observed, a Action) error {
	spec := swarm.ConfigSpec{Annotations: swarm.Annotations{Name: a.Name, Labels: a.File.labels(want.Unit)}}
	switch a.Verb {
	case Remove:
		return d.docker.ConfigRemove(ctx, a.ID)
	case Label:
		return d.docker.ConfigUpdate(ctx, a.ID, o.version(a.ID), spec)
	}
	spec.Data = []byte(a.File.Content.Reveal())
	_, err := d.docker.ConfigCreate(ctx, spec)
	return err
}

// version is a secret's or config's, as it was seen.
func (o Observed) version(id string) swarm.Version {
	i := slices.IndexFunc(o.Files, func(f FileSeen) bool { return f.ID == id })
	return o.Files[i].Version
}

func (d *daemon) applyService(ctx context.Context, want Desired, o Observed, a Action) error {
	i := slices.IndexFunc(o.Services, func(s ServiceSeen) bool { return s.ID == a.ID })
	switch a.Verb {
	case Remove:
		return d.docker.ServiceRemove(ctx, a.ID)
	case Rollback:
		have, _, err := d.docker.ServiceInspectWithRaw(ctx, a.ID, swarm.ServiceInspectOptions{})
		if err != nil {
			return err
		}
		_, err = d.docker.ServiceUpdate(ctx, a.ID, have.Version, have.Spec, swarm.ServiceUpdateOptions{Rollback: "previous"})
		return err
	}
	spec, err := specFor(want, o, a.Name)
	if err != nil {
		return err
	}
	if a.Verb == Create {
		_, err = d.docker.ServiceCreate(ctx, spec, swarm.ServiceCreateOptions{})
		return err
	}
	spec.TaskTemplate.ForceUpdate = o.Services[i].Spec.TaskTemplate.ForceUpdate // another one would start every task anew
	_, err = d.docker.ServiceUpdate(ctx, a.ID, o.Services[i].Version, spec, swarm.ServiceUpdateOptions{})
	return err
}

// specFor returns a service's specification with Docker's identifiers.
func specFor(want Desired, o Observed, name string) (swarm.ServiceSpec, error) {
	p := &planner{desired: want, seen: o}
	p.files()
	service, _ := want.service(name)
	spec, _ := want.finished(service, p.names)
	spec.TaskTemplate.Networks = slices.Clone(spec.TaskTemplate.Networks)
	for i, n := range spec.TaskTemplate.Networks {
		if n.Target == EgressNetwork {
			continue // Docker knows it by name
		}
		j := slices.IndexFunc(o.Networks, func(have NetworkSeen) bool { return have.Name == n.Target })
		if j < 0 {
			return spec, &Gone{fmt.Errorf("there is no network %s", n.Target)}
		}
		spec.TaskTemplate.Networks[i].Target = o.Networks[j].ID
	}
	id := func(kind Kind, name string) (string, error) {
		j := slices.IndexFunc(o.Files, func(f FileSeen) bool { return f.Kind == kind && f.Name == name })
		if j < 0 {
			return "", fmt.Errorf("there is no %s %s", kind, name)
		}
		return o.Files[j].ID, nil
	}
	var err error
	for _, ref := range spec.TaskTemplate.ContainerSpec.Secrets { // finished has made them anew
		if ref.SecretID, err = id(KindSecret, ref.SecretName); err != nil {
			return spec, err
		}
	}
	for _, ref := range spec.TaskTemplate.ContainerSpec.Configs {
		if ref.ConfigID, err = id(KindConfig, ref.ConfigName); err != nil {
			return spec, err
		}
	}
	return spec, nil
}
