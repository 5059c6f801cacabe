// Package backup does what backup-bot-two does for an app: it reads the same
// labels (contract version 2), runs the same hooks in the app's containers, and
// keeps snapshots with restic.
//
// [PlanOf] reads the labels and touches nothing. A [Backup] carries a plan out
// for one run, with restic in a container that mounts the app's volumes, so
// neither root nor access to Docker's own directory is needed. [Verify] judges
// what a snapshot holds: a backup that ends well and lacks the database is the
// commonest failure there is.
package backup

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Plan is what the labels of one stack ask for.
type Plan struct {
	Stack    string // stack name
	Version  string // of the recipe; "" when it states none
	Enabled  bool   // some service says backupbot.backup=true
	Volumes  []Volume
	Excluded []string // keys of volumes that labels exclude

	// Hooks, in the order of services by name.
	BackupPre, BackupPost   []Hook
	RestorePre, RestorePost []Hook

	// Warnings name labels that do not do what their author thinks.
	Warnings []recipe.Warning
}

// Volume is a volume to back up.
type Volume struct {
	Key   string   // in the compose file, and in labels
	Name  string   // on the daemon
	Paths []string // relative to the volume's root, clean; empty: the whole volume
	// Dumped is true when a service that mounts the volume has a backup pre-hook
	// and Paths limit what is taken: then the hook writes what Paths name.
	Dumped bool
	// At is the directory of the volume within a snapshot, absolute; "" stands for
	// the one that it has on a host where backup-bot-two runs.
	At string
}

// Hook is a command line for sh in a service's container.
type Hook struct {
	Service string // of the compose file
	Command string
}

// Root is the directory of a volume within a snapshot.
func (v Volume) Root() string { return cmp.Or(v.At, "/var/lib/docker/volumes/"+v.Name+"/_data") }

// Targets are the absolute paths of a volume within a snapshot.
func (v Volume) Targets() []string {
	if len(v.Paths) == 0 {
		return []string{v.Root()}
	}
	var all []string
	for _, p := range v.Paths {
		all = append(all, path.Join(v.Root(), p))
	}
	return all
}

// PlanOf reads the labels of the deployed services (deploy.labels, after interpolation).
//
// One service that says backupbot.backup=true switches the whole stack on; hooks and
// volume labels count on every service. All named volumes that the stack owns
// and some service mounts are taken, but for those that a label excludes. A label that
// cannot be read is an Error with CodeRecipe, as of [recipe.Stack.BackupLabels].
func PlanOf(stack *recipe.Stack) (Plan, error) {
	plan := Plan{Stack: stack.Name, Version: stack.Version}
	if stack.Config == nil {
		return plan, nil
	}
	services := slices.SortedFunc(slices.Values(stack.Config.Services), func(a, b types.ServiceConfig) int {
		return cmp.Compare(a.Name, b.Name)
	})
	r := reader{plan: &plan, volumes: map[string]*choice{}}
	r.ownVolumes(stack, services)
	for _, svc := range services {
		if err := r.service(stack, svc); err != nil {
			return Plan{}, err
		}
	}
	r.finish(services)
	return plan, nil
}

// choice is what labels say about one volume.
type choice struct {
	name     string
	excluded bool
	paths    []string
	by       string // service whose label gave the paths
}

type reader struct {
	plan    *Plan
	volumes map[string]*choice // by key
	enabled []string           // services that switch the backup on
}

func (r *reader) warn(format string, args ...any) {
	r.plan.Warnings = append(r.plan.Warnings, recipe.Warning{Message: ccci.Errorf("", format, args...).Message})
}

// ownVolumes finds the named volumes that are mounted and belong to the stack.
func (r *reader) ownVolumes(stack *recipe.Stack, services []types.ServiceConfig) {
	for _, svc := range services {
		for _, m := range svc.Volumes {
			if m.Type != "volume" || m.Source == "" || r.volumes[m.Source] != nil {
				continue
			}
			declared := stack.Config.Volumes[m.Source]
			if declared.External.External {
				r.warn("service %s: volume %s is external; the backup does not take it", svc.Name, m.Source)
				continue
			}
			r.volumes[m.Source] = &choice{name: cmp.Or(declared.Name, stack.Name+"_"+m.Source)}
		}
	}
}

// service reads one service's labels.
func (r *reader) service(stack *recipe.Stack, svc types.ServiceConfig) error {
	labels, err := stack.BackupLabels(svc.Name, svc.Deploy.Labels)
	if err != nil {
		return err
	}
	for _, label := range labels {
		switch label.Kind {
		case recipe.BackupSwitch:
			if label.Empty {
				r.warn("service %s: label %s is empty and counts as false", svc.Name, label.Key)
			}
			if label.On {
				r.enabled = append(r.enabled, svc.Name)
			}
		case recipe.BackupVolume, recipe.BackupPaths:
			r.volume(svc.Name, label)
		case recipe.BackupHook:
			r.hook(svc.Name, label)
		case recipe.BackupV1:
			r.warn("service %s: label %s is from version 1 of the contract and has no effect; use backupbot.backup.volumes.<volume>.path and pre-hook", svc.Name, label.Key)
		default:
			r.warn("service %s: label %s is not part of the contract and has no effect; there are backupbot.backup, backupbot.backup.volumes.<volume>[.path], and pre-hook and post-hook of backupbot.backup and backupbot.restore", svc.Name, label.Key)
		}
	}
	return nil
}

func (r *reader) hook(service string, label recipe.BackupLabel) {
	if label.Empty {
		r.warn("service %s: label %s is empty", service, label.Key)
		return
	}
	hooks := map[string]*[]Hook{
		recipe.BackupPreHook: &r.plan.BackupPre, recipe.BackupPostHook: &r.plan.BackupPost,
		recipe.RestorePreHook: &r.plan.RestorePre, recipe.RestorePostHook: &r.plan.RestorePost,
	}[label.Key]
	*hooks = append(*hooks, Hook{Service: service, Command: label.Value})
}

// volume reads what a label says about a volume.
func (r *reader) volume(service string, label recipe.BackupLabel) {
	c := r.volumes[label.Volume]
	if c == nil {
		r.warn("service %s: label %s names a volume that the stack does not have", service, label.Key)
		return
	}
	if label.Kind == recipe.BackupVolume {
		if label.Empty {
			r.warn("service %s: label %s is empty and counts as true", service, label.Key)
		}
		c.excluded = c.excluded || !label.On
		return
	}
	if c.paths != nil && !slices.Equal(c.paths, label.Paths) {
		r.warn("services %s and %s limit volume %s to different paths; both are taken", c.by, service, label.Volume)
	}
	c.by = service
	for _, p := range label.Paths {
		if !slices.Contains(c.paths, p) {
			c.paths = append(c.paths, p)
		}
	}
}

// finish orders the volumes and judges the whole.
func (r *reader) finish(services []types.ServiceConfig) {
	r.plan.Enabled = len(r.enabled) > 0
	if len(r.enabled) > 1 {
		r.warn("services %s all say %s; the contract wants it on one", strings.Join(r.enabled, ", "), recipe.BackupEnable)
	}
	for _, key := range slices.Sorted(maps.Keys(r.volumes)) {
		c := r.volumes[key]
		if c.excluded {
			r.plan.Excluded = append(r.plan.Excluded, key)
			if c.paths != nil {
				r.warn("volume %s is excluded and limited to paths at once; it is excluded", key)
			}
			continue
		}
		v := Volume{Key: key, Name: c.name, Paths: c.paths}
		if slices.Contains(v.Paths, ".") {
			v.Paths = nil // the root is the whole
		}
		v.Dumped = len(v.Paths) > 0 && slices.ContainsFunc(services, func(svc types.ServiceConfig) bool {
			return mounts(svc, key) && slices.ContainsFunc(r.plan.BackupPre, func(h Hook) bool { return h.Service == svc.Name })
		})
		r.plan.Volumes = append(r.plan.Volumes, v)
	}
	hooks := len(r.plan.BackupPre) + len(r.plan.BackupPost) + len(r.plan.RestorePre) + len(r.plan.RestorePost)
	if !r.plan.Enabled && hooks > 0 {
		r.warn("there are backup hooks, and no service says %s=true; nothing is backed up", recipe.BackupEnable)
	}
}

func mounts(svc types.ServiceConfig, key string) bool {
	return slices.ContainsFunc(svc.Volumes, func(m types.ServiceVolumeConfig) bool { return m.Type == "volume" && m.Source == key })
}
