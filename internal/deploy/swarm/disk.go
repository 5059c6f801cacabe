package swarm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// disk measures what the run takes of the daemon's disk, from the first Deploy to
// Remove: its volumes, in a box that mounts them read-only, and the writable layers of
// its containers. Over the limit it stops the
// run's tasks where they are (paused, so that their logs can be read) and says so once.
// What a log takes is bounded by its driver; how much is written to it is work of dockerd, which no limit
// of the container counts: see floods.
// Files without a name, and inodes of a writable layer, are in no measurement: that the machine's
// disk is nearly full ends the run as well.
//
// The daemon's own figures (GET /system/df) would cost a walk through every volume of the
// machine. A box walks through those of the run: 15 ms for 10,000 files, once in
// diskInterval, and never for more than a fifth of the time as long as that takes seconds.
// A fast disk takes gigabytes in that time: the free space of the disk, which costs
// microseconds, is read often, and a drop by an eighth of the limit brings the next
// measurement forward.
type disk struct {
	background
	d *Deployer

	failures int // measurements in a row that left something unmeasured
	floods   floods

	box     string   // container, "" while there is none
	mounted []string // volumes that it mounts, in the order of their folders
}

const (
	diskInterval = 5 * time.Second
	measureLimit = time.Minute
	restLimit    = 20 * time.Second
	// mostEntries is how many files and folders the volumes of a run may hold.
	mostEntries = 5_000_000
	// mostFailures is how many measurements in a row may give nothing, before what is not
	// measured counts as too much.
	mostFailures = 5
	// logsTake is how long Box.Measure watches logs.
	logsTake = 500 * time.Millisecond
	// freeInterval is the time between two looks at what is free.
	freeInterval = time.Second
	// dropInterval is the time between two readings of the free space.
	dropInterval = 100 * time.Millisecond
)

// unmeasured says why what the run takes could not be walked through, and whose fault that is when
// it goes on.
type unmeasured struct {
	error
	code ccci.Code
}

// usage is what one object takes.
type usage struct {
	what    string // "volume x", "container y"
	bytes   int64
	entries int64
	log     *logRate // of a container, nil where it is not known
}

func (k *disk) start() {
	if k.d.o.DiskLimit <= 0 || k.d.o.Box.Measure == nil {
		return
	}
	k.background.start(func(ctx context.Context) {
		defer k.dropBox() // it would hold the volumes
		var both sync.WaitGroup
		both.Go(func() { k.watch(ctx) })
		both.Go(func() { k.watchFree(ctx) })
		both.Wait()
	})
}

func (k *disk) watchFree(ctx context.Context) {
	if err := k.d.awaitFull(ctx); err != nil {
		k.d.endRun(ctx, err)
	}
}

// awaitFull returns when the machine's disk is nearly full, with an error that says so, or nil
// when ctx has ended.
func (d *Deployer) awaitFull(ctx context.Context) error {
	if d.o.Full == nil {
		return nil
	}
	for {
		if why := d.o.Full(); why != "" {
			return ccci.Errorf(ccci.CodeInfra, "the run was ended, since %s", why).
				WithHint("docker system df shows what takes it; a run whose files have no name, or whose image is huge, is in no measurement")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(freeInterval):
		}
	}
}

func (k *disk) watch(ctx context.Context) {
	var logs time.Time // when they were measured last
	for {
		started, free := time.Now(), k.free()
		// Logs are watched for a while, which a measurement that free space has brought forward has no time for.
		withLogs := started.Sub(logs) >= diskInterval
		if withLogs {
			logs = started
		}
		all, err := k.measure(ctx, withLogs)
		took := time.Since(started)
		if withLogs {
			took = max(took-logsTake, 0)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil { // a volume or a container may have gone meanwhile
			k.d.log.Warn("measuring the disk of the run", "error", err)
		}
		over := k.judge(all, err)
		if over == nil && withLogs {
			over = k.floods.judge(all)
		}
		if over != nil {
			k.d.endRun(ctx, over)
			return
		}
		if !k.rest(ctx, min(4*took, restLimit), free) {
			return
		}
	}
}

// free is the free space of the daemon's disk in bytes, -1 when it is not known.
func (k *disk) free() int64 {
	if k.d.o.Free == nil {
		return -1
	}
	return k.d.o.Free()
}

// rest waits until the next measurement is due: after least at the earliest, then as soon as
// much was written since the disk had free bytes free, or the interval is over. When more than the
// whole limit was written it does not wait. It reports false when ctx has ended.
func (k *disk) rest(ctx context.Context, least time.Duration, free int64) bool {
	most := max(orDefault(k.d.o.DiskInterval, diskInterval), least)
	for waited := time.Duration(0); waited < most; {
		if now := k.free(); now >= 0 && free >= 0 {
			written, limit := free-now, k.d.o.DiskLimit
			if written > limit || waited >= least && written > limit/8 {
				return true
			}
		}
		step := min(dropInterval, most-waited)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(step):
		}
		waited += step
	}
	return true
}

// judge says what is too much. A volume or a layer that cannot be walked through, again and again, is:
// a run could hide all it writes behind one that it made so.
func (k *disk) judge(all []usage, err error) error {
	k.failures++
	var why *unmeasured
	if !errors.As(err, &why) {
		k.failures = 0
	}
	over := overLimit(all, k.d.o.DiskLimit)
	if over == nil && k.failures >= mostFailures {
		over = ccci.Errorf(why.code, "disk limit: what the run takes cannot be measured: %w", why).
			WithHint("look at what the app writes there")
	}
	return over
}

// overLimit names what is largest, when all together is too much.
func overLimit(all []usage, limit int64) error {
	var total, entries int64
	for _, u := range all {
		total += u.bytes
		entries += u.entries
	}
	slices.SortFunc(all, func(a, b usage) int { return int(b.bytes>>10 - a.bytes>>10) })
	var largest []string
	for _, u := range all[:min(3, len(all))] {
		if u.bytes > total/100 {
			largest = append(largest, fmt.Sprintf("%s %s", u.what, bytesText(u.bytes)))
		}
	}
	switch {
	case total > limit:
		return ccci.Errorf(ccci.CodeRecipe, "disk limit: the run takes %s of %s: %s", bytesText(total), bytesText(limit), strings.Join(largest, ", ")).
			WithHint("look at what the app writes there; the operator sets limits.disk")
	case entries > mostEntries:
		return ccci.Errorf(ccci.CodeRecipe, "disk limit: the volumes of the run hold %d files and folders, at most %d are allowed: %s", entries, mostEntries, strings.Join(largest, ", ")).
			WithHint("look at what the app writes there")
	}
	return nil
}

// measure returns what the run takes. What its containers take is known first: where that alone is too
// much, nothing else is measured.
func (k *disk) measure(ctx context.Context, logs bool) ([]usage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, measureLimit, fmt.Errorf("it takes longer than %s", measureLimit))
	defer cancel()
	ours := filters.NewArgs(filters.Arg("label", LabelRun+"="+string(k.d.o.RunID)))
	containers, err := k.d.docker.ContainerList(ctx, container.ListOptions{All: true, Size: true, Filters: ours})
	if ctx.Err() != nil { // the daemon walks through the layers; it may also be stuck for another reason
		return nil, &unmeasured{fmt.Errorf("asking Docker how large the containers are: %w", context.Cause(ctx)), ccci.CodeInfra}
	}
	if err != nil {
		return nil, err
	}
	k.d.noteVolumes(containers)
	var all []usage
	var blind error                 // names a layer that could not be walked through
	services := map[string]string{} // by container, of those whose log is measured
	for _, c := range containers {
		// Docker's walk names files by their paths, and says -1 where one is longer than the kernel takes.
		if c.SizeRw < 0 && blind == nil {
			blind = &unmeasured{fmt.Errorf("the writable layer of container %s cannot be measured by Docker, as when folders are too deep in each other", containerName(c)), ccci.CodeRecipe}
		}
		all = append(all, usage{what: "container " + containerName(c), bytes: max(c.SizeRw, 0)})
		if service := c.Labels[labelServiceName]; service != "" && c.State == container.StateRunning && logs && k.d.o.Box.Logs != "" {
			services[c.ID] = service
		}
	}
	if overLimit(all, k.d.o.DiskLimit) != nil {
		return all, nil
	}
	volumes, err := k.d.docker.VolumeList(ctx, volume.ListOptions{})
	if err != nil {
		return all, errors.Join(blind, err)
	}
	var names []string
	for _, v := range volumes.Volumes {
		// Only those of apps: what mounts others of the run removes them while it lives.
		ofApp := v.Labels[LabelRun] == string(k.d.o.RunID) && v.Labels[LabelStack] != ""
		if ofApp || k.d.anonymous.has(v) {
			names = append(names, v.Name)
		}
	}
	if len(names)+len(services) == 0 {
		return all, blind
	}
	slices.Sort(names)
	more, err := k.measureInside(ctx, names, services)
	return append(all, more...), errors.Join(blind, err)
}

// measureInside measures, in the helper container, volumes and the logs of containers.
func (k *disk) measureInside(ctx context.Context, names []string, services map[string]string) ([]usage, error) {
	if k.box == "" || !slices.Equal(names, k.mounted) {
		k.dropBox()
		if err := k.makeBox(ctx, names); err != nil {
			return nil, err
		}
	}
	var dirs []string
	for i := range names {
		dirs = append(dirs, folder(i))
	}
	out, err := k.run(ctx, k.d.o.Box.Measure(slices.Sorted(maps.Keys(services)), dirs))
	if err != nil {
		k.dropBox() // it may have ended; the next look makes another
		return nil, &unmeasured{err, ccci.CodeRecipe}
	}
	var all []usage
	volumes := 0
	for line := range strings.Lines(string(out)) {
		if rate, ok := logRateOf(line); ok {
			rate.service = services[rate.container]
			all = append(all, usage{log: &rate})
			continue
		}
		u := usage{}
		if _, err := fmt.Sscan(line, &u.bytes, &u.entries); err != nil || volumes >= len(names) {
			return nil, &unmeasured{fmt.Errorf("%q is no answer", clip(line, 80)), ccci.CodeRecipe}
		}
		u.what = "volume " + names[volumes]
		volumes++
		all = append(all, u)
	}
	return all, nil
}

func folder(i int) string { return fmt.Sprintf("/volumes/%d", i) }

func (k *disk) makeBox(ctx context.Context, names []string) error {
	host := confined(4*boxMemory, "DAC_READ_SEARCH")
	host.AutoRemove = true
	if root, target := k.d.dockerRoot, k.d.o.Box.Logs; root != "" && target != "" {
		// The directory has the settings of all containers as well. The helper container runs cc-ci alone and has no network.
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: filepath.Join(root, "containers"), Target: target, ReadOnly: true, BindOptions: &mount.BindOptions{NonRecursive: true}})
	}
	for i, name := range names {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: folder(i), ReadOnly: true, VolumeOptions: &mount.VolumeOptions{NoCopy: true}})
	}
	id, err := k.d.createContainer(ctx, "for measuring", "", k.d.ofBox(k.d.o.Box.Hold, k.d.o.RunID), host)
	if err != nil {
		return fmt.Errorf("making a box for the volumes: %w", err)
	}
	k.box, k.mounted = id, names
	return k.d.docker.ContainerStart(ctx, k.box, container.StartOptions{})
}

func (k *disk) dropBox() {
	if k.box == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := k.d.removeObject(ctx, object(kindContainer, k.box, k.box[:12], nil)); err != nil && !strings.Contains(err.Error(), "already in progress") {
		k.d.log.Warn("removing the box that measured the volumes", "error", err)
	}
	k.box, k.mounted = "", nil
}

// run runs a command in the box and returns what it prints, at most 1 MiB.
func (k *disk) run(ctx context.Context, args []string) ([]byte, error) {
	stdout, stderr, err := k.d.execBox(ctx, k.box, args, nil, execOutput)
	if err == nil && len(stderr) > 0 {
		err = errors.New(clip(string(stderr), 300))
	}
	return stdout, err
}
