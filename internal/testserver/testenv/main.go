// Command testenv runs a command with everything that the tests need: a Docker
// daemon with a swarm, restic and Chromium. What is there is used; what is
// missing is installed (as root on Debian) and started, and what was started is
// stopped again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/host"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testenv -- COMMAND [ARG ...]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "cc-ci-testenv-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 3
	}
	defer os.RemoveAll(dir)
	h, err := host.Ensure(ctx, host.Options{DataDir: dir, AllowInstall: os.Getenv("CI") != "", Out: func(line string) { fmt.Println("testenv:", line) }})
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 3
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "testenv:", err)
		}
	}()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+h.Docker.DaemonHost())
	// A group of its own, which ends as a whole: what the command has started does not
	// outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Minute
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 3
	}
	return 0
}
