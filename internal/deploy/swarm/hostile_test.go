package swarm

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/race"
)

const hostileCompose = `
version: "3.9"
services:
  app: {image: IMAGE, networks: [inside], healthcheck: {test: ["CMD", "/app", "health"], interval: 250ms, timeout: 20s, retries: 20}}
  spin: {image: IMAGE, command: [spin], networks: [inside]}
  fork: {image: IMAGE, command: [fork], networks: [inside]}
  chatter: {image: IMAGE, command: [chatter], networks: [inside]}
  hog: {image: IMAGE, command: [hog], networks: [inside]}
networks: {inside: {}}
`

// consumption is what a container has used.
type consumption struct {
	cpu            time.Duration
	memory, limit  int64
	processes, log int64
}

func consumptionOf(t *testing.T, cli *client.Client, stack string) map[string]consumption {
	t.Helper()
	list, err := cli.ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", LabelStack+"="+stack))})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]consumption{}
	for _, c := range list {
		info, err := cli.ContainerInspect(t.Context(), c.ID)
		if err != nil {
			continue // one that was killed and replaced
		}
		answer, err := cli.ContainerStatsOneShot(t.Context(), c.ID)
		if err != nil {
			continue
		}
		var s container.StatsResponse
		if json.NewDecoder(answer.Body).Decode(&s) == nil {
			u := consumption{cpu: time.Duration(s.CPUStats.CPUUsage.TotalUsage), memory: int64(s.MemoryStats.Usage), limit: int64(s.MemoryStats.Limit), processes: int64(s.PidsStats.Current)}
			files, _ := filepath.Glob(info.LogPath + "*")
			for _, f := range files {
				if fi, err := os.Stat(f); err == nil {
					u.log += fi.Size()
				}
			}
			all[c.ID+" "+c.Labels[labelServiceName]] = u
		}
		answer.Body.Close()
	}
	return all
}

// A run that takes all that it can get stays under its ceilings, and a good one beside it
// comes out green and takes at most a fifth longer.
func TestN3_AHostileRunLeavesItsNeighbourAlone(t *testing.T) {
	if race.Detector {
		t.Skip("it compares durations: .ci/test runs it when nothing else runs")
	}
	cli := docker(t)
	img := deploytest.BuildImage(t, daemon(cli))
	info, err := cli.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ceilings := Ceilings{Memory: 640 << 20, Pids: 64, Log: 1 << 20, HealthInterval: 100 * time.Millisecond}
	good := strings.NewReplacer("IMAGE", img, "NET", "inside", "OPTS", "{}").Replace(tinyCompose)

	hostile := newDeployer(t, cli, "010203-040506-badbad")
	hostile.o.Ceilings, hostile.o.Runs, hostile.o.Part = ceilings, 2, 1
	hostile.o.Ceilings.fill()
	app := harness.App{RunID: "010203-040506-badbad", StackName: "hostile_ci_test"}
	ctx, cancel := context.WithCancel(t.Context())
	var deployed sync.WaitGroup
	defer func() {
		cancel()
		deployed.Wait()
		if _, err := hostile.Remove(context.Background(), app); err != nil {
			t.Errorf("removing the hostile run: %v", err)
		}
	}()
	deployed.Go(func() {
		t.Log("the hostile run: ", pullAndDeploy(ctx, hostile, deploytest.Stack(t, app.StackName, t.TempDir(), strings.ReplaceAll(hostileCompose, "IMAGE", img))))
	})
	busy := func(name string, enough func(consumption) bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			for key, u := range consumptionOf(t, cli, app.StackName) {
				if strings.HasSuffix(key, "_"+name) && enough(u) {
					return
				}
			}
			if time.Now().After(end) {
				t.Fatalf("%s never gets to its ceiling: %+v", name, consumptionOf(t, cli, app.StackName))
			}
		}
	}
	busy("fork", func(u consumption) bool { return u.processes >= 60 })
	busy("chatter", func(u consumption) bool { return u.log > 500<<10 })
	busy("spin", func(u consumption) bool { return u.cpu > 100*time.Millisecond })

	before, started := consumptionOf(t, cli, app.StackName), time.Now()
	var paused time.Duration
	var alone, beside []time.Duration
	ratio := func() float64 { return median(beside).Seconds() / median(alone).Seconds() }
	for n := 0; n < 5 || n < 10 && ratio() > 1.2; n++ { // a busy machine needs more of them
		hostile.freeze(t.Context())
		took := goodLife(t, cli, good, ceilings)
		hostile.thaw(t)
		paused += took
		alone = append(alone, took)
		beside = append(beside, goodLife(t, cli, good, ceilings))
	}
	after, took := consumptionOf(t, cli, app.StackName), time.Since(started)-paused

	var cpu time.Duration
	for key, u := range after {
		if u.memory > u.limit || u.limit > ceilings.Memory || u.processes > 64 || u.log > ceilings.Log+ceilings.Log/2 {
			t.Errorf("%s: %+v", key, u)
		}
		cpu += u.cpu - before[key].cpu
	}
	share := cpu.Seconds() / took.Seconds()
	if most := float64(info.NCPU) / 2; share > 1.2*most {
		t.Errorf("the hostile run used %.2f processors of %.2f", share, most)
	}
	t.Logf("a life while the hostile run is paused %v, beside it %v: %.2f times; it used %.2f processors", alone, beside, ratio(), share)
	if ratio() > 1.2 {
		t.Errorf("a hostile run makes its neighbour take %.2f times as long", ratio())
	}
}

func median(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// thaw lets the tasks that freeze has paused go on.
func (d *Deployer) thaw(t *testing.T) {
	list, err := d.docker.ContainerList(t.Context(), container.ListOptions{
		Filters: filters.NewArgs(filters.Arg("label", LabelRun+"="+string(d.o.RunID)), filters.Arg("status", "paused")),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if err := d.docker.ContainerUnpause(t.Context(), c.ID); err != nil && !cerrdefs.IsNotFound(err) && !strings.Contains(err.Error(), "is not paused") { // it was killed meanwhile
			t.Error(err)
		}
	}
}

// goodLife deploys an app, lets it work, upgrades it, lets it work again and removes it. It returns how long that took.
func goodLife(t *testing.T, cli *client.Client, compose string, ceilings Ceilings) time.Duration {
	t.Helper()
	started := time.Now()
	d, app, get := tiny(t, cli, Options{Ceilings: ceilings, Runs: 2, Part: 0}, compose)
	stack := func(text string) *recipe.Stack { return deploytest.Stack(t, app.StackName, t.TempDir(), text) }
	work := func() {
		t.Helper()
		r, err := d.Exec(t.Context(), stack(compose), harness.ExecCmd{Service: "app", Args: []string{"/app", "work"}})
		if err != nil || r.ExitCode != 0 {
			t.Fatalf("work: %d, %v", r.ExitCode, err)
		}
	}
	if answer := get(); !strings.HasSuffix(answer, "one") {
		t.Errorf("the good app answers %q", answer)
	}
	work()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := d.Deploy(ctx, stack(strings.Replace(compose, "VERSION=one", "VERSION=two", 1))); err != nil {
		t.Errorf("the good app's upgrade: %v", err)
	}
	work()
	if _, err := d.Remove(t.Context(), app); err != nil {
		t.Errorf("removing the good app: %v", err)
	}
	return time.Since(started)
}
