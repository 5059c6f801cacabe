package swarm

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// This file converts what services share: volumes, networks, secrets, configs.

func (c converter) mounts(volumes []types.ServiceVolumeConfig) ([]mount.Mount, error) {
	var out []mount.Mount
	for _, v := range volumes {
		m, err := c.mount(v)
		if err != nil {
			return nil, fmt.Errorf("volume at %s: %w", v.Target, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func (c converter) mount(v types.ServiceVolumeConfig) (mount.Mount, error) {
	m := mount.Mount{
		Type:        mount.Type(v.Type),
		Source:      v.Source,
		Target:      v.Target,
		ReadOnly:    v.ReadOnly,
		Consistency: mount.Consistency(v.Consistency),
	}
	switch v.Type {
	case "volume", "":
		m.Type = mount.TypeVolume
		return c.volume(m, v)
	case "bind":
		if v.Source == "" {
			return m, fmt.Errorf("a bind mount needs a source")
		}
		if v.Bind != nil {
			m.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(v.Bind.Propagation)}
		}
		return m, nil
	case "tmpfs":
		if v.Source != "" {
			return m, fmt.Errorf("a tmpfs has no source")
		}
		if v.Tmpfs != nil {
			m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: v.Tmpfs.Size}
		}
		return m, nil
	}
	return m, fmt.Errorf("mounts of type %q are not supported", v.Type)
}

// volume labels what the daemon will create, anonymous volumes too, so that
// it can be found and removed.
func (c converter) volume(m mount.Mount, v types.ServiceVolumeConfig) (mount.Mount, error) {
	m.VolumeOptions = &mount.VolumeOptions{NoCopy: v.Source != ""} // one without a name is a container's own; see fill.go
	if v.Volume != nil {
		m.VolumeOptions.NoCopy = m.VolumeOptions.NoCopy || v.Volume.NoCopy
		m.VolumeOptions.Subpath = v.Volume.Subpath
	}
	if v.Source == "" {
		m.VolumeOptions.Labels = owned(nil, c.run, c.stack.Name)
		return m, nil
	}
	declared, ok := c.stack.Config.Volumes[v.Source]
	if !ok {
		return m, fmt.Errorf("the volume %q is not declared in the volumes section", v.Source)
	}
	if declared.Spec != nil {
		return m, fmt.Errorf("the volume %q is a cluster volume, which is not supported", v.Source)
	}
	m.Source = c.scope(v.Source, declared.Name)
	if declared.External.External {
		if declared.Name == "" {
			m.Source = v.Source
		}
		return m, nil
	}
	m.VolumeOptions.Labels = owned(declared.Labels, c.run, c.stack.Name)
	if declared.Driver != "" || len(declared.DriverOpts) > 0 {
		m.VolumeOptions.DriverConfig = &mount.Driver{Name: declared.Driver, Options: declared.DriverOpts}
	}
	return m, nil
}

// networkKeys are the networks of a service; one that names none is on "default".
func networkKeys(s types.ServiceConfig) []string {
	if len(s.Networks) == 0 {
		return []string{"default"}
	}
	return slices.Sorted(maps.Keys(s.Networks))
}

func (c converter) networkName(key string) (name string, external bool, err error) {
	declared, ok := c.stack.Config.Networks[key]
	if !ok && key != "default" {
		return "", false, fmt.Errorf("the network %q is not declared in the networks section", key)
	}
	if declared.External.External {
		if declared.Name == "" {
			return key, true, nil
		}
		return declared.Name, true, nil
	}
	return c.scope(key, declared.Name), false, nil
}

func (c converter) attachments(s types.ServiceConfig) ([]swarm.NetworkAttachmentConfig, error) {
	var out []swarm.NetworkAttachmentConfig
	if c.onRunNetwork(s) {
		out = append(out, c.proxyAttachment(s))
	}
	for _, key := range networkKeys(s) {
		if c.toProxy(key) {
			continue
		}
		name, _, err := c.networkName(key)
		if err != nil {
			return nil, err
		}
		a := swarm.NetworkAttachmentConfig{Target: name, Aliases: []string{s.Name}}
		if lost := s.Hostname; lost != s.Name && lost != c.hostname(s) && strings.Trim(strings.ToLower(lost), nameCharacters) == "" {
			a.Aliases = append(a.Aliases, lost) // the stack's own services may know it by this name
		}
		if own := s.Networks[key]; own != nil {
			for _, alias := range own.Aliases {
				if !slices.Contains(a.Aliases, alias) {
					a.Aliases = append(a.Aliases, alias)
				}
			}
			a.DriverOpts = own.DriverOpts
		}
		out = append(out, a)
	}
	return out, nil
}

func (c converter) secretRefs(refs []types.ServiceSecretConfig) ([]*swarm.SecretReference, error) {
	var out []*swarm.SecretReference
	for _, ref := range refs {
		declared, ok := c.stack.Config.Secrets[ref.Source]
		if !ok {
			return nil, fmt.Errorf("the secret %q is not declared in the secrets section", ref.Source)
		}
		target, uid, gid, mode := fileTarget(types.FileReferenceConfig(ref), ref.Source)
		out = append(out, &swarm.SecretReference{
			SecretName: c.fileName(ref.Source, types.FileObjectConfig(declared)),
			File:       &swarm.SecretReferenceFileTarget{Name: target, UID: uid, GID: gid, Mode: mode},
		})
	}
	slices.SortStableFunc(out, func(a, b *swarm.SecretReference) int { return compare(a.SecretName, b.SecretName) })
	return out, nil
}

func (c converter) configRefs(refs []types.ServiceConfigObjConfig) ([]*swarm.ConfigReference, error) {
	var out []*swarm.ConfigReference
	for _, ref := range refs {
		declared, ok := c.stack.Config.Configs[ref.Source]
		if !ok {
			return nil, fmt.Errorf("the config %q is not declared in the configs section", ref.Source)
		}
		target, uid, gid, mode := fileTarget(types.FileReferenceConfig(ref), "/"+ref.Source)
		out = append(out, &swarm.ConfigReference{
			ConfigName: c.fileName(ref.Source, types.FileObjectConfig(declared)),
			File:       &swarm.ConfigReferenceFileTarget{Name: target, UID: uid, GID: gid, Mode: mode},
		})
	}
	slices.SortStableFunc(out, func(a, b *swarm.ConfigReference) int { return compare(a.ConfigName, b.ConfigName) })
	return out, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// fileTarget fills the defaults of a secret's or config's place in the container.
func fileTarget(ref types.FileReferenceConfig, def string) (target, uid, gid string, mode os.FileMode) {
	target, uid, gid, mode = ref.Target, ref.UID, ref.GID, 0o444
	if target == "" {
		target = def
	}
	if uid == "" {
		uid = "0"
	}
	if gid == "" {
		gid = "0"
	}
	if ref.Mode != nil {
		mode = os.FileMode(*ref.Mode)
	}
	return target, uid, gid, mode
}

func (c converter) fileName(key string, o types.FileObjectConfig) string {
	if o.External.External && o.Name == "" {
		return key
	}
	return c.scope(key, o.Name)
}

// shared collects what the services refer to and nothing else: a secret that
// no service uses is not made, as with docker stack deploy for networks.
func (c converter) shared(m *model) {
	m.networks = map[string]network.CreateOptions{}
	var usedSecrets, usedConfigs, usedNetworks, usedVolumes []string
	for _, s := range c.stack.Config.Services {
		usedNetworks = append(usedNetworks, networkKeys(s)...)
		m.proxied = m.proxied || c.onRunNetwork(s) && recipe.Replicas(s) > 0
		for _, v := range s.Volumes {
			if v.Type == "volume" || v.Type == "" {
				usedVolumes = append(usedVolumes, v.Source)
			}
		}
		for _, ref := range s.Secrets {
			usedSecrets = append(usedSecrets, ref.Source)
		}
		for _, ref := range s.Configs {
			usedConfigs = append(usedConfigs, ref.Source)
		}
	}
	for _, key := range unique(usedVolumes) {
		declared, ok := c.stack.Config.Volumes[key]
		switch {
		case !ok: // one without a name, or reported by the service that uses it
		case declared.External.External:
			m.external.volumes = append(m.external.volumes, cmp.Or(declared.Name, key))
		default:
			m.volumes = append(m.volumes, c.scope(key, declared.Name))
		}
	}
	for _, key := range unique(usedNetworks) {
		name, external, err := c.networkName(key)
		switch {
		case err != nil: // reported by the service that uses it
		case c.toProxy(key):
			m.networks[RunNetwork(c.run)] = runNetworkOptions(c.run)
		case external:
			m.external.networks = append(m.external.networks, name)
		default:
			m.networks[name] = c.network(c.stack.Config.Networks[key])
		}
	}
	for _, key := range unique(usedSecrets) {
		declared := types.FileObjectConfig(c.stack.Config.Secrets[key])
		if declared.External.External {
			m.external.secrets = append(m.external.secrets, c.fileName(key, declared))
			continue
		}
		m.files = append(m.files, c.file(true, key, declared))
	}
	for _, key := range unique(usedConfigs) {
		declared := types.FileObjectConfig(c.stack.Config.Configs[key])
		if declared.External.External {
			m.external.configs = append(m.external.configs, c.fileName(key, declared))
			continue
		}
		m.files = append(m.files, c.file(false, key, declared))
	}
}

func (c converter) file(secret bool, key string, o types.FileObjectConfig) file {
	return file{
		secret:   secret,
		key:      key,
		name:     c.fileName(key, o),
		path:     o.File,
		labels:   owned(o.Labels, c.run, c.stack.Name),
		template: o.TemplateDriver,
	}
}

func (c converter) network(n types.NetworkConfig) network.CreateOptions {
	out := network.CreateOptions{
		Driver:     n.Driver,
		Scope:      "swarm",
		Options:    n.DriverOpts,
		Internal:   n.Internal,
		Attachable: n.Attachable,
		Labels:     owned(n.Labels, c.run, c.stack.Name),
	}
	if out.Driver == "" {
		out.Driver = "overlay"
	}
	if n.Ipam.Driver != "" || len(n.Ipam.Config) > 0 {
		out.IPAM = &network.IPAM{Driver: n.Ipam.Driver}
		for _, pool := range n.Ipam.Config {
			out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: pool.Subnet})
		}
	}
	return out
}

func unique(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}

// references are the identifiers that a stack's names have on the daemon.
type references struct {
	networks, secrets, configs map[string]string // name -> id
}

// bind fills the identifiers into a copy of a service's specification.
func (r references) bind(spec swarm.ServiceSpec) swarm.ServiceSpec {
	task := &spec.TaskTemplate
	task.Networks = slices.Clone(task.Networks)
	for i, n := range task.Networks {
		if id := r.networks[n.Target]; id != "" {
			task.Networks[i].Target = id
		}
	}
	contents := *task.ContainerSpec
	contents.Secrets = slices.Clone(contents.Secrets)
	for i, ref := range contents.Secrets {
		bound := *ref
		bound.SecretID = r.secrets[ref.SecretName]
		contents.Secrets[i] = &bound
	}
	contents.Configs = slices.Clone(contents.Configs)
	for i, ref := range contents.Configs {
		bound := *ref
		bound.ConfigID = r.configs[ref.ConfigName]
		contents.Configs[i] = &bound
	}
	task.ContainerSpec = &contents
	return spec
}
