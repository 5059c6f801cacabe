package swarm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

// emptyLimit bounds the emptying of what Docker could not remove. 30,000 folders in each other take seconds.
const emptyLimit = 2 * time.Minute

// emptied knows by kind and name which objects a Remove has emptied: once is enough, or it is of no use.
type emptied map[string]bool

// emptyFirst tries again to remove those of the objects that Docker could not remove, after it has emptied them.
// Docker holds a descriptor for each level of folders in each other, and at some depth there are no more.
func (d *Deployer) emptyFirst(ctx context.Context, objects harness.Snapshot, gone []bool, failed []error, once emptied) {
	for i, o := range objects {
		key := o.Kind + " " + o.ID
		if o.Kind != kindContainer && o.Kind != kindVolume || failed[i] == nil || once[key] || ctx.Err() != nil {
			continue
		}
		if cerrdefs.IsConflict(failed[i]) { // it is in use, or its removal goes on
			continue
		}
		once[key] = true
		if err := d.empty(ctx, o); err != nil {
			failed[i] = errors.Join(failed[i], fmt.Errorf("emptying it: %w", err))
			continue
		}
		gone[i], failed[i] = d.removeObject(ctx, o)
	}
}

// empty removes what is in a volume or in the writable layer of a container, in a helper container
// that sees nothing else.
func (d *Deployer) empty(ctx context.Context, o harness.Object) error {
	m, err := d.contentOf(ctx, o)
	if err != nil || m.Source == "" {
		return err
	}
	d.log.Warn("Docker cannot remove it: emptying it first", "kind", o.Kind, "name", o.Name)
	return d.emptyMount(ctx, m, ccci.RunID(cmp.Or(o.Run, string(d.o.RunID))))
}

// contentOf is how a helper container mounts what is in an object, without a source for one that is
// not to be emptied: a volume that is a place of its owner's, a container that runs, a layer that is no folder.
func (d *Deployer) contentOf(ctx context.Context, o harness.Object) (mount.Mount, error) {
	ctx, cancel := context.WithTimeout(ctx, explainLimit)
	defer cancel()
	if o.Kind == kindVolume {
		v, err := d.docker.VolumeInspect(ctx, o.ID)
		if err != nil || v.Driver != "local" || len(v.Options) > 0 { // options may mount a folder of the host
			return mount.Mount{}, err
		}
		return mount.Mount{Type: mount.TypeVolume, Source: v.Name, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}, nil
	}
	c, err := d.docker.ContainerInspect(ctx, o.ID)
	if err != nil || c.ContainerJSONBase == nil || c.State == nil || c.State.Running || c.GraphDriver.Name != "overlay2" {
		return mount.Mount{}, err
	}
	upper := c.GraphDriver.Data["UpperDir"]
	if !isUpperDir(d.dockerRoot, upper) {
		return mount.Mount{}, nil
	}
	return mount.Mount{Type: mount.TypeBind, Source: upper, BindOptions: &mount.BindOptions{NonRecursive: true}}, nil
}

// isUpperDir reports whether a path is the writable layer of a container, below Docker's own directory:
// <root>/overlay2/<layer>/diff.
func isUpperDir(root, dir string) bool {
	rest, below := strings.CutPrefix(dir, path.Join(root, "overlay2")+"/")
	layer, name := path.Split(rest)
	layer = strings.TrimSuffix(layer, "/")
	return root != "" && below && path.Clean(dir) == dir && name == "diff" && layer != "" && !strings.Contains(layer, "/")
}

func (d *Deployer) emptyMount(ctx context.Context, m mount.Mount, run ccci.RunID) error {
	ctx, cancel := context.WithTimeoutCause(ctx, emptyLimit, fmt.Errorf("it takes longer than %s", emptyLimit))
	defer cancel()
	m.Target = folder(0)
	host := confined(4*boxMemory, "DAC_OVERRIDE", "FOWNER")
	host.Mounts = []mount.Mount{m}
	box, err := d.createContainer(ctx, "for emptying", "", d.ofBox(d.o.Box.Empty([]string{m.Target}), run), host)
	if err != nil {
		return err
	}
	defer func() { // it would hold the volume
		after, cancel := cleanupContext(ctx, removeLimit)
		defer cancel()
		if _, err := d.removeObject(after, object(kindContainer, box, box[:12], nil)); err != nil {
			d.log.Warn("removing the box that emptied", "error", err)
		}
	}()
	ended, failed := d.docker.ContainerWait(ctx, box, container.WaitConditionNextExit)
	if err := d.docker.ContainerStart(ctx, box, container.StartOptions{}); err != nil {
		return err
	}
	select {
	case end := <-ended:
		if end.StatusCode != 0 {
			return fmt.Errorf("the helper container ends with %d: %s", end.StatusCode, d.lastWords(ctx, box))
		}
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
}

// lastWords is the beginning of what a helper container wrote to standard error.
func (d *Deployer) lastWords(ctx context.Context, box string) string {
	logs, err := d.docker.ContainerLogs(ctx, box, container.LogsOptions{ShowStderr: true})
	if err != nil {
		return err.Error()
	}
	defer logs.Close()
	stderr := &headBuffer{limit: 1000}
	_, _ = stdcopy.StdCopy(&headBuffer{}, stderr, logs) // what was read is said
	return clip(string(bytes.TrimSpace(stderr.data)), 300)
}
