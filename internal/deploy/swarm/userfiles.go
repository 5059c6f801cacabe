package swarm

import (
	"context"
	"fmt"
	"io/fs"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// userFiles are files of an image that dockerd itself opens, as root of the host, whenever a container
// starts: it looks up the user there. A named pipe makes it wait for ever while it holds the
// container's lock, so that no request removes the container; a device is opened as one of the host; and a
// long file is read again at each start.
var userFiles = []string{"/etc/passwd", "/etc/group"}

// mostUserFile is the size that one of them may have, in bytes.
const mostUserFile = 1 << 20

// checkUserFiles looks at the user files of an image, once.
func (d *Deployer) checkUserFiles(ctx context.Context, services, ref string, img image.InspectResponse) error {
	d.mu.Lock()
	done := d.looked[img.ID]
	d.mu.Unlock()
	if done {
		return nil
	}
	err := d.lookInto(ctx, services, ref, img, func(made string) error { return d.judgeUserFiles(ctx, services, ref, made) })
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looked[img.ID] = true
	return nil
}

// lookInto has look see the files of an image in a container that is never started.
func (d *Deployer) lookInto(ctx context.Context, services, ref string, img image.InspectResponse, look func(container string) error) error {
	activity := fmt.Sprintf("looking into image %s of service %s", ref, services)
	host := &container.HostConfig{NetworkMode: "none", Mounts: covering(img, "/")}
	made, err := d.createContainer(ctx, "for looking into "+ref, "", neverStarted(img.ID, d.o.RunID), host)
	if cerrdefs.IsInvalidArgument(err) {
		return ccci.Errorf(ccci.CodeRecipe, "%s: Docker makes no container of it: %s", activity, clip(words(err), 300))
	}
	if err != nil {
		return d.fault(activity, err)
	}
	defer d.removeHelper(ctx, made)
	return look(made)
}

// judgeUserFiles looks at the user files of a container's image.
func (d *Deployer) judgeUserFiles(ctx context.Context, services, ref, made string) error {
	for _, name := range userFiles {
		stat, err := d.docker.ContainerStatPath(ctx, made, name)
		if err == nil && stat.Mode&fs.ModeSymlink != 0 {
			stat, err = d.docker.ContainerStatPath(ctx, made, stat.LinkTarget) // Docker has followed every link
		}
		switch {
		case cerrdefs.IsNotFound(err):
		case err != nil:
			// The answer has no words. Where the root can be looked at, it is a circle of links.
			if _, rootErr := d.docker.ContainerStatPath(ctx, made, "/"); rootErr != nil {
				return d.fault(fmt.Sprintf("looking into image %s of service %s", ref, services), rootErr)
			}
			return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its %s cannot be looked at: %s", ref, services, name, clip(words(err), 300))
		case !stat.Mode.IsRegular() && !stat.Mode.IsDir():
			return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its %s is no regular file", ref, services, name).
				WithHint("Docker reads this file whenever a container starts; build the image with a regular one, or without it")
		case stat.Mode.IsRegular() && stat.Size > mostUserFile:
			return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its %s has %s, at most %s are allowed", ref, services, name, bytesText(stat.Size), bytesText(mostUserFile)).
				WithHint("Docker reads this file whenever a container starts")
		}
	}
	return nil
}
