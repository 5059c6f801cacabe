package swarm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/beneath"
)

// copier keeps one helper container that mounts the volumes of a stack, from the first file that is
// copied to Remove. For a volume that it has not, as after an upgrade or in another stack of the run, it is made anew.
type copier struct {
	d *Deployer

	early sync.WaitGroup // of begin

	mu      sync.Mutex // held while the container is made or dropped
	box     string     // "" while there is none
	mounted []string   // in the order of their folders
}

// errBoxGone says that the helper container has ended before the command started.
var errBoxGone = errors.New("the helper container is not running")

// run runs a command on a volume, with input as its standard input, and returns what it read: at
// most limit bytes.
func (c *copier) run(ctx context.Context, stack *recipe.Stack, at place, input []byte, limit int64, command func(dir string) []string) ([]byte, error) {
	if c.d.o.Box.Image == "" || c.d.o.Box.Get == nil || c.d.o.Box.Put == nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "there is no helper image for it")
	}
	for again := false; ; again = true {
		id, dir, err := c.reach(ctx, stack, at.volume)
		if err != nil {
			return nil, err
		}
		printed, err := c.exec(ctx, id, command(dir), input, limit)
		if errors.Is(err, errBoxGone) && !again {
			c.forget(id)
			continue
		}
		if err != nil {
			return nil, err
		}
		return beneath.Read(printed)
	}
}

// reach returns the helper container, which it makes when it must, and the volume's folder in it.
func (c *copier) reach(ctx context.Context, stack *recipe.Stack, volume string) (id, dir string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.mounted, volume)
	if c.box == "" || i < 0 {
		c.remove()
		if err := c.make(ctx, stack, volume); err != nil {
			c.remove()
			return "", "", fmt.Errorf("making a helper container for the volumes: %w", err)
		}
		i = slices.Index(c.mounted, volume)
	}
	return c.box, folder(i), nil
}

// make starts a helper container with the named volumes that the stack's running containers have, so
// that it rarely is made again.
func (c *copier) make(ctx context.Context, stack *recipe.Stack, volume string) error {
	list, err := c.d.docker.ContainerList(ctx, container.ListOptions{
		Filters: filters.NewArgs(filters.Arg("label", LabelRun+"="+string(c.d.o.RunID)), filters.Arg("label", LabelStack+"="+stack.Name), filters.Arg("label", labelServiceName)),
	})
	if err != nil {
		return err
	}
	names := []string{volume}
	for _, summary := range list {
		for _, m := range summary.Mounts {
			if m.Type == mount.TypeVolume && m.Name != "" && !nameless(m.Name) { // another one goes with its container
				names = append(names, m.Name)
			}
		}
	}
	return c.start(ctx, stack.Name, unique(names))
}

// begin makes the container beside other work, with volumes that exist. Errors are those of the first copy,
// which makes it again.
func (c *copier) begin(ctx context.Context, stack string, volumes []string) {
	if c.d.o.Box.Image == "" || c.d.o.Box.Get == nil || len(volumes) == 0 {
		return
	}
	c.early.Go(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.ContainsFunc(volumes, func(v string) bool { return !slices.Contains(c.mounted, v) }) {
			return
		}
		ctx, cancel := cleanupContext(ctx, explainLimit)
		defer cancel()
		c.remove()
		if err := c.start(ctx, stack, volumes); err != nil {
			c.d.log.Debug("making a helper container for the volumes", "error", err)
			c.remove()
		}
	})
}

// start makes and starts the container.
func (c *copier) start(ctx context.Context, stack string, names []string) error {
	host := confined(boxMemory, "DAC_OVERRIDE", "CHOWN", "FOWNER") // the owner of the files is any user of the app's
	host.AutoRemove = true
	for i, name := range names {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: folder(i), VolumeOptions: &mount.VolumeOptions{
			NoCopy: true, Labels: owned(nil, c.d.o.RunID, stack), // they count if the volume has gone meanwhile
		}})
	}
	id, err := c.d.createContainer(ctx, "for copying", "", c.d.ofBox(c.d.o.Box.Hold, c.d.o.RunID), host)
	if err != nil {
		return err
	}
	c.box, c.mounted = id, names
	return c.d.docker.ContainerStart(ctx, c.box, container.StartOptions{})
}

// drop removes the helper container.
func (c *copier) drop() {
	c.early.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove()
}

// forget drops a helper container, unless another one stands in its place already.
func (c *copier) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.box == id {
		c.remove()
	}
}

func (c *copier) remove() {
	if c.box == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := c.d.removeObject(ctx, object(kindContainer, c.box, c.box, nil)); err != nil && !strings.Contains(err.Error(), "already in progress") {
		c.d.log.Warn("removing the helper container for the volumes", "error", err) // teardown removes it
	}
	c.box, c.mounted = "", nil
}

// exec runs a command in the helper container and returns what it prints.
func (c *copier) exec(ctx context.Context, id string, args []string, input []byte, limit int64) ([]byte, error) {
	// The file is in base64 and JSON.
	stdout, stderr, err := c.d.execBox(ctx, id, args, input, int(2*limit)+execOutput)
	switch {
	case err != nil:
		return nil, boxGone(err)
	case len(stdout) == 0:
		return nil, fmt.Errorf("the helper container says %q", clip(string(stderr), 300))
	}
	return stdout, nil
}

func boxGone(err error) error {
	if cerrdefs.IsConflict(err) || cerrdefs.IsNotFound(err) || strings.Contains(err.Error(), "is not running") {
		return fmt.Errorf("%w: %w", errBoxGone, err)
	}
	return err
}
