package swarm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

const (
	logTail      = 20               // lines of a failed task
	mostTasks    = 3                // failed tasks that are told of
	explainLimit = 10 * time.Second // for asking the daemon why, after the deadline too
)

// deployError tells a failure in the tasks' own words.
func (d *Deployer) deployError(ctx context.Context, stack *recipe.Stack, f *failure) error {
	grace, cancel := cleanupContext(ctx, explainLimit)
	defer cancel()
	de := &harness.DeployError{Reason: f.reason}
	for i, t := range f.tasks {
		if i == mostTasks {
			break
		}
		task := d.explain(grace, f.service, t)
		de.Tasks = append(de.Tasks, task)
		// An app that ends well when swarm stops it for being unhealthy leaves
		// nothing of that in its task.
		if i == 0 && de.Reason == "restart-loop" && strings.Contains(task.Message, unhealthyWords) {
			f.reason, de.Reason = "unhealthy", "unhealthy"
			f.message = fmt.Sprintf("its task was unhealthy %d times: %s", len(f.tasks), task.Message)
		}
	}
	message := fmt.Sprintf("deploying %s: service %s: %s", stack.Name, f.service, f.message)
	if len(de.Tasks) > 0 && de.Tasks[0].Message != "" && !strings.Contains(message, de.Tasks[0].Message) {
		message += " (" + de.Tasks[0].Message + ")"
	}
	de.Err = &ccci.Error{Code: f.code, Message: message, Hint: hint(f)}
	return de
}

func hint(f *failure) string {
	if f.reason == "rejected" && f.code == ccci.CodeInfra {
		return "find what removes images while a run lives, such as a timer of docker image prune --all, and start the run again; cc-ci prune removes none meanwhile"
	}
	switch f.reason {
	case "rejected":
		return "swarm would try for ever; correct what the task complains about"
	case "rollback":
		return "the old version keeps answering while the new one fails; read the new task's log lines"
	case "paused":
		return "a new task failed while swarm watched the update; read its log lines, or allow failures in update_config"
	case "unhealthy":
		return "run the healthcheck's command inside the container; give a slow start a start_period"
	}
	return "the container ends by itself; read its log lines"
}

// explain gathers a task's words: its error, its last health probe, its last lines.
func (d *Deployer) explain(ctx context.Context, service string, t swarm.Task) harness.TaskFailure {
	out := harness.TaskFailure{Service: service, State: string(t.Status.State), Message: taskWords(t)}
	if t.Status.ContainerStatus == nil || t.Status.ContainerStatus.ContainerID == "" {
		if out.Message == "" {
			out.Message = clip(t.Status.Message, 500)
		}
		return out
	}
	id := t.Status.ContainerStatus.ContainerID
	if probe := d.lastProbe(ctx, id); probe != "" {
		out.Message = strings.TrimPrefix(out.Message+"; "+probe, "; ")
	}
	if out.Message == "" {
		out.Message = t.Status.Message
	}
	log, err := d.lastLines(ctx, id, logTail)
	if err != nil {
		d.log.Debug("no log of a failed task", "task", t.ID, "error", err)
	}
	out.Log = log
	return out
}

// unhealthyWords are swarm's own for a task that failed its healthcheck.
const unhealthyWords = "unhealthy container"

// lastProbe tells what a container's healthcheck said last, "" when it was content.
func (d *Deployer) lastProbe(ctx context.Context, id string) string {
	c, err := d.docker.ContainerInspect(ctx, id)
	if err != nil || c.State == nil || c.State.Health == nil || len(c.State.Health.Log) == 0 {
		return ""
	}
	probe := c.State.Health.Log[len(c.State.Health.Log)-1]
	if c.State.Health.Status == container.Unhealthy {
		// The last probe may have been cut off when the container was stopped.
		for _, p := range c.State.Health.Log {
			if p.ExitCode == 1 {
				probe = p
			}
		}
	}
	if probe.ExitCode == 0 {
		return ""
	}
	text := fmt.Sprintf("its healthcheck exits with %d", probe.ExitCode)
	if c.State.Health.Status == container.Unhealthy {
		text = unhealthyWords + ": " + text
	}
	if said := strings.TrimSpace(probe.Output); said != "" {
		text += ": " + clip(strings.Join(strings.Fields(said), " "), 300)
	}
	return text
}

func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
