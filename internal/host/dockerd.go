package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/process"
)

const (
	// startLimit bounds the time until a new daemon answers.
	startLimit = time.Minute
	// stopLimit is how long a daemon may take to end its containers and itself.
	stopLimit = 40 * time.Second
	pause     = 50 * time.Millisecond
)

// StartDocker starts the daemon: through systemd where that is in charge, else
// as a process of its own that outlives a Ctrl-C in our terminal, with its log in dataDir.
func (m *machine) StartDocker(ctx context.Context, dataDir string) (Daemon, error) {
	if m.systemd {
		if out, err := exec.CommandContext(ctx, "systemctl", "start", "docker").CombinedOutput(); err != nil {
			return Daemon{}, fmt.Errorf("systemctl start docker: %w: %s", err, lastLines(out, 3))
		}
		return Daemon{Systemd: true}, m.awaitAnswer(ctx, nil, "")
	}
	if pid := readPID(m.pidFile); pid > 0 && startTime(pid) != "" {
		// A package's own script, or another cc-ci, has just started one.
		return Daemon{}, m.awaitAnswer(ctx, nil, "")
	}
	return m.runDockerd(ctx, dataDir)
}

func (m *machine) runDockerd(ctx context.Context, dataDir string) (Daemon, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return Daemon{}, err
	}
	logName := filepath.Join(dataDir, "dockerd.log")
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return Daemon{}, err
	}
	defer log.Close()
	cmd := exec.Command(m.dockerd[0], m.dockerd[1:]...) // not bound to ctx: it stays
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Daemon{}, err
	}
	daemon := Daemon{PID: cmd.Process.Pid, Start: startTime(cmd.Process.Pid)}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return daemon, m.awaitAnswer(ctx, ended, logName)
}

// awaitAnswer returns when the daemon answers, or with an error when it ended.
func (m *machine) awaitAnswer(ctx context.Context, ended <-chan struct{}, log string) error {
	docker, err := m.Client()
	if err != nil {
		return err
	}
	defer docker.Close()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if _, err = docker.Info(ctx); err == nil {
			return nil
		}
		select {
		case <-ended:
			return errNotStarted(log)
		case <-ctx.Done():
			return ccci.Errorf(ccci.CodeInfra, "Docker does not answer within %v: %w", startLimit, err)
		case <-time.After(pause):
		}
	}
}

// Started reports whether it is still that process.
func (m *machine) Started(d Daemon) bool {
	if d.Systemd {
		return m.systemd
	}
	return d.PID > 0 && d.Start != "" && startTime(d.PID) == d.Start
}

// Self identifies this process.
func (m *machine) Self() Daemon { return Daemon{PID: os.Getpid(), Start: startTime(os.Getpid())} }

// StopDocker asks the daemon to end, which stops its containers first.
func (m *machine) StopDocker(ctx context.Context, d Daemon) error {
	if d.Systemd {
		out, err := exec.CommandContext(ctx, "systemctl", "stop", "docker.socket", "docker.service").CombinedOutput()
		if err != nil {
			return fmt.Errorf("systemctl stop docker: %w: %s", err, lastLines(out, 3))
		}
		return nil
	}
	if !m.Started(d) {
		return nil
	}
	if err := syscall.Kill(d.PID, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	for m.Started(d) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d does not end: %w", d.PID, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	return nil
}

func readPID(name string) int {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}

// startTime is when a process began, as the kernel counts, "" when there is no such
// process or it has ended and is only waited for.
func startTime(pid int) string {
	p := process.Of(pid)
	if p.PID == 0 {
		return ""
	}
	return strconv.FormatUint(p.Start, 10)
}
