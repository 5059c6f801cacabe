package swarm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// New creates the app's generated secrets, each under its exact name. The values
// are found by the secret's key in the compose file, or by its name on the daemon.
func (d *Deployer) New(ctx context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) error {
	activity := fmt.Sprintf("creating app %s", stack.Name)
	if err := d.check(ctx); err != nil {
		return err
	}
	specs, err := d.secretSpecs(stack, secrets)
	if err != nil {
		return err
	}
	// By name, not by run: the run's own helpers may be at work already.
	app := harness.App{StackName: stack.Name}
	for _, s := range specs {
		app.Names = append(app.Names, s.Name)
	}
	own := ownNames(stack)
	app.Names = append(app.Names, own...)
	present, err := d.belonging(ctx, app)
	if err != nil {
		return err
	}
	for _, o := range present {
		if slices.Contains(own, o.Name) {
			if err := d.taken(stack, o.Kind, o.Name, map[string]string{LabelRun: o.Run, LabelStack: o.Stack}); err != nil {
				return err
			}
		}
	}
	if len(present) > 0 {
		return ccci.Errorf(ccci.CodeConflict, "%s: the daemon already has %s", activity, describe(present)).
			WithHint("remove what an earlier run left (cc-ci janitor), or choose another domain")
	}
	return d.createSecrets(ctx, stack, specs)
}

// AddSecrets creates those of the stack's secrets that do not exist yet and for
// which there is a value.
func (d *Deployer) AddSecrets(ctx context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	specs, err := d.secretSpecs(stack, secrets)
	if err != nil {
		return err
	}
	present, err := d.docker.SecretList(ctx, swarm.SecretListOptions{})
	if err != nil {
		return d.fault("listing secrets", err)
	}
	specs = slices.DeleteFunc(specs, func(s swarm.SecretSpec) bool {
		return slices.ContainsFunc(present, func(p swarm.Secret) bool { return p.Spec.Name == s.Name })
	})
	return d.createSecrets(ctx, stack, specs)
}

// createSecrets makes all of them or none.
func (d *Deployer) createSecrets(ctx context.Context, stack *recipe.Stack, specs []swarm.SecretSpec) error {
	var made []string
	for _, spec := range specs {
		id, err := d.createSecret(ctx, stack, spec)
		if err == nil {
			made = append(made, id)
			continue
		}
		undo, cancel := cleanupContext(ctx, explainLimit)
		defer cancel()
		for _, id := range made {
			if err := d.docker.SecretRemove(undo, id); err != nil {
				d.log.Warn("could not take back a secret", "stack", stack.Name, "secret", id, "error", err)
			}
		}
		return d.fault(fmt.Sprintf("creating app %s: secret %s", stack.Name, spec.Name), err)
	}
	return nil
}

func (d *Deployer) createSecret(ctx context.Context, stack *recipe.Stack, spec swarm.SecretSpec) (string, error) {
	id := make(chan string, 1) // the answer may come when nothing waits for it any more
	err := d.create(ctx, kindSecret, spec.Name, stack.Name, func(ctx context.Context) error {
		made, err := d.docker.SecretCreate(ctx, spec)
		id <- made.ID
		return err
	})
	if err != nil {
		return "", err
	}
	return <-id, nil
}

func (d *Deployer) createConfig(ctx context.Context, stack *recipe.Stack, spec swarm.ConfigSpec) (string, error) {
	id := make(chan string, 1)
	err := d.create(ctx, kindConfig, spec.Name, stack.Name, func(ctx context.Context) error {
		made, err := d.docker.ConfigCreate(ctx, spec)
		id <- made.ID
		return err
	})
	if err != nil {
		return "", err
	}
	return <-id, nil
}

func (d *Deployer) createNetwork(ctx context.Context, stack, name string, options network.CreateOptions) (string, error) {
	id := make(chan string, 1)
	err := d.create(ctx, kindNetwork, name, stack, func(ctx context.Context) error {
		made, err := d.docker.NetworkCreate(ctx, name, options)
		id <- made.ID
		return err
	})
	if err != nil {
		return "", err
	}
	return <-id, nil
}

func (d *Deployer) secretSpecs(stack *recipe.Stack, values map[string]ccci.Secret) ([]swarm.SecretSpec, error) {
	var specs []swarm.SecretSpec
	used := map[string]bool{}
	for _, s := range stack.Secrets {
		value, ok := values[s.Key]
		used[s.Key] = true
		if !ok {
			value, ok = values[s.Name]
			used[s.Name] = true
		}
		if !ok {
			continue // Deploy says so when a service needs it
		}
		specs = append(specs, swarm.SecretSpec{
			Annotations: swarm.Annotations{Name: s.Name, Labels: owned(nil, d.o.RunID, stack.Name)},
			Data:        []byte(value.Reveal()),
		})
	}
	for name := range values {
		if !used[name] {
			return nil, ccci.Errorf(ccci.CodeInvalid, "creating app %s: a value was given for secret %q, which the stack does not declare", stack.Name, name)
		}
	}
	return specs, nil
}

// ownNames are the names that a stack gives to objects without the prefix of the stack.
func ownNames(stack *recipe.Stack) []string {
	var out []string
	add := func(external bool, name string) {
		if !external && name != "" && !strings.HasPrefix(name, stack.Name+"_") {
			out = append(out, name)
		}
	}
	for _, v := range stack.Config.Volumes {
		add(v.External.External, v.Name)
	}
	for _, n := range stack.Config.Networks {
		add(n.External.External, n.Name)
	}
	for _, c := range stack.Config.Configs {
		add(c.External.External, c.Name)
	}
	for _, s := range stack.Config.Secrets {
		add(s.External.External, s.Name)
	}
	return out
}

// prepare makes networks, configs and secrets of the stack and returns what its
// names stand for. What must already exist is checked before anything is made.
func (d *Deployer) prepare(ctx context.Context, stack *recipe.Stack, m *model) (references, error) {
	refs := references{map[string]string{}, map[string]string{}, map[string]string{}}
	if err := d.checkVolumes(ctx, stack, m); err != nil {
		return refs, err
	}
	d.networking.Lock()
	defer d.networking.Unlock()
	networks, err := d.docker.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return refs, d.fault("listing networks", err)
	}
	secrets, err := d.docker.SecretList(ctx, swarm.SecretListOptions{})
	if err != nil {
		return refs, d.fault("listing secrets", err)
	}
	configs, err := d.docker.ConfigList(ctx, swarm.ConfigListOptions{})
	if err != nil {
		return refs, d.fault("listing configs", err)
	}
	contents := map[string][]byte{} // of configs that exist
	for _, n := range networks {
		if n.Scope != "swarm" {
			continue
		}
		if _, mine := m.networks[n.Name]; mine {
			if err := d.taken(stack, kindNetwork, n.Name, n.Labels); err != nil {
				return refs, err
			}
		}
		refs.networks[n.Name] = n.ID
	}
	mine := func(secret bool, name string) bool {
		return slices.ContainsFunc(m.files, func(f file) bool { return f.secret == secret && f.name == name })
	}
	for _, s := range secrets {
		if mine(true, s.Spec.Name) {
			if err := d.taken(stack, kindSecret, s.Spec.Name, s.Spec.Labels); err != nil {
				return refs, err
			}
		}
		refs.secrets[s.Spec.Name] = s.ID
	}
	for _, c := range configs {
		if mine(false, c.Spec.Name) {
			if err := d.taken(stack, kindConfig, c.Spec.Name, c.Spec.Labels); err != nil {
				return refs, err
			}
		}
		refs.configs[c.Spec.Name] = c.ID
		contents[c.Spec.Name] = c.Spec.Data
	}
	if err := missing(stack, m, refs); err != nil {
		return refs, err
	}
	data, err := readFiles(stack, m.files, contents)
	if err != nil {
		return refs, err
	}
	for name, options := range m.networks {
		if refs.networks[name] != "" {
			continue
		}
		id, err := d.createNetwork(ctx, stack.Name, name, options)
		if err != nil {
			return refs, d.fault(fmt.Sprintf("deploying %s: creating network %s", stack.Name, name), err)
		}
		refs.networks[name] = id
	}
	for i, f := range m.files {
		if err := d.createFile(ctx, stack, f, data[i], refs); err != nil {
			return refs, err
		}
	}
	return refs, nil
}

// checkVolumes refuses external volumes that are not there: swarm would make them, and as they
// are not the app's, nothing would remove them. It refuses volumes of the app's own that somebody else made:
// the app would write to them, the backup take them and the removal delete them.
func (d *Deployer) checkVolumes(ctx context.Context, stack *recipe.Stack, m *model) error {
	for _, name := range m.external.volumes {
		_, err := d.docker.VolumeInspect(ctx, name)
		switch {
		case client.IsErrNotFound(err):
			return ccci.Errorf(ccci.CodeInfra, "deploying %s: there is no volume %s", stack.Name, name).
				WithHint("make it: docker volume create %s; or let the recipe have a volume of its own, without external", name)
		case err != nil:
			return d.fault("looking at volume "+name, err)
		}
	}
	for _, name := range m.volumes {
		v, err := d.docker.VolumeInspect(ctx, name)
		switch {
		case client.IsErrNotFound(err):
		case err != nil:
			return d.fault("looking at volume "+name, err)
		default:
			if err := d.taken(stack, kindVolume, name, v.Labels); err != nil {
				return err
			}
		}
	}
	return nil
}

// taken refuses an object that exists under a name which the stack gives to one of its own, unless its
// labels say that this run or this stack made it. What another run made goes with that run; anything else is
// there for every run, so that the recipe has to change.
func (d *Deployer) taken(stack *recipe.Stack, kind, name string, labels map[string]string) error {
	run := labels[LabelRun]
	if labels[LabelStack] == stack.Name || run == string(d.o.RunID) && (kind != kindNetwork || isRunNetwork(name, labels)) {
		return nil
	}
	if run != "" {
		return ccci.Errorf(ccci.CodeConflict, "deploying %s: %s %s exists and is of run %s", stack.Name, kind, name, run).
			WithHint("a %s with a name of its own is shared by every app of the recipe; leave the name out", kind)
	}
	return ccci.Errorf(ccci.CodeRecipe, "deploying %s: %s %s exists, and this app has not made it", stack.Name, kind, name).
		WithHint("leave the name out, so that each app has a %s of its own; or, if all are to share the one that is there, state external: true", kind)
}

// missing names every external object that is not there.
func missing(stack *recipe.Stack, m *model, refs references) error {
	absent := func(names []string, have map[string]string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return have[n] != "" })
	}
	if names := absent(m.external.networks, refs.networks); len(names) > 0 {
		if own := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, stack.Name+"_") }); own >= 0 {
			return ccci.Errorf(ccci.CodeRecipe, "deploying %s: there is no network %s", stack.Name, names[own]).
				WithHint("a network of the stack's own is not external: leave external out, and it is made")
		}
		return ccci.Errorf(ccci.CodeInfra, "deploying %s: there is no swarm network %s", stack.Name, strings.Join(names, ", ")).
			WithHint("make it: docker network create --driver overlay --attachable --subnet 10.10.0.0/16 %s", names[0])
	}
	if names := absent(m.external.secrets, refs.secrets); len(names) > 0 {
		return ccci.Errorf(ccci.CodeRecipe, "deploying %s: there is no secret %s", stack.Name, strings.Join(names, ", ")).
			WithHint("a secret that cannot be generated needs a value in tests/%s/recipe.yml", stack.Recipe)
	}
	if names := absent(m.external.configs, refs.configs); len(names) > 0 {
		return ccci.Errorf(ccci.CodeRecipe, "deploying %s: there is no config %s", stack.Name, strings.Join(names, ", ")).
			WithHint("an external config must exist before the app; let the recipe make it from a file")
	}
	return nil
}

// readFiles reads what configs and secrets are made of. A config that exists with
// other content is the mistake that operators know as "only updates to Labels
// are allowed".
func readFiles(stack *recipe.Stack, files []file, present map[string][]byte) ([][]byte, error) {
	data := make([][]byte, len(files))
	for i, f := range files {
		var err error
		if data[i], err = readWithin(stack.Dir, f.path); err != nil {
			return nil, ccci.Errorf(ccci.CodeRecipe, "deploying %s: the file of %s %s: %w", stack.Name, f.kind(), f.key, err).
				WithHint("it must be a regular file inside the recipe")
		}
		old, exists := present[f.name]
		if !f.secret && exists && !bytes.Equal(old, data[i]) {
			return nil, ccci.Errorf(ccci.CodeRecipe, "deploying %s: config %s changed without its version variable: %s exists with other content", stack.Name, f.key, f.name).
				WithHint("raise %s whenever %s changes", cmp.Or(stack.ConfigVersion[f.key], "the version in the name of the config"), relative(stack.Dir, f.path))
		}
	}
	return data, nil
}

// readWithin reads a file of the recipe and follows no link that leads out of it.
func readWithin(dir, path string) ([]byte, error) {
	rel := path
	if filepath.IsAbs(path) {
		var err error
		if rel, err = filepath.Rel(dir, path); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(rel)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			return nil, fmt.Errorf("%s: %w", rel, cause.Err)
		}
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", rel)
	}
	return root.ReadFile(rel)
}

func relative(dir, path string) string {
	if rel, err := filepath.Rel(dir, path); err == nil {
		return rel
	}
	return path
}

func (f file) kind() string {
	if f.secret {
		return "secret"
	}
	return "config"
}

func (d *Deployer) createFile(ctx context.Context, stack *recipe.Stack, f file, data []byte, refs references) error {
	ids := refs.configs
	if f.secret {
		ids = refs.secrets
	}
	if ids[f.name] != "" {
		return nil
	}
	annotations := swarm.Annotations{Name: f.name, Labels: f.labels}
	var templating *swarm.Driver
	if f.template != "" {
		templating = &swarm.Driver{Name: f.template}
	}
	activity := fmt.Sprintf("deploying %s: creating %s %s", stack.Name, f.kind(), f.name)
	var err error
	var id string
	if f.secret {
		id, err = d.createSecret(ctx, stack, swarm.SecretSpec{Annotations: annotations, Data: data, Templating: templating})
	} else {
		id, err = d.createConfig(ctx, stack, swarm.ConfigSpec{Annotations: annotations, Data: data, Templating: templating})
	}
	if err != nil {
		return d.fault(activity, err)
	}
	ids[f.name] = id
	return nil
}
