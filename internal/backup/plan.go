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
	"strconv"
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

// Label names of the contract.
const (
	labelPrefix  = "backupbot."
	labelEnable  = "backupbot.backup"
	labelVolumes = "backupbot.backup.volumes."
)

// PlanOf reads the labels of the deployed services (deploy.labels, after interpolation).
//
// One service that says backupbot.backup=true switches the whole stack on; hooks and
// volume labels count on every service. All named volumes that the stack owns
// and some service mounts are taken, but for those that a label excludes. A path that leaves its
// volume and a switch that is neither true nor false are Errors with CodeRecipe.
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
		if err := r.service(svc); err != nil {
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
func (r *reader) service(svc types.ServiceConfig) error {
	labels := svc.Deploy.Labels
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := strings.TrimSpace(labels[key])
		hook := Hook{Service: svc.Name, Command: value}
		switch {
		case !strings.HasPrefix(key, labelPrefix):
		case key == labelEnable:
			on, err := parseSwitch(svc.Name, key, value)
			if err != nil {
				return err
			}
			if on {
				r.enabled = append(r.enabled, svc.Name)
			}
		case strings.HasPrefix(key, labelVolumes):
			if err := r.volume(svc.Name, key, value); err != nil {
				return err
			}
		case value == "" && isHook(key):
			r.warn("service %s: label %s is empty", svc.Name, key)
		case key == "backupbot.backup.pre-hook":
			r.plan.BackupPre = append(r.plan.BackupPre, hook)
		case key == "backupbot.backup.post-hook":
			r.plan.BackupPost = append(r.plan.BackupPost, hook)
		case key == "backupbot.restore.pre-hook":
			r.plan.RestorePre = append(r.plan.RestorePre, hook)
		case key == "backupbot.restore.post-hook":
			r.plan.RestorePost = append(r.plan.RestorePost, hook)
		case key == "backupbot.backup.path" || key == "backupbot.backup.command":
			r.warn("service %s: label %s is from version 1 of the contract and has no effect; use backupbot.backup.volumes.<volume>.path and pre-hook", svc.Name, key)
		case key == "backupbot.restore" || key == "backupbot.backup.repos" || strings.HasPrefix(key, labelPrefix):
			r.warn("service %s: label %s is not part of the contract and has no effect", svc.Name, key)
		}
	}
	return nil
}

func isHook(key string) bool { return strings.HasSuffix(key, "-hook") }

// parseSwitch reads a boolean label. Empty is off, as an unset variable gives it.
func parseSwitch(service, key, value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(strings.ToLower(value))
	if err != nil {
		return false, ccci.Errorf(ccci.CodeRecipe, "service %s: label %s is %q", service, key, value).
			WithHint("write true or false")
	}
	return on, nil
}

// volume reads backupbot.backup.volumes.<key> and ….<key>.path. A volume's key
// may itself end in .path or hold dots, so known keys are tried first.
func (r *reader) volume(service, label, value string) error {
	key := strings.TrimPrefix(label, labelVolumes)
	key, isPath := key, false
	if r.volumes[key] == nil {
		key, isPath = strings.CutSuffix(key, ".path")
	}
	c := r.volumes[key]
	if c == nil {
		r.warn("service %s: label %s names a volume that the stack does not have", service, label)
		return nil
	}
	if !isPath {
		take, err := parseSwitch(service, label, value)
		c.excluded = c.excluded || (err == nil && !take && value != "")
		return err
	}
	paths, err := parsePaths(service, label, value)
	if err != nil {
		return err
	}
	if c.paths != nil && !slices.Equal(c.paths, paths) {
		r.warn("services %s and %s limit volume %s to different paths; both are taken", c.by, service, key)
	}
	c.by = service
	for _, p := range paths {
		if !slices.Contains(c.paths, p) {
			c.paths = append(c.paths, p)
		}
	}
	return nil
}

// parsePaths reads a comma list of paths within a volume.
func parsePaths(service, label, value string) ([]string, error) {
	var paths []string
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		clean := path.Clean(item)
		if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(clean, 0) {
			return nil, ccci.Errorf(ccci.CodeRecipe, "service %s: label %s names %q, which is outside of the volume", service, label, item).
				WithHint("paths are relative to the volume's root, as in dump/backup.sql")
		}
		paths = append(paths, clean)
	}
	if len(paths) == 0 {
		return nil, ccci.Errorf(ccci.CodeRecipe, "service %s: label %s names no path", service, label).
			WithHint("name a path within the volume, or remove the label to take all of it")
	}
	return paths, nil
}

// finish orders the volumes and judges the whole.
func (r *reader) finish(services []types.ServiceConfig) {
	r.plan.Enabled = len(r.enabled) > 0
	if len(r.enabled) > 1 {
		r.warn("services %s all say %s; the contract wants it on one", strings.Join(r.enabled, ", "), labelEnable)
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
		r.warn("there are backup hooks, and no service says %s=true; nothing is backed up", labelEnable)
	}
}

func mounts(svc types.ServiceConfig, key string) bool {
	return slices.ContainsFunc(svc.Volumes, func(m types.ServiceVolumeConfig) bool { return m.Type == "volume" && m.Source == key })
}
