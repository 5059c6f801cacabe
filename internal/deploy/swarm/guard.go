package swarm

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
)

// guard keeps one helper container from Prepare, or the first Pull, until the run has no other container any more. It
// watches the files that Docker mounts from its own directory into each container of the run: /etc/hosts,
// /etc/hostname and /etc/resolv.conf. An app may write to them, and Docker counts them nowhere. When a
// container ends, for whatever reason, dockerd reads its /etc/hosts into memory, several times
// as much as the file has. To look at what is written every five seconds, as at all else that a run takes, is too
// late for that: the app can end before. So the helper truncates such a file within milliseconds, and the
// run is ended.
//
// Nothing of a run's apps starts before the helper looks: see await.
type guard struct {
	background
	d *Deployer

	quiet atomic.Bool // the run is being removed

	mu  sync.Mutex
	now *guarding // the last one, nil before the first
}

// guarding is the time between a start and a stop.
type guarding struct {
	decided chan struct{} // closed when the helper looks, or will not
	err     error         // why it will not, written before decided is closed
	once    sync.Once
}

func (s *guarding) decide(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.decided)
	})
}

const (
	// guardTries is how often in a row the helper is started before the run ends without one.
	guardTries = 3
	// guardPause is the time between two tries.
	guardPause = 500 * time.Millisecond
	// guardPatience bounds one start.
	guardPatience = time.Minute
)

// guardName is the name of a run's helper. Remove knows it by that, also one that another process has made.
func guardName(run ccci.RunID) string { return "cc-ci-guard-" + string(run) }

func isGuard(o harness.Object) bool {
	return o.Kind == kindContainer && o.Run != "" && o.Name == guardName(ccci.RunID(o.Run))
}

func (g *guard) wanted() bool {
	return g.d.o.Box.Guard != nil && g.d.o.Box.Logs != "" && g.d.dockerRoot != ""
}

func (g *guard) start() {
	if !g.wanted() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.quiet.Store(false)
	next := &guarding{decided: make(chan struct{})}
	if g.background.start(func(ctx context.Context) { g.watch(ctx, next) }) {
		g.now = next
	}
}

// await waits until the files of containers are looked at. Its error is the infrastructure's.
func (g *guard) await(ctx context.Context) error {
	if !g.wanted() {
		return nil
	}
	g.mu.Lock()
	now := g.now
	g.mu.Unlock()
	select {
	case <-now.decided:
		return now.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the helper container that guards the run: %w", context.Cause(ctx))
	}
}

// watch keeps the helper running. A run does not go on without it.
func (g *guard) watch(ctx context.Context, now *guarding) {
	for failures := 0; ctx.Err() == nil; {
		looked, err := g.run(ctx, now)
		if ctx.Err() != nil || g.quiet.Load() { // it is removed
			return
		}
		if looked {
			failures = 0
		}
		failures++
		g.d.log.Warn("the helper container that guards /etc/hosts has ended", "run", g.d.o.RunID, "error", err)
		if failures == guardTries {
			err = ccci.Errorf(ccci.CodeInfra, "the helper container that guards /etc/hosts of the run's containers does not run: %w", err).
				WithHint("cc-ci doctor checks the helper image and Docker")
			now.decide(err)
			g.d.endRun(ctx, err)
			return
		}
		_ = sleep(ctx, guardPause)
	}
}

// run starts a helper and reads what it says until it ends. It reports whether the helper has looked at the files.
func (g *guard) run(ctx context.Context, now *guarding) (looked bool, err error) {
	id, conn, err := g.makeBox(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, conn.Close)() // a hijacked connection does not know ctx
	reader, writer := io.Pipe()
	defer reader.Close()
	trouble := &headBuffer{limit: 1000}
	go func() {
		_, err := stdcopy.StdCopy(writer, trouble, conn.Reader)
		writer.CloseWithError(err) // nil is a plain end of file
	}()
	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		if lines.Text() == "ready" {
			looked = true
			now.decide(nil)
			continue
		}
		if over := oversize(lines.Text()); !g.quiet.Load() {
			g.d.endRun(ctx, over)
		}
	}
	if err = lines.Err(); err == nil { // all was read
		err = fmt.Errorf("it has ended: %s", clip(string(bytes.TrimSpace(trouble.data)), 300))
	}
	if ctx.Err() == nil {
		g.removeBox(id)
	}
	return looked, err
}

// oversize reads a line of [Box].Guard about a file.
func oversize(line string) error {
	var size, most int64
	var path string
	if n, _ := fmt.Sscanf(line, "over %d %d %s", &size, &most, &path); n != 3 {
		return ccci.Errorf(ccci.CodeInfra, "the helper container that guards /etc/hosts says %q", clip(line, 80))
	}
	of := "a container"
	if parts := strings.Fields(line); len(parts) > 4 {
		of = "service " + parts[4]
	}
	return ccci.Errorf(ccci.CodeRecipe, "disk limit: %s of %s has %s, at most %s is allowed", path, of, bytesText(size), bytesText(most)).
		WithHint("Docker keeps this file on the machine's disk, and reads it when the container ends; look at what the app writes there")
}

// makeBox starts the helper container and returns the connection on which it prints.
func (g *guard) makeBox(ctx context.Context) (id string, said types.HijackedResponse, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, guardPatience, fmt.Errorf("it has not started within %s", guardPatience))
	defer cancel()
	// The app decides who owns its files, and who may write to them.
	host := confined(4*boxMemory, "DAC_OVERRIDE")
	// Docker's directory is the host's: it has no label of SELinux for containers, and its owner is root of the host.
	host.SecurityOpt, host.UsernsMode = append(host.SecurityOpt, "label=disable"), "host"
	// It works for microseconds, and must not wait for the apps.
	host.CPUShares = runShares
	host.AutoRemove, host.LogConfig = true, container.LogConfig{Type: "none"}
	// Writable, since an app can end within milliseconds. The helper runs cc-ci alone, has no network, and sees
	// no other file that an app can write to.
	host.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: filepath.Join(g.d.dockerRoot, "containers"), Target: g.d.o.Box.Logs, BindOptions: &mount.BindOptions{NonRecursive: true}}}
	config := g.d.ofBox(g.d.o.Box.Guard(string(g.d.o.RunID)), g.d.o.RunID)
	config.AttachStdout, config.AttachStderr = true, true
	made := make(chan string, 1) // the answer may come when nothing waits for it any more
	name := guardName(g.d.o.RunID)
	err = g.d.create(ctx, kindContainer, name, "", func(ctx context.Context) error {
		answer, err := g.d.docker.ContainerCreate(ctx, config, host, nil, nil, name)
		made <- answer.ID
		return err
	})
	if err != nil {
		return "", said, err
	}
	id = <-made
	said, err = g.d.docker.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		g.removeBox(id)
		return "", said, err
	}
	if err := g.d.docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		said.Close()
		g.removeBox(id)
		return "", said, err
	}
	return id, said, nil
}

func (g *guard) removeBox(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), removeLimit)
	defer cancel()
	if _, err := g.d.removeObject(ctx, object(kindContainer, id, id, nil)); err != nil && !strings.Contains(err.Error(), "already in progress") {
		g.d.log.Warn("removing the helper container that guards /etc/hosts", "error", err)
	}
}
