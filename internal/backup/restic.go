package backup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/box"
)

// repository is where the container sees the repository.
const repository = "/backups/restic"

// holdFor ends a container whose owner was killed.
const holdFor = 3 * time.Hour

// capabilities are what restic needs to read and restore files of any owner. It has none to make devices (MKNOD): volumes
// of ordinary apps have none, and a restore with one fails and names it. Without SETFCAP restic would leave out the
// capabilities of files and not say so.
var capabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP"}

// readonlyPaths are Docker's own, and what else of the container could be written besides its mounts.
var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/dev", "/sys/fs/cgroup"}

// use is what a container of restic is for.
type use int

const (
	forRepository use = iota // no volumes
	forBackup                // volumes are read
	forRestore               // volumes are written, the repository is read
)

// start runs the container, unless there is one.
func (b *Backup) start(ctx context.Context, what use, volumes ...Volume) error {
	if b.container != "" {
		return nil
	}
	repo, err := b.repositoryMount(ctx)
	if err != nil {
		return err
	}
	id, err := b.run(ctx, what, repo, volumes...)
	if err != nil {
		return err
	}
	b.container, b.use = id, what
	return nil
}

// run makes and starts a container for restic. Volumes are mounted where the snapshot shall have them; a
// volume that does not exist is not made, because it would lack its labels.
func (b *Backup) run(ctx context.Context, what use, repo mount.Mount, volumes ...Volume) (id string, err error) {
	repo.ReadOnly = what == forRestore
	mounts := []mount.Mount{repo}
	for _, v := range volumes {
		if _, err := b.opts.Docker.VolumeInspect(ctx, v.Name); err != nil {
			return "", fmt.Errorf("volume %s: %w", v.Key, err)
		}
		mounts = append(mounts, mount.Mount{Type: mount.TypeVolume, Source: v.Name, Target: v.Root(), ReadOnly: what == forBackup, VolumeOptions: &mount.VolumeOptions{NoCopy: true}})
	}
	host := &container.HostConfig{
		NetworkMode:    "none",
		IpcMode:        container.IPCModeNone, // without /dev/shm
		AutoRemove:     true,
		ReadonlyRootfs: true,
		ReadonlyPaths:  readonlyPaths,
		CapDrop:        []string{"ALL"},
		CapAdd:         capabilities,
		SecurityOpt:    []string{"no-new-privileges"},
		Mounts:         mounts,
		Resources:      b.resources(),
	}
	host.Tmpfs = map[string]string{"/tmp": fmt.Sprintf("size=%d,mode=1777", boxTemporary)}
	if what == forRestore {
		host.Tmpfs = above(volumes)
	}
	made := make(chan string, 1) // the answer may come when nothing waits for it any more
	asked, cancel := lasting(ctx)
	defer cancel()
	err = b.opts.Creating(asked, "container", "of restic", func(ctx context.Context) error {
		created, err := b.opts.Docker.ContainerCreate(ctx,
			&container.Config{
				Image:  b.opts.Box,
				Cmd:    box.HoldCommand(holdFor),
				Labels: map[string]string{harness.RunLabel: string(b.opts.RunID)},
			}, host, nil, nil, "")
		made <- created.ID
		return err
	})
	if err != nil {
		return "", err
	}
	id = <-made
	if err := b.opts.Docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return "", errors.Join(err, b.remove(context.WithoutCancel(ctx), id))
	}
	return id, nil
}

// above is what holds the folders above volumes: restic sets their times too. It is larger than the memory that the
// container may use, so that a link which leads here ends as the lack of memory, which is the app's failure.
func above(volumes []Volume) map[string]string {
	all := map[string]string{}
	for _, v := range volumes {
		top, _, _ := strings.Cut(strings.TrimPrefix(v.Root(), "/"), "/")
		all["/"+top] = fmt.Sprintf("size=%d,mode=755", 2*boxMemory)
	}
	return all
}

// resources bound the container. How much restic needs depends on what the app has written.
func (b *Backup) resources() container.Resources {
	pids := int64(boxProcesses)
	return container.Resources{Memory: boxMemory, PidsLimit: &pids, CPUShares: boxShares, NanoCPUs: b.opts.NanoCPUs}
}

// repositoryMount says where the repository is, making a volume if none is named.
func (b *Backup) repositoryMount(ctx context.Context) (mount.Mount, error) {
	if b.opts.Repo.Dir != "" {
		return mount.Mount{Type: mount.TypeBind, Source: b.opts.Repo.Dir, Target: repository}, nil
	}
	name := b.opts.Repo.Volume
	if name == "" {
		name = "cc-ci-backup-" + strings.ToLower(string(b.opts.RunID))
		asked, cancel := lasting(ctx)
		defer cancel()
		err := b.opts.Creating(asked, "volume", name, func(ctx context.Context) error {
			_, err := b.opts.Docker.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: map[string]string{harness.RunLabel: string(b.opts.RunID)}})
			return err
		})
		if err != nil {
			return mount.Mount{}, err
		}
		b.ownVolume = name
	}
	return mount.Mount{Type: mount.TypeVolume, Source: name, Target: repository}, nil
}

// Limits of the container in which restic runs.
const (
	boxMemory    = 2 << 30
	boxProcesses = 512
	boxShares    = 1024 // the CPU weight of a run
	// boxTemporary is for the packs that a backup builds: at most six of 24 MiB.
	boxTemporary = 256 << 20
)

// createLimit bounds a request to create an object.
const createLimit = 30 * time.Second

// lasting is the context of a request to create an object. The end of a run does not cut
// it short: the daemon could carry the request out after the teardown.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), createLimit)
}

// awaited is the default of Options.Creating.
func awaited(ctx context.Context, _, _ string, request func(context.Context) error) error {
	return request(ctx)
}

func (b *Backup) dropContainer(ctx context.Context) error {
	if err := b.remove(ctx, b.container); err != nil {
		return err
	}
	b.container, b.use = "", forRepository
	return nil
}

// remove removes a container of ours; "" is none.
func (b *Backup) remove(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	err := b.opts.Docker.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	// Conflict: AutoRemove is at it already; the volumes are waited for by their own removal.
	if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
		return err
	}
	return nil
}

// dropVolume removes the repository's volume, waiting for a container that is
// still going away.
func (b *Backup) dropVolume(ctx context.Context) error {
	if b.ownVolume == "" {
		return nil
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := b.opts.Docker.VolumeRemove(ctx, b.ownVolume, false)
		if err == nil || cerrdefs.IsNotFound(err) {
			b.ownVolume = ""
			return nil
		}
		if !cerrdefs.IsConflict(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// restic runs restic in the container. Standard output is returned or, when
// lines is set, given to it line by line; a non-zero exit is an error with restic's last words.
func (b *Backup) restic(ctx context.Context, lines func([]byte) error, args ...string) error {
	r, w := io.Pipe()
	read := make(chan error, 1)
	go func() {
		err := eachLine(r, lines)
		r.CloseWithError(err)
		read <- err
	}()
	var stderr complaints
	started := time.Now().Add(-time.Second) // the daemon has a clock of its own
	began, command := time.Now(), args[0]
	options := []string{box.Restic, "--repo", repository, "--no-cache"}
	if b.use == forRestore {
		options = append(options, "--no-lock") // a lock is a file in the repository
		stderr.readOnlyRoot = true
	}
	args = append(options, args...)
	env := []string{"RESTIC_PASSWORD=" + b.opts.Password.Reveal(), "HOME=/tmp"}
	code, err := box.Exec(ctx, b.opts.Docker, b.container, args, env, w, &stderr)
	b.opts.Logger.DebugContext(ctx, "restic has ended", "command", command, "code", code, "took", time.Since(began))
	w.Close()
	if readErr := <-read; err == nil && readErr != nil {
		err = readErr
	}
	if err != nil {
		return err
	}
	if code == incomplete {
		stderr.settle(func(path string) bool {
			_, err := b.opts.Docker.ContainerStatPath(ctx, b.container, path)
			return !cerrdefs.IsNotFound(err)
		})
	}
	if code != 0 {
		return &resticError{code: code, stderr: tail(stderr.kept, 4000), about: &stderr, starved: code == killed && b.starved(ctx, started)}
	}
	if len(stderr.kept) > 0 {
		b.opts.Logger.WarnContext(ctx, "restic warns", "command", command, "output", tail(stderr.kept, 2000))
	}
	return nil
}

// ending keeps the end of what is written to it. restic writes a line for each file that goes
// while it is read, and an app has as many as it likes.
type ending struct{ kept []byte }

// endingSize is how much is kept at least, in bytes.
const endingSize = 16 << 10

func (e *ending) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > endingSize {
		p = p[len(p)-endingSize:]
	}
	if len(e.kept)+len(p) > 4*endingSize {
		e.kept = append(e.kept[:0], e.kept[len(e.kept)-endingSize:]...)
	}
	e.kept = append(e.kept, p...)
	return n, nil
}

// killed is the exit code of what SIGKILL ended.
const killed = 128 + 9

// starved reports whether, since a time, something in the container was ended because it needs more
// memory than the container may use. The daemon says so a moment after the end.
func (b *Backup) starved(ctx context.Context, since time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	seen, failed := b.opts.Docker.Events(ctx, events.ListOptions{
		Since:   fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Filters: filters.NewArgs(filters.Arg("container", b.container), filters.Arg("event", string(events.ActionOOM))),
	})
	select {
	case <-seen:
		return true
	case <-failed:
		return false
	}
}

type resticError struct {
	code    int
	stderr  string
	about   *complaints // single files
	starved bool        // it needs more memory than it may use
}

// Error has restic's own words about single files, where there are some, before its last line, which
// only counts them.
func (e *resticError) Error() string {
	said := lastLine(e.stderr)
	if e.about != nil && e.about.all > 0 {
		said = e.about.String() + "; " + said
	}
	return fmt.Sprintf("restic ended with exit code %d: %s", e.code, said)
}

// skipped lists the paths that a backup did not find.
func (e *resticError) skipped() []string {
	var paths []string
	for line := range strings.Lines(e.stderr) {
		if path, ok := strings.CutSuffix(strings.TrimSpace(line), " does not exist, skipping"); ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// longestPath bounds a line of restic's, in bytes.
const longestPath = 4 << 20

// eachLine reads to the end of r, whatever lines says, so that the writer never blocks.
func eachLine(r io.Reader, lines func([]byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, longestPath) // a line holds a path, which restic escapes
	var first error
	for s.Scan() {
		if lines == nil || first != nil {
			continue
		}
		first = lines(s.Bytes())
	}
	return errors.Join(first, s.Err())
}

// initRepository makes the repository unless the caller's has one.
func (b *Backup) initRepository(ctx context.Context) error {
	err := b.restic(ctx, nil, "init")
	if failed := (*resticError)(nil); errors.As(err, &failed) && strings.Contains(failed.stderr, "already") {
		return b.restic(ctx, nil, "cat", "config") // is it one that our password opens?
	}
	return err
}

// incomplete is restic's exit code for a snapshot without some of the files.
const incomplete = 3

func (b *Backup) resticBackup(ctx context.Context, snapshot *Snapshot) error {
	args := []string{"backup", "--json", "--host", "cc-ci"}
	for _, tag := range snapshot.Tags {
		args = append(args, "--tag", strings.ReplaceAll(tag, ",", "_")) // restic splits at commas
	}
	args = append(args, "--")
	for _, v := range b.plan.Volumes {
		args = append(args, v.Targets()...)
	}
	err := b.restic(ctx, func(line []byte) error {
		var m struct {
			MessageType string `json:"message_type"`
			SnapshotID  string `json:"snapshot_id"`
			Files       int    `json:"total_files_processed"`
			Bytes       int64  `json:"total_bytes_processed"`
		}
		if err := json.Unmarshal(line, &m); err != nil || m.MessageType != "summary" {
			return nil // progress, or a line for people
		}
		snapshot.ID, snapshot.Files, snapshot.Bytes = m.SnapshotID, m.Files, m.Bytes
		return nil
	}, args...)
	failed := (*resticError)(nil)
	switch {
	case errors.As(err, &failed) && strings.Contains(failed.stderr, "do not exist"):
		return ccci.Errorf(ccci.CodeRecipe, "backing up %s: none of the paths that the labels name exists: %s", b.plan.Stack, strings.Join(b.planned(), ", ")).
			WithHint("the pre-hook writes somewhere else, or the path label is not relative to the volume's root")
	case errors.As(err, &failed) && failed.code == incomplete && len(failed.skipped()) > 0: // since restic 0.17
		return ccci.Errorf(ccci.CodeRecipe, "backing up %s: %s does not exist", b.plan.Stack, strings.Join(b.named(failed.skipped()), ", ")).
			WithHint("the pre-hook writes somewhere else, or the path label is not relative to the volume's root")
	case errors.As(err, &failed) && failed.code == incomplete && failed.about.all > 0 && failed.about.vanished == failed.about.all && snapshot.ID != "":
		// Apps remove temporary files at any time. The snapshot holds all others.
		b.opts.Logger.WarnContext(ctx, "files were removed while they were backed up", "number", failed.about.all, "files", failed.about.String())
	case err != nil:
		return b.fault("backing up", err)
	case snapshot.ID == "":
		return ccci.Errorf(ccci.CodeInfra, "backing up %s: restic named no snapshot", b.plan.Stack)
	}
	return nil
}

// planned are the paths of the plan as a person writes them.
func (b *Backup) planned() []string {
	var all []string
	for _, v := range b.plan.Volumes {
		for _, p := range promised(v) {
			all = append(all, strings.TrimSuffix(v.Key+"/"+p, "/"))
		}
	}
	return all
}

// named writes paths of the container as a person does: with the volume's key.
func (b *Backup) named(paths []string) []string {
	var all []string
	for _, p := range paths {
		for _, v := range b.plan.Volumes {
			if rest, ok := strings.CutPrefix(p, v.Root()+"/"); ok {
				p = v.Key + "/" + rest
				break
			}
		}
		all = append(all, p)
	}
	return all
}

// mostFiles bounds a snapshot that is looked into; its list is held in memory.
const mostFiles = 500_000

func (b *Backup) resticList(ctx context.Context, snapshot Snapshot) ([]File, error) {
	var files []File
	err := b.restic(ctx, func(line []byte) error {
		var node struct {
			Struct string    `json:"struct_type"`
			Path   string    `json:"path"`
			Type   string    `json:"type"`
			Size   int64     `json:"size"`
			Mtime  time.Time `json:"mtime"`
		}
		if err := json.Unmarshal(line, &node); err != nil {
			return fmt.Errorf("reading restic's list: %w", err)
		}
		if node.Struct == "node" {
			if len(files) == mostFiles {
				return ccci.Errorf(ccci.CodeRecipe, "the snapshot of %s has more than %d entries", b.plan.Stack, mostFiles).
					WithHint("exclude caches from the backup")
			}
			files = append(files, File{Path: node.Path, Type: node.Type, Size: node.Size, Mtime: node.Mtime})
		}
		return nil
	}, "ls", "--json", snapshot.ID)
	var theirs *ccci.Error
	if errors.As(err, &theirs) {
		return nil, theirs
	}
	if err != nil {
		return nil, b.fault("listing the snapshot of", err)
	}
	b.listed, b.special = snapshot.ID, nil
	for _, f := range files {
		if f.Type != "file" && f.Type != "dir" {
			b.special = append(b.special, f.Path)
		}
	}
	return files, nil
}

// resticRestore restores each volume in a container of its own, which can write into this volume alone: restic follows
// links, and the app may make one while it runs. Such a link leads to the volume, to what is read-only, or to restic's own
// /proc/self: code that an app brings into restic by that has the app's volume and can read the run's own snapshot.
func (b *Backup) resticRestore(ctx context.Context, snapshot Snapshot) error {
	for i, v := range b.plan.Volumes {
		err := b.turnTo(ctx, v)
		if err == nil && i+1 < len(b.plan.Volumes) {
			err = b.startAhead(ctx, b.plan.Volumes[i+1])
		}
		if err != nil {
			return ccci.Errorf(ccci.CodeInfra, "mounting volume %s of %s: %w", v.Key, b.plan.Stack, err)
		}
		if err := b.restoreVolume(ctx, snapshot, v); err != nil {
			return err
		}
	}
	return nil
}

// restoreVolume writes into the volume only: what is above it belongs to the container.
func (b *Backup) restoreVolume(ctx context.Context, snapshot Snapshot, v Volume) error {
	args := []string{"restore", snapshot.ID, "--target", "/"}
	for _, target := range v.Targets() {
		args = append(args, "--include", escapePattern(target))
	}
	// restic before 0.15 does not replace links, pipes and devices. Which there are is known of a snapshot that was
	// looked into; otherwise its failure shows that there are some.
	if b.listed == snapshot.ID {
		if err := b.clear(ctx, v); err != nil {
			return err
		}
	}
	err := b.restic(ctx, nil, args...)
	if failed := (*resticError)(nil); errors.As(err, &failed) && strings.Contains(failed.stderr, "file exists") {
		if _, err := b.resticList(ctx, snapshot); err != nil {
			return err
		}
		if err := b.clear(ctx, v); err != nil {
			return err
		}
		err = b.restic(ctx, nil, args...)
	}
	if err != nil {
		return b.fault("restoring", err)
	}
	return nil
}

// clear removes what the snapshot that was listed last has of a volume and is neither file nor folder.
func (b *Backup) clear(ctx context.Context, v Volume) error {
	var names []string
	for _, path := range b.special {
		if rest, ok := strings.CutPrefix(path, v.Root()+"/"); ok {
			names = append(names, rest)
		}
	}
	for some := range slices.Chunk(names, 200) {
		var stderr ending
		code, err := box.Exec(ctx, b.opts.Docker, b.container, box.ClearCommand(v.Root(), some), nil, nil, &stderr)
		if err == nil && code != 0 {
			err = fmt.Errorf("making room for links and pipes: %s", lastLine(tail(stderr.kept, 4000)))
		}
		if err != nil {
			return b.fault("restoring", err)
		}
	}
	return nil
}

// escapePattern makes restic's include pattern match a path literally.
func escapePattern(p string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
}

// tail returns the last n bytes as text.
func tail(b []byte, n int) string {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "?")
}

func lastLine(text string) string {
	if text == "" {
		return "it printed nothing"
	}
	return text[strings.LastIndexByte(text, '\n')+1:]
}
