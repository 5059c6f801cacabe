package swarm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// N3: what ended by itself counts, once, in every service and for the whole of the run.
func TestN3_EndedTasksAreCountedOnce(t *testing.T) {
	task := func(id, service string, state swarm.TaskState, size int) swarm.Task {
		return swarm.Task{
			ID: id, ServiceID: service, Status: swarm.TaskStatus{State: state},
			Spec: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Args: []string{strings.Repeat("x", size)}}},
		}
	}
	onNetwork := func(id string) swarm.Task {
		one := task(id, "s", swarm.TaskStateFailed, 1)
		network := swarm.Network{Spec: swarm.NetworkSpec{Annotations: swarm.Annotations{Labels: map[string]string{"x": strings.Repeat("x", 600)}}}}
		one.NetworksAttachments = []swarm.NetworkAttachment{{Network: network}}
		return one
	}
	complaining := func(id string) swarm.Task {
		one := task(id, "s", swarm.TaskStateRejected, 1)
		one.Status.Err = strings.Repeat("x", 600)
		return one
	}
	many := func(state swarm.TaskState, n, size int) (all []swarm.Task) {
		for i := range n {
			all = append(all, task(fmt.Sprint(state, i), "s", state, size))
		}
		return all
	}
	for name, c := range map[string]struct {
		polls [][]swarm.Task
		want  string
	}{
		"none":                       {nil, ""},
		"as many as may":             {[][]swarm.Task{many(swarm.TaskStateFailed, 5, 1)}, ""},
		"one more":                   {[][]swarm.Task{many(swarm.TaskStateFailed, 6, 1)}, "6 tasks of the run have ended, at most 5 may"},
		"the same ones again":        {[][]swarm.Task{many(swarm.TaskStateFailed, 4, 1), many(swarm.TaskStateFailed, 4, 1)}, ""},
		"those that swarm forgot":    {[][]swarm.Task{many(swarm.TaskStateFailed, 4, 1), many(swarm.TaskStateRejected, 2, 1)}, "6 tasks"},
		"exit code 0":                {[][]swarm.Task{many(swarm.TaskStateComplete, 6, 1)}, "6 tasks"},
		"those that swarm stopped":   {[][]swarm.Task{many(swarm.TaskStateShutdown, 20, 1), many(swarm.TaskStateRunning, 20, 1)}, ""},
		"few with a large one":       {[][]swarm.Task{many(swarm.TaskStateFailed, 2, 600)}, "2 tasks of the run have ended, and their specifications have 1."},
		"with a large network":       {[][]swarm.Task{{onNetwork("a"), onNetwork("b")}}, "2 tasks of the run have ended, and their specifications have 1."},
		"with a long error":          {[][]swarm.Task{{complaining("a"), complaining("b")}}, "2 tasks of the run have ended, and their specifications have 1."},
		"the same large one again":   {[][]swarm.Task{many(swarm.TaskStateFailed, 1, 600), many(swarm.TaskStateFailed, 1, 600)}, ""},
		"large ones that still run":  {[][]swarm.Task{many(swarm.TaskStateRunning, 20, 600)}, ""},
		"one that ends after a poll": {[][]swarm.Task{many(swarm.TaskStateRunning, 6, 1), many(swarm.TaskStateFailed, 5, 1), {task("running5", "s", swarm.TaskStateFailed, 1)}}, "6 tasks"},
	} {
		d, err := New(Options{RunID: "r", Docker: &client.Client{}, Ceilings: Ceilings{Ended: 5, EndedSpecs: 1000}})
		if err != nil {
			t.Fatal(err)
		}
		for _, tasks := range c.polls {
			d.endings.count(tasks)
		}
		if got := d.endings.exceeded(); got != c.want && (c.want == "" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// N3: a run whose tasks end too often is ended also when nothing waits for its app any more.
func TestN3_EndedTasksEndTheRun(t *testing.T) {
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	app := harness.App{RunID: "010203-040506-e4ded0", StackName: "ended_ci_test"}
	d := newDeployer(t, cli, app.RunID)
	d.o.Ceilings.Ended = 12
	defer func() {
		if _, err := d.Remove(context.Background(), app); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}()
	compose := `
version: "3.8"
services:
  app: {image: IMAGE, networks: [inside], healthcheck: {test: ["CMD", "/app", "exit", "1"], interval: 10s, retries: 100}}
  job: {image: IMAGE, command: [exit, "0"], networks: [inside], deploy: {replicas: 2, restart_policy: {delay: 100ms}}}
networks: {inside: {}}
`
	stack := deploytest.Stack(t, app.StackName, t.TempDir(), strings.ReplaceAll(compose, "IMAGE", img))
	if _, err := d.Pull(t.Context(), stack); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := d.Deploy(ctx, stack)
	t.Log(err)
	select {
	case err = <-d.Exceeded():
	case <-time.After(2 * time.Minute):
		t.Fatal("its tasks end without end")
	}
	const want = "task limit: 1"
	if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "service ended_ci_test_job 1") ||
		!strings.Contains(err.Error(), "exit code 0") || !strings.Contains(ccci.HintOf(err), "restart_policy") {
		t.Errorf("%v, hint %q", err, ccci.HintOf(err))
	}
	t.Log(err)
}
