package swarm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Files are never copied through the app's container. dockerd itself, as root of the host, would look for
// them in there, while the app exchanges what it finds: a folder with a link, so that dockerd mounts the volume
// over a folder of the host (CVE-2026-41568, CVE-2026-42306), or the file with a pipe, so that dockerd waits
// for ever with the container's lock. A helper container mounts the volume, in a root that the app cannot
// change, and a program in there opens the file.

// CopyIn writes files into volumes of a service. A file that exists keeps its owner and mode; a new
// one gets its folder's owner and mode 0644. Missing folders are made.
func (d *Deployer) CopyIn(ctx context.Context, stack *recipe.Stack, service string, files map[string][]byte) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		activity := fmt.Sprintf("copying %s into service %s", name, service)
		place, err := d.placeOf(ctx, stack, service, name)
		if err != nil {
			return named(activity, err)
		}
		if !place.writable {
			return ccci.Errorf(ccci.CodeRecipe, "%s: volume %s is mounted read-only there", activity, place.volume)
		}
		_, err = d.copier.run(ctx, stack, place, files[name], 0, func(dir string) []string { return d.o.Box.Put(dir, place.file) })
		if err != nil {
			return d.fault(activity, named(activity, err))
		}
	}
	return nil
}

// CopyOut reads a file of at most limit bytes out of a volume of a service.
func (d *Deployer) CopyOut(ctx context.Context, stack *recipe.Stack, service, name string, limit int64) ([]byte, error) {
	activity := fmt.Sprintf("copying %s out of service %s", name, service)
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	place, err := d.placeOf(ctx, stack, service, name)
	if err != nil {
		return nil, named(activity, err)
	}
	data, err := d.copier.run(ctx, stack, place, nil, limit, func(dir string) []string { return d.o.Box.Get(dir, place.file, limit) })
	if err != nil {
		return nil, d.fault(activity, named(activity, err))
	}
	return data, nil
}

// named puts the activity before what an Error says.
func named(activity string, err error) error {
	var e *ccci.Error
	if errors.As(err, &e) {
		return &ccci.Error{Code: e.Code, Message: activity + ": " + clip(e.Message, 300), Hint: e.Hint, Err: err}
	}
	return err
}

// place is where a file of a service is.
type place struct {
	volume   string // on the daemon
	file     string // relative to the volume's root
	writable bool   // by the service
}

// placeOf finds the named volume that the newest running container of a service has at a path.
func (d *Deployer) placeOf(ctx context.Context, stack *recipe.Stack, service, name string) (place, error) {
	if !path.IsAbs(name) || path.Clean(name) != name || name == "/" {
		return place{}, ccci.Errorf(ccci.CodeInvalid, "it is not an absolute, clean path")
	}
	running, err := d.runningContainer(ctx, stack, service)
	if err != nil {
		return place{}, err
	}
	var at container.MountPoint
	for _, m := range running.Mounts {
		if within(m.Destination, name) && len(m.Destination) > len(at.Destination) {
			at = m
		}
	}
	if at.Type != mount.TypeVolume || at.Name == "" || nameless(at.Name) {
		return place{}, ccci.Errorf(ccci.CodeInvalid, "it is in no named volume")
	}
	file := strings.TrimPrefix(strings.TrimPrefix(name, path.Clean(at.Destination)), "/")
	return place{at.Name, path.Join(".", subpath(stack, service, at.Destination), file), at.RW}, nil
}

// within reports whether a path is a folder, or in it.
func within(folder, name string) bool {
	folder = strings.TrimSuffix(path.Clean(folder), "/")
	return name == folder || strings.HasPrefix(name, folder+"/")
}

// subpath is the folder of the volume that a service has at a path, "" for its root.
func subpath(stack *recipe.Stack, service, target string) string {
	for _, s := range stack.Config.Services {
		for _, v := range s.Volumes {
			if s.Name == service && v.Volume != nil && path.Clean(v.Target) == path.Clean(target) {
				return strings.TrimPrefix(path.Clean("/"+v.Volume.Subpath), "/")
			}
		}
	}
	return ""
}
