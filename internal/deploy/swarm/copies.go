package swarm

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/image"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// copied is a folder of an image that dockerd copies into a new volume as it makes a container.
type copied struct {
	target string
	times  int64 // a volume without a name is new in each container
}

// copiesOf lists what is copied for a service.
func copiesOf(s types.ServiceConfig, img image.InspectResponse) []copied {
	var out []copied
	var taken []string // targets that something of the recipe is mounted at
	n := int64(containersOf(s))
	for _, v := range s.Volumes {
		target := path.Clean("/" + v.Target)
		taken = append(taken, target)
		if v.Type != "volume" && v.Type != "" || v.Volume != nil && v.Volume.NoCopy {
			continue
		}
		times := int64(1)
		if v.Source == "" {
			times = n
		}
		out = append(out, copied{target, times})
	}
	if img.Config != nil {
		for volume := range img.Config.Volumes {
			if target := path.Clean("/" + volume); !slices.Contains(taken, target) {
				taken = append(taken, target)
				out = append(out, copied{target, n})
			}
		}
	}
	slices.SortFunc(out, func(a, b copied) int { return strings.Compare(a.target, b.target) })
	return out
}

// checkCopies bounds what dockerd copies from the images of a stack into new volumes: it does not end such a copy,
// also when the request and the service are gone, so that a limit of the disk comes too late. An image of
// 1 MB can hold a file of 1 GB at 100 places, and one of nothing a folder of a million others. Folders are
// looked at only where whole images would be too much, or more than fewCopies are made.
func (d *Deployer) checkCopies(ctx context.Context, stack *recipe.Stack, of func(types.ServiceConfig) *looker) error {
	limit := d.o.DiskLimit
	if limit <= 0 {
		return nil
	}
	var most, times int64
	for _, s := range stack.Config.Services {
		img := of(s).img
		for _, c := range copiesOf(s, img) {
			most += c.times * img.Size
			times += c.times
		}
	}
	if most <= limit && times <= fewCopies {
		return nil
	}
	var sum int64
	for _, s := range stack.Config.Services {
		copies := copiesOf(s, of(s).img)
		if len(copies) == 0 {
			continue
		}
		if err := of(s).open(ctx); err != nil {
			return err
		}
		for _, c := range copies {
			size, err := d.folderSize(ctx, of(s).made, c.target, (limit-sum)/c.times)
			if err != nil {
				return d.fault(fmt.Sprintf("looking into %s of image %s of service %s", c.target, s.Image, s.Name), err)
			}
			if sum += size * c.times; sum > limit {
				return ccci.Errorf(ccci.CodeRecipe, "disk limit: what Docker copies from the images into new volumes is more than %s, with %s of service %s", bytesText(limit), c.target, s.Name).
					WithHint("set nocopy on the volume, or build an image that has nothing in the folder; the operator sets limits.disk")
			}
		}
	}
	return nil
}

// fewCopies is how many copies may be made without a look at how many files and folders each has: what an
// image itself takes of the disk was watched as it was pulled, and a few times that is measured soon after.
const fewCopies = 8

// blockSize is what a file or folder takes of the disk at least.
const blockSize = 4 << 10

// folderSize sums what a container's folder takes of the disk, and ends when that is more than limit.
func (d *Deployer) folderSize(ctx context.Context, id, folder string, limit int64) (int64, error) {
	stream, _, err := d.docker.CopyFromContainer(ctx, id, folder+"/.")
	if cerrdefs.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	var sum int64
	for files := tar.NewReader(stream); ; {
		head, err := files.Next()
		switch {
		case errors.Is(err, io.EOF):
			return sum, nil
		case err != nil:
			return 0, err
		}
		if sum += max(head.Size, blockSize); sum > limit {
			return sum, nil
		}
	}
}
