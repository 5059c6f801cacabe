package swarm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// endings counts the run's tasks that ended by themselves, from the first Deploy to Remove. Swarm
// replaces each of them, and writes the specification of both to its log at each change of their
// state. dockerd keeps that log in memory and on disk beyond the run. So the number of such tasks
// is bounded, and the size of their specifications together.
//
// Swarm waits for Ceilings.RestartDelay before it replaces a task, and it keeps the last ended ones
// of each slot (five tasks, unless the operator chose otherwise): a poll each endingsInterval misses none.
type endings struct {
	background
	d *Deployer

	seen     map[string]bool // tasks, by id
	services map[string]int  // how many of them, by service id
	bytes    int64           // their specifications
	words    string          // of the last one
}

const endingsInterval = time.Second

func (e *endings) start() { e.background.start(e.watch) }

func (e *endings) watch(ctx context.Context) {
	ours := filters.NewArgs(filters.Arg("label", LabelRun+"="+string(e.d.o.RunID)))
	ticker := time.NewTicker(endingsInterval)
	defer ticker.Stop()
	for {
		tasks, err := e.d.docker.TaskList(ctx, swarm.TaskListOptions{Filters: ours})
		if err != nil && ctx.Err() == nil { // the next poll counts what this one missed
			e.d.log.Warn("counting the ended tasks of the run", "error", err)
		}
		e.count(tasks)
		if exceeded := e.exceeded(); exceeded != "" {
			e.d.endRun(ctx, e.fault(ctx, exceeded))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// count notes the tasks that have ended by themselves, each once.
func (e *endings) count(tasks []swarm.Task) {
	for _, t := range tasks {
		if e.seen[t.ID] || !failedState(t.Status.State) && t.Status.State != swarm.TaskStateComplete {
			continue
		}
		e.seen[t.ID] = true
		e.services[t.ServiceID]++
		e.words = cmp.Or(taskWords(t), "exit code 0")
		// The attachments hold a copy of each network, with its labels; the status why the container did
		// not start, which may quote its whole command several times.
		for _, part := range []any{t.Spec, t.NetworksAttachments, t.Status} {
			if text, err := json.Marshal(part); err == nil {
				e.bytes += int64(len(text))
			}
		}
	}
}

// exceeded states which limit is exceeded, "" when none is.
func (e *endings) exceeded() string {
	c := e.d.o.Ceilings
	switch n := int64(len(e.seen)); {
	case n > c.Ended:
		return fmt.Sprintf("%d tasks of the run have ended, at most %d may", n, c.Ended)
	case e.bytes > c.EndedSpecs:
		return fmt.Sprintf("%d tasks of the run have ended, and their specifications have %s together, at most %s are allowed", n, bytesText(e.bytes), bytesText(c.EndedSpecs))
	}
	return ""
}

// fault blames the recipe and names the services with the most ended tasks.
func (e *endings) fault(ctx context.Context, exceeded string) error {
	names := map[string]string{}
	services, err := e.d.docker.ServiceList(ctx, swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("label", LabelRun+"="+string(e.d.o.RunID)))})
	if err != nil {
		e.d.log.Warn("naming the services whose tasks ended", "error", err)
	}
	for _, s := range services {
		names[s.ID] = s.Spec.Name
	}
	ids := slices.SortedFunc(maps.Keys(e.services), func(a, b string) int {
		return cmp.Or(e.services[b]-e.services[a], strings.Compare(a, b))
	})
	var most []string
	for _, id := range ids[:min(3, len(ids))] {
		most = append(most, fmt.Sprintf("service %s %d", cmp.Or(names[id], id), e.services[id]))
	}
	return ccci.Errorf(ccci.CodeRecipe, "task limit: %s: %s; the last one: %s", exceeded, strings.Join(most, ", "), e.words).
		WithHint("the containers of these services end again and again: read their log lines; a service that is meant to end needs restart_policy.condition none or on-failure")
}
