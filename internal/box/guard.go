package box

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// guardEvery is the time between two looks at the files. A processor writes some 40 MiB in it.
	guardEvery = 20 * time.Millisecond
	// guardList is how often the directory is listed where its time of change says nothing new.
	guardList = time.Second
	// guardLimit is how large such a file may be, in bytes. Docker writes less than a kilobyte.
	guardLimit = 1 << 20
	// guardConfig is the largest description of a container that is read, in bytes. What a recipe and an image
	// may state is less, also where each of its characters is escaped.
	guardConfig = 32 << 20
)

// guardedFiles are those of a container's directory that Docker mounts writable into the container.
var guardedFiles = []string{"hosts", "hostname", "resolv.conf"}

// Guard is the command "cc-ci box guard [--for DURATION] RUN". It watches the files that Docker
// mounts into each container of a run from [LogDir], its own directory of containers, which must be
// writable: /etc/hosts, /etc/hostname and /etc/resolv.conf. They are on the host's disk, no figure of Docker's
// counts them, and dockerd reads /etc/hosts as a whole into its memory when the container has ended. A file
// that is larger than 1 MiB is truncated at the next look, 20 ms later at most, each time. Guard prints "ready"
// once it has looked, then a line "over <bytes> <most> <path> <service>" for each such file, once. It ends
// with ctx or after the duration (3 h by default).
func Guard(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("box guard", flag.ContinueOnError)
	limit := flags.Duration("for", 3*time.Hour, "how long to stay at most")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("box guard takes one run, not %d", flags.NArg())
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	g, err := newGuard(LogDir, flags.Arg(0), os.Stdout)
	if err != nil {
		return fmt.Errorf("box guard: %w", err)
	}
	defer g.close()
	if err := g.watch(ctx); err != nil {
		return fmt.Errorf("box guard: %w", err)
	}
	return nil
}

// GuardCommand is the command line of [Guard] in a container.
func GuardCommand(run string) []string { return []string{Program, "box", "guard", run} }

type guard struct {
	dir        *os.File // Docker's directory of containers
	run        string
	out        io.Writer
	listed     time.Time
	changed    unix.Timespec // when dir had changed, as it was listed
	containers map[string]*guarded
}

// guarded is one container. Those of others than the run have no files.
type guarded struct {
	service string // swarm's name for it, "" where the container is no task's
	known   bool
	dir     int // descriptor, open when there are files
	files   []*guardedFile
}

type guardedFile struct {
	name  string
	fd    int  // -1 until it can be opened
	named bool // that it is too large was said
}

func newGuard(dir, run string, out io.Writer) (*guard, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &guard{dir: d, run: run, out: out, containers: map[string]*guarded{}}, nil
}

func (g *guard) close() {
	for _, c := range g.containers {
		c.close()
	}
	g.dir.Close()
}

func (c *guarded) close() {
	for _, f := range c.files {
		if f.fd >= 0 {
			unix.Close(f.fd)
		}
	}
	if len(c.files) > 0 {
		unix.Close(c.dir)
	}
}

func (g *guard) watch(ctx context.Context) error {
	ticker := time.NewTicker(guardEvery)
	defer ticker.Stop()
	for first := true; ; first = false {
		if err := g.look(); err != nil {
			return err
		}
		if first {
			if _, err := fmt.Fprintln(g.out, "ready"); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look looks at each file once.
func (g *guard) look() error {
	if err := g.list(); err != nil {
		return fmt.Errorf("listing the containers: %w", err)
	}
	for id, c := range g.containers {
		if !c.known {
			if err := g.identify(id, c); err != nil {
				return fmt.Errorf("reading whose container %.12s is: %w", id, err)
			}
		}
		for _, f := range c.files {
			if size := f.look(c.dir); size > guardLimit && !f.named {
				f.named = true
				// Where nobody listens any more, the file is truncated all the same.
				fmt.Fprintf(g.out, "over %d %d /etc/%s %s\n", size, int64(guardLimit), f.name, c.service)
			}
		}
	}
	return nil
}

var containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// list finds the containers that have come and gone.
func (g *guard) list() error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(g.dir.Fd()), &stat); err != nil {
		return err
	}
	if stat.Mtim == g.changed && time.Since(g.listed) < guardList {
		return nil
	}
	g.listed, g.changed = time.Now(), stat.Mtim
	if g.listed.Sub(time.Unix(stat.Mtim.Unix())) < 10*guardEvery {
		g.changed = unix.Timespec{} // what changes in the same tick of the kernel's clock has the same time
	}
	if _, err := g.dir.Seek(0, io.SeekStart); err != nil {
		return err
	}
	names, err := g.dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(names))
	for _, name := range names {
		if !containerID.MatchString(name) {
			continue
		}
		there[name] = true
		if g.containers[name] == nil {
			g.containers[name] = &guarded{}
		}
	}
	for id, c := range g.containers {
		if !there[id] {
			c.close()
			delete(g.containers, id)
		}
	}
	return nil
}

// identify finds out whether a container is the run's. Docker describes it before it starts it, in a
// file that appears as a whole. Until then nothing is known, which is no error.
func (g *guard) identify(id string, c *guarded) error {
	dir, err := unix.Openat(int(g.dir.Fd()), id, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := openRegular(dir, "config.v2.json", unix.O_RDONLY)
	if err != nil {
		unix.Close(dir)
		if gone(err) {
			return nil
		}
		return err
	}
	file := os.NewFile(uintptr(fd), "config.v2.json")
	defer file.Close()
	var description struct {
		Config struct{ Labels map[string]string }
	}
	c.known = true
	err = json.NewDecoder(io.LimitReader(file, guardConfig)).Decode(&description)
	if labels := description.Config.Labels; err == nil && labels["cc-ci.run"] == g.run {
		c.dir, c.service = dir, labels["com.docker.swarm.service.name"]
		for _, name := range guardedFiles {
			c.files = append(c.files, &guardedFile{name: name, fd: -1})
		}
		return nil
	}
	unix.Close(dir)
	return nil // a description that cannot be read is none of the run's
}

// openRegular opens a regular file of a directory. A link is not followed, and neither a pipe nor a
// lease that the app has of the file makes it wait.
func openRegular(dir int, name string, flags int) (int, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var stat unix.Stat_t
	err = unix.Fstat(fd, &stat)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// look returns the size of the file, and truncates it when that is too much. One that cannot be
// opened for writing is looked at all the same.
func (f *guardedFile) look(dir int) int64 {
	if f.fd < 0 {
		f.fd, _ = openRegular(dir, f.name, unix.O_WRONLY)
	}
	var stat unix.Stat_t
	var err error
	if f.fd >= 0 {
		err = unix.Fstat(f.fd, &stat)
	} else {
		err = unix.Fstatat(dir, f.name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return 0 // it is not yet there
	}
	size := max(stat.Size, stat.Blocks*512) // what is allotted beyond the end counts
	if size > guardLimit && f.fd >= 0 {
		_ = unix.Ftruncate(f.fd, 0) // the next look tries again
	}
	return size
}
