package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// execOutput is how much of each stream of a command is kept.
const execOutput = 1 << 20

// Exec runs a command in the newest running container of a service. A container that
// stops between the choice and the start is answered by the daemon with a conflict;
// then the next one is waited for, since swarm is about to start it. A command
// that outlives its Timeout is killed and is an Error with CodeRecipe, together
// with what it printed so far.
func (d *Deployer) Exec(ctx context.Context, stack *recipe.Stack, cmd harness.ExecCmd) (harness.ExecResult, error) {
	activity := fmt.Sprintf("running %s in %s", clip(strings.Join(cmd.Args, " "), 80), cmd.Service)
	if err := d.check(ctx); err != nil {
		return harness.ExecResult{}, err
	}
	if len(cmd.Args) == 0 {
		return harness.ExecResult{}, ccci.Errorf(ccci.CodeInvalid, "running a command in %s: there is no command", cmd.Service)
	}
	limited := ctx
	if cmd.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, cmd.Timeout)
		defer cancel()
	}
	for {
		running, err := d.runningContainer(limited, stack, cmd.Service)
		if err != nil {
			return harness.ExecResult{}, err
		}
		result, err := d.execIn(limited, running.ID, cmd)
		switch {
		case err == nil:
			return result, nil
		case errors.Is(err, errBetweenTasks) && d.sleep(limited) == nil:
			continue
		case limited.Err() != nil && ctx.Err() == nil:
			return result, (&ccci.Error{
				Code:    ccci.CodeRecipe,
				Message: fmt.Sprintf("%s: it did not end within %s and was killed", activity, ccci.DurationWords(cmd.Timeout)),
				Err:     limited.Err(),
			}).WithHint("give the step a longer time-out, or look at what it waits for")
		}
		return result, d.fault(activity, err)
	}
}

// errBetweenTasks says that the chosen container was gone before the command started.
var errBetweenTasks = errors.New("the container is not running")

// runningContainer waits for a running container of a service and returns the newest.
func (d *Deployer) runningContainer(ctx context.Context, stack *recipe.Stack, service string) (container.Summary, error) {
	name := stack.Name + "_" + service
	for {
		list, err := d.docker.ContainerList(ctx, container.ListOptions{
			Filters: filters.NewArgs(filters.Arg("label", labelServiceName+"="+name), filters.Arg("status", "running")),
		})
		if err != nil && ctx.Err() == nil {
			return container.Summary{}, d.fault("looking for a container of "+service, err)
		}
		if len(list) > 0 {
			return slices.MaxFunc(list, func(a, b container.Summary) int { return int(a.Created - b.Created) }), nil
		}
		if err := d.absent(ctx, name, service); err != nil {
			return container.Summary{}, err
		}
		if d.sleep(ctx) != nil {
			return container.Summary{}, &ccci.Error{
				Code:    ccci.CodeRecipe,
				Message: fmt.Sprintf("looking for a running container of service %s: there was none in time", service),
				Err:     context.Cause(ctx),
			}
		}
	}
}

// absent is an error when waiting for a container of a service is in vain.
func (d *Deployer) absent(ctx context.Context, name, service string) error {
	services, err := d.docker.ServiceList(ctx, swarmNamed(name))
	if err != nil {
		if ctx.Err() != nil {
			return nil // the caller says so
		}
		return d.fault("looking for service "+service, err)
	}
	for _, s := range services {
		if s.Spec.Name != name {
			continue
		}
		if r := s.Spec.Mode.Replicated; r != nil && r.Replicas != nil && *r.Replicas == 0 {
			return ccci.Errorf(ccci.CodeRecipe, "looking for a container of service %s: it has none, since its replicas are 0", service)
		}
		return nil
	}
	return ccci.Errorf(ccci.CodeNotFound, "looking for a container of service %s: no such service is deployed", service)
}

func (d *Deployer) execIn(ctx context.Context, id string, cmd harness.ExecCmd) (harness.ExecResult, error) {
	var result harness.ExecResult
	user, err := d.execUser(ctx, id, cmd.User)
	if err != nil {
		return result, betweenTasks(err)
	}
	made, err := d.docker.ContainerExecCreate(ctx, id, container.ExecOptions{
		User: user, Env: cmd.Env, Cmd: cmd.Args,
		AttachStdin: cmd.Stdin != nil, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return result, betweenTasks(err)
	}
	conn, err := d.docker.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return result, betweenTasks(err)
	}
	defer conn.Close()

	stdout, stderr := &headBuffer{limit: execOutput}, &headBuffer{limit: execOutput}
	done := make(chan error, 1)
	go func() {
		_, err := stdcopy.StdCopy(stdout, stderr, conn.Reader)
		done <- err
	}()
	if cmd.Stdin != nil {
		go func() {
			// A command may end without reading its input; its exit code tells the rest.
			_, _ = conn.Conn.Write(cmd.Stdin)
			_ = conn.CloseWrite()
		}()
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		d.killExec(ctx, id, made.ID)
		conn.Close()
		<-done
		err = ctx.Err()
	}
	result.Stdout, result.Stderr = stdout.data, stderr.data
	if err != nil {
		return result, err
	}
	result.ExitCode, err = d.exitCode(ctx, made.ID)
	return result, startFailure(result, err)
}

// execUser is the user that dockerd is told for a command: none where that is the same. For a user, also a number, it
// opens /etc/passwd and /etc/group of the container as root of the host, by a path that the app can change
// meanwhile: once for that of the container, twice for another.
func (d *Deployer) execUser(ctx context.Context, id, user string) (string, error) {
	if user == "" {
		return "", nil
	}
	seen, err := d.docker.ContainerInspect(ctx, id)
	if err != nil {
		return "", err
	}
	root := slices.Contains([]string{"root", "0", "0:0", "root:root"}, user)
	if seen.Config != nil && (seen.Config.User == user || seen.Config.User == "" && root) {
		return "", nil
	}
	return user, nil
}

// exitCode waits for the daemon to note that a command has ended: its output
// may close a moment earlier.
func (d *Deployer) exitCode(ctx context.Context, exec string) (int, error) {
	for {
		info, err := d.docker.ContainerExecInspect(ctx, exec)
		if err != nil || !info.Running {
			return info.ExitCode, err
		}
		if err := d.sleep(ctx); err != nil {
			return 0, err
		}
	}
}

// startFailure finds, in a command that never started, the container's end as its
// cause. The daemon reports that as exit code 126 or 127 with its own text.
func startFailure(r harness.ExecResult, err error) error {
	if err != nil {
		return err
	}
	text := string(r.Stdout) + string(r.Stderr)
	if r.ExitCode >= 126 && strings.Contains(text, "OCI runtime exec failed") &&
		(strings.Contains(text, "stopped container") || strings.Contains(text, "not running")) {
		return errBetweenTasks
	}
	return nil
}

func betweenTasks(err error) error {
	if cerrdefs.IsConflict(err) || cerrdefs.IsNotFound(err) || strings.Contains(err.Error(), "is not running") {
		return fmt.Errorf("%w: %w", errBetweenTasks, err)
	}
	return err
}

// killExec ends a command that has outlived its time. The API has no call for that,
// so its process and their children are killed from here; where the daemon's
// processes cannot be seen they end with their container.
func (d *Deployer) killExec(ctx context.Context, containerID, exec string) {
	ctx, cancel := cleanupContext(ctx, 5*time.Second)
	defer cancel()
	info, err := d.docker.ContainerExecInspect(ctx, exec)
	if err == nil && info.Running && info.Pid > 0 {
		err = killTree(info.Pid, containerID)
	}
	if err != nil {
		d.log.Warn("a command outlived its time and could not be killed; it ends with its container",
			"container", containerID[:12], "error", err)
	}
}

// headBuffer keeps the first limit bytes that were written to it.
type headBuffer struct {
	data  []byte
	limit int
}

func (b *headBuffer) Write(p []byte) (int, error) {
	if room := b.limit - len(b.data); room > 0 {
		b.data = append(b.data, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

var _ io.Writer = (*headBuffer)(nil)
