package swarm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

// Kinds of objects, in the order in which they are removed.
const (
	kindService   = "service"
	kindContainer = "container"
	kindNetwork   = "network"
	kindConfig    = "config"
	kindSecret    = "secret"
	kindVolume    = "volume"
)

// Snapshot lists the daemon's objects of all six kinds, without those that
// Docker and swarm make for themselves. It is sorted by kind and name.
func (d *Deployer) Snapshot(ctx context.Context) (harness.Snapshot, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	return d.inventory(ctx)
}

func (d *Deployer) inventory(ctx context.Context) (harness.Snapshot, error) {
	lists := []func(context.Context) (harness.Snapshot, error){
		d.services, d.networks, d.configs, d.secrets,
		func(ctx context.Context) (harness.Snapshot, error) { // the containers tell whose anonymous volumes are
			containers, err := d.containers(ctx)
			if err != nil {
				return nil, err
			}
			volumes, err := d.volumes(ctx)
			return append(containers, volumes...), err
		},
	}
	found := make([]harness.Snapshot, len(lists))
	group, ctx := errgroup.WithContext(ctx)
	for i, list := range lists {
		group.Go(func() error {
			var err error
			found[i], err = list(ctx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(found...)
	slices.SortFunc(all, func(a, b harness.Object) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.Name+a.ID, b.Name+b.ID)
	})
	return all, nil
}

func object(kind, id, name string, labels map[string]string) harness.Object {
	return harness.Object{Kind: kind, ID: id, Name: name, Stack: labels[LabelStack], Run: labels[LabelRun]}
}

func (d *Deployer) services(ctx context.Context) (harness.Snapshot, error) {
	list, err := d.docker.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return nil, d.fault("listing services", err)
	}
	var out harness.Snapshot
	for _, s := range list {
		out = append(out, object(kindService, s.ID, s.Spec.Name, s.Spec.Labels))
	}
	return out, nil
}

// labelIngress marks the proxy's container (package ingress). It serves many
// runs, belongs to none, and may come and go with another cc-ci. On a container of a
// run the label comes from its image and means nothing.
const labelIngress = "cc-ci.ingress"

func isIngress(labels map[string]string) bool {
	_, marked := labels[labelIngress]
	return marked && labels[LabelRun] == ""
}

func (d *Deployer) containers(ctx context.Context) (harness.Snapshot, error) {
	list, err := d.docker.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, d.fault("listing containers", err)
	}
	d.noteVolumes(list)
	var out harness.Snapshot
	for _, c := range list {
		if isIngress(c.Labels) {
			continue
		}
		out = append(out, object(kindContainer, c.ID, containerName(c), c.Labels))
	}
	return out, nil
}

// containerName is a container's name, or the beginning of its id while it has none.
func containerName(c container.Summary) string {
	if len(c.Names) == 0 {
		return c.ID[:12]
	}
	return strings.TrimPrefix(c.Names[0], "/")
}

// builtinNetworks exist on every daemon, or are made by swarm itself.
var builtinNetworks = []string{"bridge", "host", "none", "docker_gwbridge", "ingress"}

func (d *Deployer) networks(ctx context.Context) (harness.Snapshot, error) {
	list, err := d.docker.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return nil, d.fault("listing networks", err)
	}
	var out harness.Snapshot
	for _, n := range list {
		if n.Ingress || slices.Contains(builtinNetworks, n.Name) {
			continue
		}
		out = append(out, object(kindNetwork, n.ID, n.Name, n.Labels))
	}
	return out, nil
}

func (d *Deployer) volumes(ctx context.Context) (harness.Snapshot, error) {
	list, err := d.docker.VolumeList(ctx, volume.ListOptions{})
	if err != nil {
		return nil, d.fault("listing volumes", err)
	}
	var out harness.Snapshot
	for _, v := range list.Volumes {
		o := object(kindVolume, v.Name, v.Name, v.Labels)
		if d.anonymous.has(v) {
			o.Run = string(d.o.RunID)
		}
		out = append(out, o)
	}
	return out, nil
}

func (d *Deployer) secrets(ctx context.Context) (harness.Snapshot, error) {
	list, err := d.docker.SecretList(ctx, swarm.SecretListOptions{})
	if err != nil {
		return nil, d.fault("listing secrets", err)
	}
	var out harness.Snapshot
	for _, s := range list {
		out = append(out, object(kindSecret, s.ID, s.Spec.Name, s.Spec.Labels))
	}
	return out, nil
}

func (d *Deployer) configs(ctx context.Context) (harness.Snapshot, error) {
	list, err := d.docker.ConfigList(ctx, swarm.ConfigListOptions{})
	if err != nil {
		return nil, d.fault("listing configs", err)
	}
	var out harness.Snapshot
	for _, c := range list {
		out = append(out, object(kindConfig, c.ID, c.Spec.Name, c.Spec.Labels))
	}
	return out, nil
}

// belongs decides whether an object is part of an app. Labels decide first: an
// object that says it belongs to another run or another stack is never touched,
// whatever its name. Names count for objects that carry no label, such as a
// secret that abra made or a volume of an old daemon. A service or a container has
// no name that a recipe chooses freely: one that has such a name is somebody else's.
func belongs(o harness.Object, app harness.App) bool {
	switch {
	case o.Run != "" && app.RunID != "" && o.Run == string(app.RunID):
		return true
	case o.Run != "" && app.RunID != "":
		return false
	case o.Stack != "":
		return o.Stack == app.StackName
	}
	if slices.Contains(app.Names, o.Name) && o.Kind != kindService && o.Kind != kindContainer {
		return true
	}
	return app.StackName != "" && strings.HasPrefix(o.Name, app.StackName+"_")
}

// belonging lists what the daemon has of an app.
func (d *Deployer) belonging(ctx context.Context, app harness.App) (harness.Snapshot, error) {
	all, err := d.inventory(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(o harness.Object) bool { return !belongs(o, app) }), nil
}

// describe names objects for a person, at most a handful.
func describe(objects harness.Snapshot) string {
	const most = 6
	var names []string
	for i, o := range objects {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(objects)-most))
			break
		}
		names = append(names, o.Kind+" "+o.Name)
	}
	return strings.Join(names, ", ")
}

// Apps lists every app on the daemon that a run of cc-ci made, for the janitor. An
// app is a pair of run and stack; objects of a run without a stack make an app
// with an empty StackName. Names is empty: everything listed bears the label of its run and is
// found by it, and an object of the same name without that label may be the operator's.
// A container names no stack: what an image says of itself must not decide what the janitor
// removes. It is found by its run.
func (d *Deployer) Apps(ctx context.Context) ([]harness.App, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	all, err := d.inventory(ctx)
	if err != nil {
		return nil, err
	}
	return apps(all), nil
}

func apps(all harness.Snapshot) []harness.App {
	var out []harness.App
	for _, o := range all {
		if o.Run == "" {
			continue
		}
		if o.Kind == kindContainer {
			o.Stack = ""
		}
		i := slices.IndexFunc(out, func(a harness.App) bool { return string(a.RunID) == o.Run && a.StackName == o.Stack })
		if i < 0 {
			out = append(out, harness.App{})
			i = len(out) - 1
			out[i].RunID, out[i].StackName = ccci.RunID(o.Run), o.Stack
		}
	}
	slices.SortFunc(out, func(a, b harness.App) int {
		return strings.Compare(string(a.RunID)+" "+a.StackName, string(b.RunID)+" "+b.StackName)
	})
	return out
}
