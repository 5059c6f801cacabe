package localengine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/recipe-maintainers/cc-ci/internal/process"
)

// endProcess asks a process to end and waits until it is gone; when grace is over it
// kills the process's group. It reports false when ctx ended first.
func endProcess(ctx context.Context, p process.Process, grace time.Duration) bool {
	if !p.Alive() {
		return true
	}
	// The descriptor holds on to the process: after the second look, signals
	// cannot reach another one that got its number.
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err == unix.EINVAL { // before Linux 5.10
		fd, err = unix.PidfdOpen(p.PID, 0)
	}
	if err != nil {
		return endByPolling(ctx, p, grace)
	}
	defer unix.Close(fd)
	if !p.Alive() {
		return true
	}
	unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
	kill := time.Now().Add(grace)
	killed := false
	for ctx.Err() == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		// Returns at once when the process ends; the limit is for ctx and grace.
		if n, err := unix.Poll(poll, 100); err == nil && n > 0 {
			return true
		}
		if !killed && time.Now().After(kill) {
			killed = true
			unix.Kill(-p.PID, unix.SIGKILL)
		}
	}
	return false
}

// endByPolling is endProcess for kernels without process file descriptors.
func endByPolling(ctx context.Context, p process.Process, grace time.Duration) bool {
	unix.Kill(p.PID, unix.SIGTERM)
	kill := time.NewTimer(grace)
	defer kill.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for p.Alive() {
		select {
		case <-ctx.Done():
			return false
		case <-kill.C:
			unix.Kill(-p.PID, unix.SIGKILL)
		case <-look.C:
		}
	}
	return true
}

// marker is the variable by which the harness of a build can be found again.
func marker(dir string) string { return "CC_CI_BUILD_DIR=" + dir }

// findMarked looks for a process that was started for the build in dir, and
// leads a process group as all harnesses do.
func findMarked(dir string) process.Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return process.Process{}
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), marker(dir)) {
			continue
		}
		if group, err := unix.Getpgid(pid); err == nil && group == pid {
			return process.Of(pid)
		}
	}
	return process.Process{}
}

// passed on to a harness as they are; nothing else of the environment is, so that no
// token given to this process reaches code from a pull request.
var (
	allowed  = []string{"PATH", "HOME", "LANG", "TMPDIR", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"}
	prefixes = []string{"XDG_", "SSL_CERT_"}
)

// Environ returns the entries of an environment that a harness may see.
func Environ(environ []string) []string {
	var out []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains(allowed, name) ||
			slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			out = append(out, entry)
		}
	}
	return out
}
