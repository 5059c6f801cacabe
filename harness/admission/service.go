package admission

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"
	"go.yaml.in/yaml/v4"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

var (
	plainName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
	// daemonPath are sockets and data folders of container daemons.
	daemonPath = regexp.MustCompile(`(?i)(docker|containerd|podman|crio|buildkitd?)\.sock|/run/(docker|containerd|podman|crio)\b|/var/lib/(docker|containerd|containers)\b|pipe[/\\]docker_engine`)
)

// defaultCaps are what a container has when it asks for nothing. Asking for
// them adds nothing; after cap_drop: [ALL] it is what a careful author does.
var defaultCaps = recipe.Capabilities

// raw judges each compose file by itself: a key that an overlay hides or that
// swarm drops is still honoured by whoever uses the file in another way.
func (j *judge) raw() {
	for _, s := range j.sources {
		// Nobody judges what is included, and what lies elsewhere changes behind its name.
		for _, t := range j.texts(child(s.root, "include")) {
			j.refuse(ruleFileOutside, "", t.text, place{s.name, t.line}, "name compose files of the recipe in COMPOSE_FILE", "includes %s", t.text)
		}
		for _, p := range pairs(child(s.root, "services")) {
			name, service := p[0].Value, p[1]
			for _, key := range []string{
				"privileged", "cap_add", "devices", "network_mode", "net", "pid", "ipc", "userns_mode", "security_opt",
				"sysctls", "cgroup_parent", "cgroup", "cgroupns_mode", "credential_spec", "isolation", "runtime", "gpus",
				"device_cgroup_rules", "use_api_socket", "uts", "oom_score_adj",
			} {
				for _, t := range j.texts(child(service, key)) {
					j.plain(name, key, t.text, place{s.name, t.line})
				}
			}
			for _, f := range j.envFiles(service) {
				j.file(name, f.text, "env_file", func() place { return place{s.name, f.line} })
			}
			for _, path := range [][]string{{"labels"}, {"deploy", "labels"}} {
				for _, t := range j.texts(child(service, path...)) {
					j.ccciLabel(name, t.text, place{s.name, t.line})
				}
			}
		}
		for _, section := range []string{"volumes", "networks", "secrets", "configs"} {
			for _, p := range pairs(child(s.root, section)) {
				for _, t := range j.texts(child(p[1], "labels")) {
					j.ccciLabel("", t.text, place{s.name, t.line})
				}
				for _, t := range j.texts(child(p[1], "file")) {
					j.file("", j.shown(t.text), strings.TrimSuffix(section, "s")+" "+p[0].Value, func() place { return place{s.name, t.line} })
				}
			}
		}
	}
}

// ccciLabel refuses our own labels in a recipe's files. In the model they are ours.
func (j *judge) ccciLabel(service, label string, at place) {
	key, _, _ := strings.Cut(label, "=")
	if lower := strings.ToLower(strings.TrimSpace(key)); lower == "cc-ci" || strings.HasPrefix(lower, "cc-ci.") {
		j.refuse(ruleReserved, service, key, at, "remove the label", "sets the label %q, which is cc-ci's own", key)
	}
}

// plain judges one value of a key that confines, or should confine, a container.
func (j *judge) plain(service, key, value string, at place) {
	low := strings.ToLower(strings.TrimSpace(value))
	why, ignored := recipe.Dropped(key)
	hint := ""
	if ignored {
		hint = "remove it: swarm ignores " + key + " (" + why + ")"
	}
	no := func(rule, format string, args ...any) {
		j.add(!ignored, rule, service, value, at, hint, format, args...)
	}
	switch key {
	case "privileged":
		if low != "false" && low != "" {
			value, hint = "true", hint+"; an app that needs a capability names it under cap_add, which can be waived"
			no(rulePrivileged, "asks for privileged mode")
		}
	case "cap_add":
		capability := strings.TrimPrefix(strings.ToUpper(low), "CAP_")
		if !slices.Contains(defaultCaps, capability) {
			no(ruleCapAdd, "adds the capability %s", value)
		}
	case "devices", "device_cgroup_rules", "gpus":
		if key != "devices" {
			value = key + "=" + value
		}
		no(ruleDevices, "asks for the device %s", value)
	case "network_mode", "net":
		if !slices.Contains([]string{"", "bridge", "default", "none"}, low) {
			no(ruleNetworkMode, "asks for network_mode %s", value)
		}
	case "pid":
		if low != "" && low != "private" {
			no(rulePID, "asks for pid %s", value)
		}
	case "ipc":
		if !slices.Contains([]string{"", "private", "shareable", "none"}, low) {
			no(ruleIPC, "asks for ipc %s", value)
		}
	case "uts":
		asked := value
		value = "uts=" + value
		no(ruleIPC, "asks for uts %s", asked)
	case "userns_mode":
		if low != "" {
			no(ruleUserNS, "asks for userns_mode %s", value)
		}
	case "security_opt":
		if !slices.Contains([]string{"", "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}, low) {
			no(ruleSecurityOpt, "asks for security_opt %s", value)
		}
	case "sysctls":
		if !ownSysctl(low) {
			no(ruleSysctls, "sets the kernel parameter %s", value)
		}
	case "cgroup_parent", "cgroup", "cgroupns_mode":
		if low != "" && !(key != "cgroup_parent" && low == "private") {
			asked := value
			if key != "cgroup_parent" {
				value = key + "=" + value
			}
			no(ruleCgroup, "asks for %s %s", key, asked)
		}
	case "credential_spec":
		no(ruleCredential, "asks for the credential_spec %s", value)
	case "isolation":
		if low != "" && low != "default" {
			no(ruleIsolation, "asks for isolation %s", value)
		}
	case "runtime":
		no(ruleRuntime, "asks for the runtime %s", value)
	case "oom_score_adj": // the loader drops it, though its schema knows it
		if strings.HasPrefix(low, "-") {
			no(ruleOOM, "asks for oom_score_adj %s", value)
		}
	case "use_api_socket":
		if low != "false" {
			value = key + "=" + value
			no(ruleSocket, "asks for the daemon's socket through use_api_socket")
		}
	}
}

// service judges one service of the model.
func (j *judge) service(s *types.ServiceConfig) {
	j.confinement(s)
	for _, m := range s.Volumes {
		j.mount(s.Name, m)
	}
	for _, p := range s.Ports {
		published := "any"
		if p.Published > 0 {
			published = fmt.Sprint(p.Published)
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		value := fmt.Sprintf("%s:%d/%s", published, p.Target, protocol)
		j.refuse(rulePort, s.Name, value, j.locate(fmt.Sprint(p.Target), "services", s.Name, "ports"),
			"let the proxy reach it by its network and a traefik label", "publishes a port of the machine, %s", value)
	}
	for _, f := range s.EnvFile {
		j.file(s.Name, j.shown(f), "env_file", func() place { return j.locate("", "services", s.Name, "env_file") })
	}
	for _, ref := range s.Configs {
		j.target(s.Name, cmp.Or(ref.Target, "/"+ref.Source), "configs", "config")
	}
	for _, ref := range s.Secrets {
		j.target(s.Name, cmp.Or(ref.Target, ref.Source), "secrets", "secret")
	}
	j.workingDir(s)
	j.serviceNetworks(s)
	j.names(s)
	j.image(s)
	j.addresses(s)
	j.logging(s)
	j.labels(s.Name, s.Deploy.Labels, "deploy", "labels")
	j.labels(s.Name, s.Labels, "labels")
	j.scheduling(s)
	j.limits(s)
}

func (j *judge) confinement(s *types.ServiceConfig) {
	one := func(key, value string) {
		if value != "" {
			j.plain(s.Name, key, value, j.locate(value, "services", s.Name, key))
		}
	}
	all := func(key string, values []string) {
		for _, v := range values {
			one(key, v)
		}
	}
	if s.Privileged {
		one("privileged", "true")
	}
	all("cap_add", s.CapAdd)
	all("devices", s.Devices)
	one("network_mode", s.NetworkMode)
	one("pid", s.Pid)
	one("ipc", s.Ipc)
	one("userns_mode", s.UserNSMode)
	all("security_opt", s.SecurityOpt)
	for _, key := range sorted(s.Sysctls) {
		one("sysctls", key+"="+s.Sysctls[key])
	}
	one("cgroup_parent", s.CgroupParent)
	one("cgroupns_mode", s.CgroupNSMode)
	one("isolation", s.Isolation)
	if s.OomScoreAdj != 0 {
		one("oom_score_adj", fmt.Sprint(s.OomScoreAdj))
	}
	c := s.CredentialSpec
	for _, kv := range [][2]string{{"config", c.Config}, {"file", c.File}, {"registry", c.Registry}} {
		if kv[1] != "" {
			one("credential_spec", kv[0]+"="+kv[1])
		}
	}
}

// shown is a path as the recipe's author knows it: the loader makes paths
// absolute, and where this checkout lies is no business of a message or a waiver.
func (j *judge) shown(path string) string {
	rel, err := filepath.Rel(j.stack.Dir, path)
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	if !filepath.IsLocal(rel) && j.written(path) {
		return path
	}
	return rel
}

// written reports whether a file holds an absolute path as it is, alone or as a part
// of a volume.
func (j *judge) written(path string) bool {
	if j.paths == nil {
		j.paths = map[string]bool{}
		for _, s := range j.sources {
			j.collectPaths(s.root)
		}
	}
	return j.paths[path]
}

func (j *judge) collectPaths(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && strings.ContainsAny(n.Value, "/$") {
		for _, part := range strings.FieldsFunc(j.filled(n), func(r rune) bool { return r == ':' || r == '=' }) {
			if strings.HasPrefix(part, "/") {
				j.paths[part], j.paths[filepath.Clean(part)] = true, true
			}
		}
	}
	for _, c := range n.Content {
		j.collectPaths(c)
	}
}

func (j *judge) mount(service string, m types.ServiceVolumeConfig) {
	source := m.Source
	if m.Type == "bind" {
		source = j.shown(source)
	}
	at := func() place { return j.locate(m.Target, "services", service, "volumes") }
	if m.Type == "bind" && j.linked(source) {
		j.refuse(ruleSymlink, service, source, at(), "mount the folder itself", "mounts %s, which leads through a symbolic link", source)
	}
	if daemonPath.MatchString(source) || daemonPath.MatchString(m.Target) {
		j.refuse(ruleSocket, service, mountValue(m, source), at(), "", "mounts a path of the container daemon, %s at %s%s", source, m.Target, used(m))
		return
	}
	switch m.Type {
	case "bind":
		j.refuse(ruleBind, service, mountValue(m, source), at(), "ship files as configs and keep data in named volumes",
			"mounts %s of the host at %s%s", source, m.Target, used(m))
	case "tmpfs":
		j.target(service, m.Target, "volumes", "tmpfs")
	case "volume", "":
		j.target(service, m.Target, "volumes", "volume")
		if m.Volume != nil && m.Volume.Subpath != "" && !filepath.IsLocal(m.Volume.Subpath) {
			j.refuse(ruleMountPath, service, joined("subpath", source, m.Volume.Subpath), at(), "name a folder of the volume", "mounts %q, which is not within the volume %s", m.Volume.Subpath, source)
		}
		if _, declared := j.stack.Config.Volumes[source]; source != "" && !declared {
			j.refuse(ruleVolume, service, joined(source)+access(m), at(), "declare it under volumes", "mounts the volume %s, which the recipe does not declare", source)
		}
	default:
		j.refuse(ruleMountType, service, mountValue(m, source), at(), "", "has a mount of the type %s", m.Type)
	}
}

func (j *judge) serviceNetworks(s *types.ServiceConfig) {
	for _, key := range sorted(s.Networks) {
		at := func() place { return j.locate(key, "services", s.Name, "networks") }
		if _, ok := j.stack.Config.Networks[key]; !ok && key != "default" {
			j.refuse(ruleNetwork, s.Name, key, at(), "declare it under networks", "joins the network %s, which the recipe does not declare", key)
			continue
		}
		n := s.Networks[key]
		if n == nil {
			continue
		}
		for _, address := range []string{n.Ipv4Address, n.Ipv6Address} {
			if address != "" {
				j.refuse(ruleNetworkDriver, s.Name, address, at(), "leave the address out", "chooses its own address %s", address)
			}
		}
		for _, opt := range sorted(n.DriverOpts) {
			j.refuse(ruleNetworkDriver, s.Name, j.keyValue(opt, n.DriverOpts[opt]), at(), "", "sets the driver option %s of a network", opt)
		}
	}
}

// scheduling judges what a service takes of the swarm.
func (j *judge) scheduling(s *types.ServiceConfig) {
	d := s.Deploy
	if !slices.Contains([]string{"", "replicated", "global"}, d.Mode) {
		j.refuse(ruleMode, s.Name, d.Mode, j.locate("", "services", s.Name, "deploy", "mode"),
			"use a replicated service with restart_policy: condition: none", "runs in the mode %s", d.Mode)
	}
	for _, c := range d.Placement.Constraints {
		on, _, _ := strings.Cut(strings.ReplaceAll(c, " ", ""), "=")
		on = strings.TrimSuffix(on, "!")
		if on != "node.role" && !strings.HasPrefix(on, "node.platform.") {
			j.refuse(rulePlacement, s.Name, c, j.locate("", "services", s.Name, "deploy", "placement"), "",
				"chooses the machine it runs on, %s", c)
		}
	}
	if d.Replicas != nil && *d.Replicas > 20 {
		j.refuse(ruleReplicas, s.Name, fmt.Sprint(*d.Replicas), j.locate("", "services", s.Name, "deploy", "replicas"), "",
			"asks for %d replicas", *d.Replicas)
	}
	if r := d.Resources.Reservations; r != nil {
		for _, g := range r.GenericResources {
			if g.DiscreteResourceSpec != nil {
				kind := g.DiscreteResourceSpec.Kind
				value := fmt.Sprintf("%s=%d", kind, g.DiscreteResourceSpec.Value)
				j.refuse(ruleDevices, s.Name, value, j.locate(kind, "services", s.Name, "deploy"), "", "reserves the device %s", kind)
			}
		}
	}
}
