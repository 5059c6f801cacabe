package backup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/volume"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/box"
)

// Kept keeps the data of whole apps beyond their runs (U20):
//
//	DIR/<recipe>/<run id>/restic        a repository with one snapshot of all volumes
//	DIR/<recipe>/<run id>/secrets.json  its password and the app's secrets; readable by its owner alone
//
// A repository of its own for each run needs no lock, no pruning and no repair:
// what is not needed any more is a folder to remove, see [Prune].
type Kept struct {
	dir  string
	opts Options
}

var _ harness.Keeper = (*Kept)(nil)

// NewKept keeps data below dir. Of opts Exec, Repo and Password are ignored.
func NewKept(dir string, opts Options) *Kept {
	if opts.Creating == nil {
		opts.Creating = awaited
	}
	return &Kept{dir: dir, opts: opts}
}

// keptSecrets is what secrets.json holds.
type keptSecrets struct {
	Password string            `json:"password"`
	Secrets  map[string]string `json:"secrets"` // by key in the compose file
}

// folder is where the data of a run is. Both names come from records, so they are looked at.
func (k *Kept) folder(recipe string, run ccci.RunID) (string, error) {
	for _, name := range []string{recipe, string(run)} {
		if !plainName(name) {
			return "", ccci.Errorf(ccci.CodeInvalid, "%q names no kept data", name)
		}
	}
	return filepath.Join(k.dir, recipe, string(run)), nil
}

// plainName reports whether a text is the name of one entry of a folder.
func plainName(name string) bool {
	return name != "." && filepath.IsLocal(name) && filepath.Base(name) == name
}

// Keep implements harness.Keeper.
func (k *Kept) Keep(ctx context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) (kept ccci.Kept, err error) {
	folder, err := k.folder(stack.Recipe, k.opts.RunID)
	if err != nil {
		return ccci.Kept{}, err
	}
	if err := os.MkdirAll(filepath.Join(folder, "restic"), 0o700); err != nil {
		return ccci.Kept{}, ccci.Errorf(ccci.CodeInfra, "making a folder for the data of %s: %w", stack.Recipe, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	b := New(k.options(folder, ccci.Secret{}))
	own := keptSecrets{Password: b.opts.Password.Reveal(), Secrets: map[string]string{}}
	for key, secret := range secrets {
		own.Secrets[key] = secret.Reveal()
	}
	text, err := json.Marshal(own)
	if err != nil {
		return ccci.Kept{}, err
	}
	if err := os.WriteFile(filepath.Join(folder, "secrets.json"), text, 0o600); err != nil {
		return ccci.Kept{}, ccci.Errorf(ccci.CodeInfra, "keeping the secrets of %s: %w", stack.Recipe, err)
	}
	plan, err := wholePlan(stack)
	if err != nil {
		return ccci.Kept{}, err
	}
	if len(plan.Volumes) == 0 {
		return kept, nil
	}
	defer func() {
		after := context.WithoutCancel(ctx)
		err = errors.Join(err, b.own(after), b.Close(after))
	}()
	if err := b.Open(ctx, plan); err != nil {
		return ccci.Kept{}, err
	}
	snapshot, err := b.Create(ctx)
	if err != nil {
		return ccci.Kept{}, err
	}
	kept.Snapshot = snapshot.ID
	for _, v := range plan.Volumes {
		kept.Volumes = append(kept.Volumes, v.Key)
	}
	return kept, nil
}

// own gives the repository, which the daemon's root made, to this process's user: it
// must be able to remove it.
func (b *Backup) own(ctx context.Context) error {
	if os.Geteuid() == 0 || b.container == "" {
		return nil
	}
	var stderr bytes.Buffer
	code, err := box.Exec(ctx, b.opts.Docker, b.container, box.OwnCommand(os.Geteuid(), os.Getegid(), repository), nil, nil, &stderr)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, tail(stderr.Bytes(), 500))
	}
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "taking over the repository of %s: %w", b.plan.Stack, err)
	}
	return nil
}

// Secrets implements harness.Keeper.
func (k *Kept) Secrets(c ccci.Canonical) (map[string]ccci.Secret, error) {
	own, _, err := k.read(c)
	if err != nil {
		return nil, err
	}
	secrets := map[string]ccci.Secret{}
	for key, value := range own.Secrets {
		secrets[key] = ccci.NewSecret(value)
	}
	return secrets, nil
}

// Fill implements harness.Keeper.
func (k *Kept) Fill(ctx context.Context, stack *recipe.Stack, c ccci.Canonical) (err error) {
	own, folder, err := k.read(c)
	if err != nil {
		return err
	}
	plan, err := wholePlan(stack)
	if err != nil {
		return err
	}
	var keys []string
	for _, v := range plan.Volumes {
		keys = append(keys, v.Key)
	}
	if !slices.Equal(keys, c.Kept.Volumes) {
		return ccci.Errorf(ccci.CodeInfra, "the data kept of %s is of the volumes %q, and the app has %q", c.Recipe, c.Kept.Volumes, keys)
	}
	if len(keys) == 0 {
		return nil
	}
	for _, v := range plan.Volumes {
		if err := k.makeVolume(ctx, stack, v); err != nil {
			return err
		}
	}
	b := New(k.options(folder, ccci.NewSecret(own.Password)))
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	if err := b.Open(ctx, plan); err != nil {
		return err
	}
	return b.Restore(ctx, Snapshot{ID: c.Kept.Snapshot})
}

// makeVolume makes a volume as the deployment would, so that it is found and removed with the app.
func (k *Kept) makeVolume(ctx context.Context, stack *recipe.Stack, v Volume) error {
	declared := stack.Config.Volumes[v.Key]
	labels := maps.Clone(map[string]string(declared.Labels))
	if labels == nil {
		labels = map[string]string{}
	}
	labels[harness.RunLabel], labels[labelStack] = string(k.opts.RunID), stack.Name
	asked, cancel := lasting(ctx)
	defer cancel()
	theirs := make(chan bool, 1) // the answer may come when nothing waits for it any more
	err := k.opts.Creating(asked, "volume", v.Name, func(ctx context.Context) error {
		made, err := k.opts.Docker.VolumeCreate(ctx, volume.CreateOptions{Name: v.Name, Driver: declared.Driver, DriverOpts: declared.DriverOpts, Labels: labels})
		// Docker returns the volume of that name if there is one, whoever made it.
		theirs <- err == nil && made.Labels[harness.RunLabel] != string(k.opts.RunID)
		return err
	})
	if err == nil && <-theirs {
		return ccci.Errorf(ccci.CodeRecipe, "making volume %s: %s exists, and this app has not made it", v.Key, v.Name).
			WithHint("leave the name out, so that each app has a volume of its own")
	}
	if err != nil {
		return ccci.Errorf(ccci.CodeInfra, "making volume %s: %w", v.Key, err)
	}
	return nil
}

// labelStack marks what belongs to a stack, as docker stack deploy does.
const labelStack = "com.docker.stack.namespace"

func (k *Kept) options(folder string, password ccci.Secret) Options {
	opts := k.opts
	opts.Repo, opts.Password, opts.Exec = Repo{Dir: filepath.Join(folder, "restic")}, password, nil // the plan has no hooks
	return opts
}

func (k *Kept) read(c ccci.Canonical) (own keptSecrets, folder string, err error) {
	if folder, err = k.folder(c.Recipe, c.Run); err != nil {
		return own, "", err
	}
	text, err := os.ReadFile(filepath.Join(folder, "secrets.json"))
	if err == nil {
		err = json.Unmarshal(text, &own)
	}
	if err != nil {
		return own, "", ccci.Errorf(ccci.CodeInfra, "the data kept of %s by run %s cannot be read: %w", c.Recipe, c.Run, err).
			WithHint("remove the canonical and run cc-ci sweep --recipe %s", c.Recipe)
	}
	return own, folder, nil
}

// wholePlan takes every volume of a stack as a whole, whatever its labels say, and
// under names that do not depend on the app's: another app gets the data. A key that is no name of a
// folder is an Error with CodeInvalid: its volume would be mounted somewhere else.
func wholePlan(stack *recipe.Stack) (Plan, error) {
	plan := Plan{Stack: stack.Name, Version: stack.Version, Enabled: true}
	r := reader{plan: &Plan{}, volumes: map[string]*choice{}}
	services := slices.SortedFunc(slices.Values(stack.Config.Services), func(a, b types.ServiceConfig) int { return cmp.Compare(a.Name, b.Name) })
	r.ownVolumes(stack, services)
	for _, key := range slices.Sorted(maps.Keys(r.volumes)) {
		if !plainName(key) {
			return Plan{}, ccci.Errorf(ccci.CodeInvalid, "the volume %q of %s has a key of which no path can be made", key, stack.Recipe)
		}
		plan.Volumes = append(plan.Volumes, Volume{Key: key, Name: r.volumes[key].name, At: path.Join("/kept", key)})
	}
	return plan, nil
}

// Prune removes the data below dir that runs of a recipe kept, except those of keep.
func Prune(dir, recipe string, keep ...ccci.RunID) error {
	folder := filepath.Join(dir, recipe)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !slices.Contains(keep, ccci.RunID(e.Name())) {
			errs = append(errs, os.RemoveAll(filepath.Join(folder, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing old data of %s, which must belong to this user: %w", recipe, err)
	}
	return nil
}
