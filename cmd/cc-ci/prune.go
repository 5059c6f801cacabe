package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/go-units"
	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	// fullDisk is how full Docker's disk must be, in percent, before images go: what
	// is there need not be pulled again, from a registry that counts (A37).
	fullDisk = 80
	// oldImage is for how long an image must be dangling.
	oldImage = 24 * time.Hour
)

type pruneCmd struct {
	DryRun bool `help:"Say what would be done and do nothing."`
}

func (c *pruneCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	ctx, life := a.begin()
	defer life.stop()
	docker, err := dockerClient()
	if err != nil {
		return err
	}
	defer docker.Close()
	p := &pruner{docker: docker, dry: c.DryRun, now: time.Now, used: usedPercent, log: a.logger(cfg), say: func(format string, args ...any) { fmt.Fprintf(a.stdout, format+"\n", args...) }}
	locks := &platform{cfg: cfg, docker: docker}
	if err := locks.findLocks(ctx); err != nil {
		return orInterrupted(life, err)
	}
	return orInterrupted(life, p.run(ctx, locks.lockDir))
}

// pruner removes dangling images, and nothing else: no image with a name, no volume.
type pruner struct {
	docker *client.Client
	dry    bool
	now    func() time.Time
	used   func(dir string) (percent int, err error)
	say    func(format string, args ...any)
	log    *slog.Logger
}

func (p *pruner) run(ctx context.Context, lockDir string) error {
	info, err := p.docker.Info(ctx)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "asking Docker where its disk is: %w", err).WithHint("start it, or point DOCKER_HOST to it")
	}
	used, err := p.used(info.DockerRootDir)
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "looking at Docker's disk, %s: %w", info.DockerRootDir, err).WithHint("run cc-ci prune on the machine that Docker runs on")
	}
	living, err := livingLocks(lockDir)
	if err != nil {
		return err
	}
	if why := spared(used, living); why != "" {
		p.say("nothing to do: %s", why)
		return nil
	}
	old, err := p.dangling(ctx)
	if err != nil {
		return err
	}
	if len(old) == 0 {
		p.say("Docker's disk is %d%% full, and no image is dangling and unused for longer than %s: nothing to do", used, oldImage)
		return nil
	}
	return p.remove(ctx, used, old)
}

// spared says why images stay where they are, or "".
func spared(used int, living []string) string {
	switch {
	case used < fullDisk:
		return fmt.Sprintf("Docker's disk is %d%% full, and images stay until it is %d%%", used, fullDisk)
	case len(living) == 1:
		return fmt.Sprintf("Docker's disk is %d%% full, and a run lives: %s", used, living[0])
	case len(living) > 1:
		return fmt.Sprintf("Docker's disk is %d%% full, and %d runs live: %s", used, len(living), strings.Join(living, ", "))
	}
	return ""
}

// ripe reports whether a dangling image may go: nothing was made or named of it lately.
// An image that was pulled has the age of its build; what counts is when it was last
// given a name here.
func ripe(created, named, now time.Time) bool {
	if named.After(created) {
		created = named
	}
	return now.Sub(created) >= oldImage
}

// livingLocks returns the runs whose locks or slots somebody holds.
func livingLocks(dir string) ([]string, error) {
	runs := map[string]bool{}
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || filepath.Ext(path) != ".lock" {
			return err
		}
		name := strings.TrimSuffix(strings.TrimSuffix(d.Name(), ".lock"), ".process")
		if strings.HasPrefix(name, "slot-") { // its run has a lock of its own
			return nil
		}
		file := flock.New(path, flock.SetFlag(0)) // read only; a shared lock shows that nobody holds the other kind
		free, err := file.TryRLock()
		switch {
		case errors.Is(err, fs.ErrPermission): // another user's: whether it lives is not ours to judge
			free = false
		case err != nil:
			return err
		}
		file.Close()
		if !free && !runs[name] {
			runs[name] = true
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "looking whether a run lives: %w", err).WithHint("check that %s can be read", dir)
	}
	return all, nil
}

// dangling returns the images that no tag names, no container uses, and that are old enough.
func (p *pruner) dangling(ctx context.Context) ([]image.InspectResponse, error) {
	list, err := p.docker.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("dangling", "true"))})
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "listing dangling images: %w", err)
	}
	containers, err := p.docker.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "listing containers: %w", err)
	}
	var old []image.InspectResponse
	for _, i := range list {
		if slices.ContainsFunc(containers, func(c container.Summary) bool { return c.ImageID == i.ID }) {
			continue
		}
		seen, err := p.docker.ImageInspect(ctx, i.ID)
		if cerrdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, ccci.Errorf(ccci.CodeInfra, "looking at image %s: %w", i.ID, err)
		}
		created, _ := time.Parse(time.RFC3339Nano, seen.Created) // an image without a date is old
		if ripe(created, seen.Metadata.LastTagTime, p.now()) {
			old = append(old, seen)
		}
	}
	return old, nil
}

func (p *pruner) remove(ctx context.Context, used int, old []image.InspectResponse) error {
	var bytes int64
	var gone int
	for _, i := range old {
		if !p.dry {
			// Not by force: what got a name or a container meanwhile stays.
			_, err := p.docker.ImageRemove(ctx, i.ID, image.RemoveOptions{PruneChildren: true})
			if cerrdefs.IsNotFound(err) {
				continue
			}
			if cerrdefs.IsConflict(err) {
				p.log.Info("a dangling image stays", "image", i.ID, "docker", err)
				continue
			}
			if err != nil {
				return ccci.Errorf(ccci.CodeInfra, "removing the dangling image %s: %w", i.ID, err)
			}
		}
		gone, bytes = gone+1, bytes+i.Size
	}
	did := "removed"
	if p.dry {
		did = "would remove"
	}
	p.say("Docker's disk is %d%% full: %s dangling images: %d, with at most %s", used, did, gone, units.HumanSize(float64(bytes)))
	return nil
}

// usedPercent is how full the disk of a folder is, for whoever is not root.
func usedPercent(dir string) (int, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	taken := s.Blocks - s.Bfree
	all := taken + s.Bavail
	if all == 0 {
		return 0, errors.New("it has no size")
	}
	return int((taken*100 + all - 1) / all), nil // rounded up, as df does
}
