package swarm

import (
	"context"
	"fmt"
	"io/fs"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

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
func (l *looker) checkUserFiles(ctx context.Context) error {
	d := l.d
	d.mu.Lock()
	done := d.looked[l.img.ID]
	d.mu.Unlock()
	if done {
		return nil
	}
	if err := l.open(ctx); err != nil {
		return err
	}
	for _, name := range userFiles {
		if err := l.judgeUserFile(ctx, name); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looked[l.img.ID] = true
	return nil
}

// open makes the container, unless there is one.
func (l *looker) open(ctx context.Context) error {
	if l.made != "" {
		return nil
	}
	activity := fmt.Sprintf("looking into image %s of service %s", l.ref, l.services)
	host := &container.HostConfig{NetworkMode: "none", Mounts: covering(l.img, "/")}
	made, err := l.d.createContainer(ctx, "for looking into "+l.ref, "", neverStarted(l.img, l.d.o.RunID), host)
	if cerrdefs.IsInvalidArgument(err) {
		return ccci.Errorf(ccci.CodeRecipe, "%s: Docker makes no container of it: %s", activity, clip(words(err), 300))
	}
	if err != nil {
		return l.d.fault(activity, err)
	}
	l.made = made
	return nil
}

// close removes the container.
func (l *looker) close(ctx context.Context) {
	if l.made != "" {
		l.d.removeHelper(ctx, l.made)
		l.made = ""
	}
}

// judgeUserFile looks at one of the user files.
func (l *looker) judgeUserFile(ctx context.Context, name string) error {
	stat, err := l.d.docker.ContainerStatPath(ctx, l.made, name)
	if err == nil && stat.Mode&fs.ModeSymlink != 0 {
		stat, err = l.d.docker.ContainerStatPath(ctx, l.made, stat.LinkTarget) // Docker has followed every link
	}
	switch {
	case cerrdefs.IsNotFound(err):
	case err != nil:
		return l.fault(ctx, name, err) // of the image's files: a circle of links
	case !stat.Mode.IsRegular() && !stat.Mode.IsDir():
		return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its %s is no regular file", l.ref, l.services, name).
			WithHint("Docker reads this file whenever a container starts; build the image with a regular one, or without it")
	case stat.Mode.IsRegular() && stat.Size > mostUserFile:
		return ccci.Errorf(ccci.CodeRecipe, "image %s of service %s: its %s has %s, at most %s are allowed", l.ref, l.services, name, bytesText(stat.Size), bytesText(mostUserFile)).
			WithHint("Docker reads this file whenever a container starts")
	}
	return nil
}
