package swarm

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// When dockerd makes a container it copies what the image has at a volume's place into the volume, if that
// is empty: as root of the host, by paths of the host, and it follows links. An app that has the volume
// already could make such links while dockerd copies, and the image's files would be written to where they
// lead. So no task copies (converter.volume). New volumes are filled beforehand, while no app is on them:
// each by containers that are never started, one after the other. dockerd fills an empty volume only,
// so that what it copies meets no link of another image either.

// filling is a volume that Docker would fill from a service's image.
type filling struct {
	service string // key
	image   string // by ID
	mount   mount.Mount
}

// fillingsOf lists what tasks of the stack's services would fill, in the order of the services.
func fillingsOf(stack *recipe.Stack, services []service) []filling {
	var out []filling
	for _, svc := range services {
		i := slices.IndexFunc(stack.Config.Services, func(s types.ServiceConfig) bool { return s.Name == svc.key })
		if i < 0 || recipe.Replicas(stack.Config.Services[i]) == 0 {
			continue
		}
		c := svc.spec.TaskTemplate.ContainerSpec
		for _, m := range c.Mounts {
			// A source with a template names a volume for each task, which only swarm can tell.
			if m.Type != mount.TypeVolume || m.Source == "" || strings.Contains(m.Source, "{{") || statesNoCopy(stack.Config.Services[i], m.Target) {
				continue
			}
			options := *m.VolumeOptions
			options.NoCopy = false
			m.VolumeOptions = &options
			out = append(out, filling{service: svc.key, image: c.Image, mount: m})
		}
	}
	return out
}

// statesNoCopy reports whether the recipe wants nothing copied to a place.
func statesNoCopy(s types.ServiceConfig, target string) bool {
	return slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == target && v.Volume != nil && (v.Volume.NoCopy || v.Volume.Subpath != "")
	})
}

// fill makes the volumes that do not exist yet, with what the images have at their places. It returns which
// volumes exist then.
func (d *Deployer) fill(ctx context.Context, stack *recipe.Stack, services []service) (volumes []string, err error) {
	missing := map[string]bool{}
	for _, f := range fillingsOf(stack, services) {
		name := f.mount.Source
		if _, seen := missing[name]; !seen {
			_, err := d.docker.VolumeInspect(ctx, name)
			if err != nil && !cerrdefs.IsNotFound(err) {
				return nil, d.fault("looking at volume "+name, err)
			}
			missing[name] = err != nil
			volumes = append(volumes, name)
		}
		if !missing[name] {
			continue
		}
		if err := d.fillOne(ctx, stack, f); err != nil {
			return nil, err
		}
	}
	return volumes, nil
}

func (d *Deployer) fillOne(ctx context.Context, stack *recipe.Stack, f filling) error {
	activity := fmt.Sprintf("deploying %s: making volume %s with what the image of service %s has at %s", stack.Name, f.mount.Source, f.service, f.mount.Target)
	img, err := d.docker.ImageInspect(ctx, f.image)
	if err != nil {
		return d.fault(activity, err)
	}
	host := &container.HostConfig{NetworkMode: "none", Mounts: append([]mount.Mount{f.mount}, covering(img, path.Clean("/"+f.mount.Target))...)}
	id, err := d.createContainer(ctx, "for filling "+f.mount.Source, stack.Name, neverStarted(img, d.o.RunID), host)
	if cerrdefs.IsInvalidArgument(err) {
		return ccci.Errorf(ccci.CodeRecipe, "%s: %s", activity, clip(words(err), 300))
	}
	if err != nil {
		return d.fault(activity, err)
	}
	d.removeHelper(ctx, id)
	return nil
}

// neverStarted is a container that shows an image's files to dockerd and runs nothing. Docker gives a container the
// labels of its image where it is told none of that name, so that an image could say of which stack or
// service the container is, or that it is another program's. So each of them is set to nothing.
func neverStarted(img image.InspectResponse, run ccci.RunID) *container.Config {
	labels := owned(nil, run, "")
	if img.Config != nil {
		for name := range img.Config.Labels {
			if _, own := labels[name]; !own {
				labels[name] = ""
			}
		}
	}
	return &container.Config{Image: img.ID, User: "0", WorkingDir: "/", Entrypoint: []string{"/never-started"}, Labels: labels}
}

// covering are mounts at the volumes that an image asks for, but for one place: else Docker would make them
// and copy the image's files there.
func covering(img image.InspectResponse, but string) []mount.Mount {
	var out []mount.Mount
	if img.Config == nil {
		return nil
	}
	covered := []string{"/", but}
	for volume := range img.Config.Volumes {
		if target := path.Clean("/" + volume); !slices.Contains(covered, target) {
			covered = append(covered, target)
			out = append(out, mount.Mount{Type: mount.TypeTmpfs, Target: target})
		}
	}
	return out
}

// removeHelper removes a container that was never started. One that stays is removed with the run.
func (d *Deployer) removeHelper(ctx context.Context, id string) {
	after, cancel := cleanupContext(ctx, explainLimit)
	defer cancel()
	if _, err := d.removeObject(after, object(kindContainer, id, id, nil)); err != nil {
		d.log.Warn("removing a container that was never started", "container", id, "error", err)
	}
}
