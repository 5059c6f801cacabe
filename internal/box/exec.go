package box

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
)

// Hold is the command "cc-ci box hold": it keeps a box alive so that commands
// can be run in it, until ctx ends or the time of --for (3 h by default) is over, whichever
// is first. A box whose owner was killed thus ends by itself.
func Hold(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("box hold", flag.ContinueOnError)
	limit := flags.Duration("for", 3*time.Hour, "how long to stay at most")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	<-ctx.Done()
	return nil
}

// HoldCommand is the command line of [Hold] in a container.
func HoldCommand(limit time.Duration) []string {
	return []string{Program, "box", "hold", "--for", limit.String()}
}

// Exec runs args in a running container and returns the exit code. Its output
// goes to the two writers, of which either may be nil. When ctx ends first,
// Exec returns at once and the command dies with its container.
func Exec(ctx context.Context, docker *client.Client, id string, args, env []string, stdout, stderr io.Writer) (int, error) {
	created, err := docker.ContainerExecCreate(ctx, id, container.ExecOptions{
		Cmd: args, Env: env, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return 0, fmt.Errorf("running %s in the helper container: %w", args[0], err)
	}
	stream, err := docker.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, fmt.Errorf("running %s in the helper container: %w", args[0], err)
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, stream.Close) // a hijacked connection does not know ctx
	defer stop()

	_, err = stdcopy.StdCopy(orDiscard(stdout), orDiscard(stderr), stream.Reader)
	if ctx.Err() != nil {
		return 0, fmt.Errorf("running %s in the helper container: %w", args[0], context.Cause(ctx))
	}
	if err != nil {
		return 0, fmt.Errorf("reading the output of %s: %w", args[0], err)
	}
	return exitCode(ctx, docker, created.ID, args[0])
}

// exitCode reads how the command ended. The stream's end may be seen a moment
// before the daemon has noted the exit.
func exitCode(ctx context.Context, docker *client.Client, exec, name string) (int, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		state, err := docker.ContainerExecInspect(ctx, exec)
		if err != nil {
			return 0, fmt.Errorf("asking how %s ended: %w", name, err)
		}
		if !state.Running {
			return state.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("waiting for %s to end", name), context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
