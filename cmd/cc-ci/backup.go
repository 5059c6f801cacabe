package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	dockerswarm "github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/backup"
	"github.com/recipe-maintainers/cc-ci/internal/box"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/swarm"
)

type backupCmd struct{}

func (backupCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	password, err := cfg.ReadSecret(cfg.Reconcile.Backup.Password)
	if err != nil {
		return err
	}
	ctx, life := a.begin()
	defer life.stop()
	docker, err := dockerClient()
	if err != nil {
		return err
	}
	defer docker.Close()
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	p := &platform{cfg: cfg, docker: docker, log: a.logger(cfg)}
	if err := p.findLocks(ctx); err != nil {
		return orInterrupted(life, err)
	}
	say := func(format string, args ...any) { fmt.Fprintf(a.stdout, format+"\n", args...) }
	return orInterrupted(life, p.backUp(ctx, program, password, say))
}

// backUp makes a snapshot of every stack on this machine whose labels ask for it (A26),
// each on its own: one that fails does not keep the others from theirs. Apps of
// runs are left out, they are backed up by their runs.
func (p *platform) backUp(ctx context.Context, program string, password ccci.Secret, say func(format string, args ...any)) error {
	stacks, err := p.labelledStacks(ctx)
	if err != nil {
		return err
	}
	if len(stacks) == 0 {
		say("nothing to do: no stack on this machine has the label backupbot.backup=true")
		return nil
	}
	restic, err := exec.LookPath("restic")
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "there is no restic on this machine").WithHint("install it (Debian: apt-get install restic)")
	}
	image, err := box.Ensure(ctx, p.docker, program, restic)
	if err != nil {
		return err
	}
	// The helper container is labelled as a run's, and the janitor leaves it alone while
	// this lock is held.
	run := ccci.RunID("backup-" + time.Now().UTC().Format("060102-150405"))
	lock, err := harness.LockRun(ctx, p.lockDir, run)
	if err != nil {
		return err
	}
	defer lock.Release()
	deployer, err := swarm.New(swarm.Options{RunID: run, Docker: p.docker, Logger: p.log})
	if err != nil {
		return err
	}
	bot := backup.NewApp(backup.Options{
		Docker: p.docker, Box: image, RunID: run, Logger: p.log, Repo: backup.Repo{Dir: p.cfg.Reconcile.Backup.Repository}, Password: password,
	}, deployer)
	defer bot.Close(context.WithoutCancel(ctx))
	var errs []error
	for _, stack := range stacks {
		if err := backUpStack(ctx, bot, stack, say); err != nil {
			errs = append(errs, fmt.Errorf("backing up %s: %w", stack.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func backUpStack(ctx context.Context, bot *backup.App, stack *recipe.Stack, say func(format string, args ...any)) error {
	id, err := bot.Create(ctx, stack)
	if err != nil {
		return err
	}
	content, err := bot.Inspect(ctx, id, nil)
	if err != nil {
		return err
	}
	if len(content.Problems) > 0 {
		return ccci.Errorf(ccci.CodeRecipe, "snapshot %.8s lacks something: %s", id, strings.Join(content.Problems, "; "))
	}
	say("%s: snapshot %.8s", stack.Name, id)
	return nil
}

// labelledStacks returns the stacks whose labels ask for a backup, by name, as far as what
// is deployed tells.
func (p *platform) labelledStacks(ctx context.Context) ([]*recipe.Stack, error) {
	services, err := p.docker.ServiceList(ctx, dockerswarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("label", stackLabel))})
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "listing what is deployed: %w", err).WithHint("start Docker, or point DOCKER_HOST to it")
	}
	byName := map[string]*recipe.Stack{}
	for _, s := range services {
		if s.Spec.Labels[harness.RunLabel] != "" {
			continue
		}
		name := s.Spec.Labels[stackLabel]
		if byName[name] == nil {
			byName[name] = &recipe.Stack{Name: name, Config: &types.Config{Volumes: map[string]types.VolumeConfig{}}}
		}
		addService(byName[name], s.Spec)
	}
	var stacks []*recipe.Stack
	for _, stack := range byName {
		plan, err := backup.PlanOf(stack)
		if err != nil {
			return nil, fmt.Errorf("reading the labels of %s: %w", stack.Name, err)
		}
		if plan.Enabled {
			stacks = append(stacks, stack)
		}
	}
	slices.SortFunc(stacks, func(a, b *recipe.Stack) int { return strings.Compare(a.Name, b.Name) })
	return stacks, nil
}

// stackLabel is Docker's own, for the members of a stack.
const stackLabel = "com.docker.stack.namespace"

// addService adds a deployed service to a stack: its labels and volumes, by the names that they
// have in the compose file. A volume without the stack's prefix is not the stack's own.
func addService(stack *recipe.Stack, spec dockerswarm.ServiceSpec) {
	if version := spec.Labels[stack.LabelName("version")]; version != "" {
		stack.Version = version
	}
	service := types.ServiceConfig{Name: strings.TrimPrefix(spec.Name, stack.Name+"_"), Deploy: types.DeployConfig{Labels: spec.Labels}}
	if c := spec.TaskTemplate.ContainerSpec; c != nil {
		for _, m := range c.Mounts {
			if m.Type != mount.TypeVolume || m.Source == "" {
				continue
			}
			key, own := strings.CutPrefix(m.Source, stack.Name+"_")
			service.Volumes = append(service.Volumes, types.ServiceVolumeConfig{Type: "volume", Source: key, Target: m.Target})
			stack.Config.Volumes[key] = types.VolumeConfig{Name: m.Source, External: types.External{External: !own}}
		}
	}
	stack.Config.Services = append(stack.Config.Services, service)
}
