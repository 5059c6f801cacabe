package harness

import (
	"context"
	"fmt"
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

// canary is one such file, where a service sees it. It must survive the upgrade;
// from a volume that is backed up as a whole it must come back by the restore too.
type canary struct {
	volume, service, path string
	restored              bool
}

// canariesOf lists where the canaries of a stack go.
func canariesOf(stack *recipe.Stack, plan BackupPlan) []canary {
	var list []canary
	for _, volume := range plan.Volumes {
		if service, target, ok := mountOf(stack, volume.Key); ok {
			list = append(list, canary{volume.Key, service, path.Join(target, canaryFile), len(volume.Paths) == 0})
		}
	}
	return list
}

// mountOf finds a service that writes to a volume, and where.
func mountOf(stack *recipe.Stack, volume string) (service, target string, ok bool) {
	for _, s := range stack.Config.Services {
		if s.Deploy.Replicas != nil && *s.Deploy.Replicas == 0 {
			continue
		}
		for _, v := range s.Volumes {
			if v.Type == "volume" && v.Source == volume && !v.ReadOnly {
				return s.Name, v.Target, true
			}
		}
	}
	return "", "", false
}

// restorable leaves the canaries that a backup holds.
func restorable(all []canary) []canary {
	return slices.DeleteFunc(slices.Clone(all), func(c canary) bool { return !c.restored })
}

func (l *life) writeCanaries(ctx context.Context, canaries []canary, text string) error {
	for _, c := range canaries {
		if err := l.Deployer.CopyIn(ctx, l.current, c.service, map[string][]byte{c.path: []byte(text)}); err != nil {
			return fmt.Errorf("writing a canary into volume %s: %w", c.volume, err)
		}
	}
	return nil
}

func (l *life) readCanaries(ctx context.Context, canaries []canary, want string) error {
	for _, c := range canaries {
		service := c.service
		if !hasService(l.current, service) {
			s, target, ok := mountOf(l.current, c.volume)
			if !ok {
				return &checks.Failure{Message: fmt.Sprintf("no service mounts volume %s any more: what was in it is lost", c.volume)}
			}
			service, c.path = s, path.Join(target, canaryFile)
		}
		got, err := l.Deployer.CopyOut(ctx, l.current, service, c.path, canaryLimit)
		if err != nil {
			return &checks.Failure{Message: fmt.Sprintf("the canary file in volume %s is gone (%s in service %s): %v", c.volume, c.path, service, err)}
		}
		if strings.TrimSpace(string(got)) != want {
			return &checks.Failure{Message: fmt.Sprintf("the canary file in volume %s holds %q, expected %q", c.volume, firstLine(string(got), 80), want)}
		}
	}
	return nil
}

func hasService(stack *recipe.Stack, name string) bool {
	for _, s := range stack.Config.Services {
		if s.Name == name {
			return true
		}
	}
	return false
}
