package localengine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process names a process beyond the reuse of its number and beyond reboots.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot
	Boot  string `json:"boot"`  // the kernel's identifier of this boot
}

// processOf describes a living process; the zero process when there is none.
func processOf(pid int) process {
	start, zombie, err := readStat(pid)
	if err != nil || zombie {
		return process{}
	}
	return process{PID: pid, Start: start, Boot: bootID()}
}

// alive reports whether this very process still runs. A zombie does not.
func (p process) alive() bool { return p.PID != 0 && processOf(p.PID) == p }

func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// readStat reads the start time, field 22 of /proc/PID/stat, and whether the
// process is a zombie; see proc(5). The name in field 2 may hold anything, so
// fields are counted after its last parenthesis.
func readStat(pid int) (start uint64, zombie bool, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false, err
	}
	return parseStat(data)
}

func parseStat(data []byte) (start uint64, zombie bool, err error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, false, fmt.Errorf("reading a process's state: no name in %q", data)
	}
	fields := bytes.Fields(data[end+1:])
	if len(fields) < 20 {
		return 0, false, fmt.Errorf("reading a process's state: %d fields after the name", len(fields))
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return start, fields[0][0] == 'Z' || fields[0][0] == 'X', err
}

// end asks the process to end and waits until it is gone; when grace is over it
// kills the process's group. It reports false when ctx ended first.
func (p process) end(ctx context.Context, grace time.Duration) bool {
	if !p.alive() {
		return true
	}
	// The descriptor holds on to the process: after the second look, signals
	// cannot reach another one that got its number.
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err == unix.EINVAL { // before Linux 5.10
		fd, err = unix.PidfdOpen(p.PID, 0)
	}
	if err != nil {
		return p.endByPolling(ctx, grace)
	}
	defer unix.Close(fd)
	if !p.alive() {
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

// endByPolling is end for kernels without process file descriptors.
func (p process) endByPolling(ctx context.Context, grace time.Duration) bool {
	unix.Kill(p.PID, unix.SIGTERM)
	kill := time.NewTimer(grace)
	defer kill.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for p.alive() {
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
func findMarked(dir string) process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return process{}
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
			return processOf(pid)
		}
	}
	return process{}
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
