package harness

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// canaryFile is put into every volume that belongs to the backup, so that a
// recipe nobody wrote a line of enrolment for is still tested with data (U1).
const canaryFile = ".cc-ci-canary"

// canaryLimit is the most that is read of one, in bytes: the app may write to it.
const canaryLimit = 4 << 10

// canary is one such file, in the root of a volume. It must survive the upgrade, wherever the
// head mounts the volume; from a volume that the deployed version backs up as a whole
// it must come back by the restore too.
type canary struct {
	volume   string // key in the compose file of the version that it was written under
	name     string // of the volume on the daemon; "" stands for what the key says
	restored bool
}

// canariesOf lists where the canaries of a stack go.
func canariesOf(stack *recipe.Stack, plan BackupPlan) []canary {
	var list []canary
	for _, volume := range plan.Volumes {
		if _, _, ok := mountOf(stack, volume.Key, true); ok {
			list = append(list, canary{volume.Key, stack.Config.Volumes[volume.Key].Name, len(volume.Paths) == 0})
		}
	}
	return list
}

// in finds a service that mounts the canary's volume, and the file there.
func (c canary) in(stack *recipe.Stack, writable bool) (service, file string, ok bool) {
	key := c.volume
	for _, k := range slices.Sorted(maps.Keys(stack.Config.Volumes)) {
		if name := stack.Config.Volumes[k].Name; name != "" && name == c.name {
			key = k
			break
		}
	}
	service, target, ok := mountOf(stack, key, writable)
	return service, path.Join(target, canaryFile), ok
}

// mountOf finds a service that mounts a volume, by its key, and where: one that writes to it or,
// unless it must, at least one that reads it.
func mountOf(stack *recipe.Stack, volume string, writable bool) (service, target string, ok bool) {
	for _, s := range stack.Config.Services {
		if recipe.Replicas(s) == 0 {
			continue
		}
		for _, v := range s.Volumes {
			switch {
			case v.Type != "volume" || v.Source != volume:
			case !v.ReadOnly:
				return s.Name, v.Target, true
			case !writable && !ok:
				service, target, ok = s.Name, v.Target, true
			}
		}
	}
	return service, target, ok
}

// restorable leaves the canaries that a backup holds.
func restorable(all []canary) []canary {
	return slices.DeleteFunc(slices.Clone(all), func(c canary) bool { return !c.restored })
}

// replan decides again what a backup of the deployed version holds: where the canaries of what it
// backs up are written, those that a version before it had not are written too.
func (l *life) replan(ctx context.Context) error {
	var fresh []canary
	now := canariesOf(l.current, l.plan)
	for _, c := range now {
		if !slices.ContainsFunc(l.canaries, func(old canary) bool { return old.name == c.name && (c.name != "" || old.volume == c.volume) }) {
			fresh = append(fresh, c)
		}
	}
	l.canaries = now
	return l.writeCanaries(ctx, fresh, l.marker("A"))
}

func (l *life) writeCanaries(ctx context.Context, canaries []canary, text string) error {
	for _, c := range canaries {
		service, file, ok := c.in(l.current, true)
		if !ok {
			continue // what is only read from here on stays as it is
		}
		err := within(ctx, l.settings.Timeouts.Step, "step", func(ctx context.Context) error {
			return l.Deployer.CopyIn(ctx, l.current, service, map[string][]byte{file: []byte(text)})
		})
		if err != nil {
			return fmt.Errorf("writing a canary into volume %s: %w", c.volume, err)
		}
	}
	return nil
}

func (l *life) readCanaries(ctx context.Context, canaries []canary, want string) error {
	for _, c := range canaries {
		service, file, ok := c.in(l.current, false)
		if !ok {
			return &checks.Failure{Message: fmt.Sprintf("no service that runs mounts volume %s any more, which held data before the upgrade: the app cannot reach it now", c.volume)}
		}
		var got []byte
		err := within(ctx, l.settings.Timeouts.Step, "step", func(ctx context.Context) (err error) {
			got, err = l.Deployer.CopyOut(ctx, l.current, service, file, canaryLimit)
			return err
		})
		if err != nil {
			return &checks.Failure{Message: fmt.Sprintf("the canary file in volume %s is gone (%s in service %s): %v", c.volume, file, service, err)}
		}
		if strings.TrimSpace(string(got)) != want {
			return &checks.Failure{Message: fmt.Sprintf("the canary file in volume %s holds %q, expected %q", c.volume, firstLine(string(got), 80), want)}
		}
	}
	return nil
}
