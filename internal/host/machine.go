package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// browsers are the names under which Chromium is installed. The headless shell is the same
// browser without its own windows, menus and background services: it takes a fifth of
// the processor time.
var browsers = []string{"chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// Chromium returns the path of a Chromium program, "" if there is none.
func Chromium() string {
	for _, name := range browsers {
		if p := path(name); p != "" {
			return p
		}
	}
	return ""
}

// machine is the real System.
type machine struct {
	dockerd  []string // command line of the daemon
	pidFile  string   // of whatever daemon owns the socket
	systemd  bool
	docker   []client.Opt
	updating sync.Mutex
	updated  bool // the package lists are fresh
}

// NewSystem returns this machine, with the daemon that DOCKER_HOST names.
func NewSystem() System {
	_, err := os.Stat("/run/systemd/system")
	return &machine{
		dockerd: []string{"dockerd"},
		pidFile: "/var/run/docker.pid",
		systemd: err == nil,
		docker:  []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()},
	}
}

func (m *machine) Client() (*client.Client, error) { return client.NewClientWithOpts(m.docker...) }

// Look observes the machine.
func (m *machine) Look(ctx context.Context) (Facts, error) {
	f := Facts{Root: os.Geteuid() == 0, Systemd: m.systemd, Restic: path("restic"), Git: path("git"), Chromium: Chromium()}
	f.Apt = path("apt-get") != "" && debianLike("/etc/os-release")
	f.Dockerd = path(m.dockerd[0]) != ""
	_, err := os.Stat("/etc/timezone")
	f.Timezone = err == nil
	f.Elsewhere = elsewhere(os.Getenv(client.EnvOverrideHost))
	return f, m.lookAtDocker(ctx, &f)
}

// elsewhere returns dockerHost unless it names this machine's usual socket, on
// which a daemon started here would answer.
func elsewhere(dockerHost string) string {
	switch dockerHost {
	case "unix:///var/run/docker.sock", "unix:///run/docker.sock":
		return ""
	}
	return dockerHost
}

func path(name string) string {
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

func debianLike(osRelease string) bool {
	data, err := os.ReadFile(osRelease)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		if slices.Contains(strings.Fields(strings.Trim(value, `"`)), "debian") {
			return true
		}
	}
	return false
}

// lookAtDocker fills in what the daemon knows.
func (m *machine) lookAtDocker(ctx context.Context, f *Facts) error {
	f.Docker = DockerDown
	docker, err := m.Client()
	if err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "reading DOCKER_HOST: %w", err).WithHint("unset it, or write it as unix:///var/run/docker.sock")
	}
	defer docker.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	info, err := docker.Info(ctx)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
			f.Docker = DockerDenied
		}
		if ctx.Err() != nil { // it is there and does not answer: starting another one is no help
			return fmt.Errorf("asking Docker: %w", err)
		}
		return nil
	}
	f.Docker = DockerUp
	f.Swarm = Swarm{State: string(info.Swarm.LocalNodeState), Manager: info.Swarm.ControlAvailable}
	if info.Swarm.Cluster != nil {
		f.Swarm.Cluster = info.Swarm.Cluster.ID
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(info.DockerRootDir, &disk); err == nil {
		f.DiskPath = info.DockerRootDir
		f.DiskFree, f.DiskTotal = disk.Bavail*uint64(disk.Bsize), disk.Blocks*uint64(disk.Bsize)
	}
	return nil
}

// Install runs apt-get.
func (m *machine) Install(ctx context.Context, packages []string) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	if !m.updated {
		if err := aptGet(ctx, "update"); err != nil {
			return err
		}
		m.updated = true
	}
	return aptGet(ctx, append([]string{"install", "-y", "--no-install-recommends", "--"}, packages...)...)
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	// A package half installed is worse than a moment's patience.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLines(out, 3))
	}
	return nil
}

// lastLines returns the last n lines, joined by " | ".
func lastLines(out []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte(" | ")))
}

// WriteTimezone writes UTC, as a machine without the file has it.
func (m *machine) WriteTimezone() error {
	return os.WriteFile("/etc/timezone", []byte("Etc/UTC\n"), 0o644)
}

// InitSwarm makes a swarm that listens on the loopback address only.
func (m *machine) InitSwarm(ctx context.Context) (string, error) {
	docker, err := m.Client()
	if err != nil {
		return "", err
	}
	defer docker.Close()
	if _, err := EnsureSwarm(ctx, docker); err != nil {
		return "", err
	}
	cluster, err := docker.SwarmInspect(ctx)
	return cluster.ID, err
}

// LeaveSwarm leaves the swarm, unless there are services.
func (m *machine) LeaveSwarm(ctx context.Context) (bool, error) {
	docker, err := m.Client()
	if err != nil {
		return false, err
	}
	defer docker.Close()
	return leaveSwarm(ctx, docker)
}

// errNotStarted is for a daemon that ended while it was waited for.
func errNotStarted(log string) error {
	data, _ := os.ReadFile(log)
	return ccci.Errorf(ccci.CodeInfra, "dockerd ended at once: %s", lastLines(data, 3)).WithHint("read %s", log)
}
