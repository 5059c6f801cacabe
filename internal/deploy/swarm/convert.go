package swarm

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// model is a stack in the words of the Docker API. Making it asks nobody:
// the same stack gives the same model, so that Settle knows what Deploy deployed.
type model struct {
	services []service
	networks map[string]network.CreateOptions // to create, by name
	volumes  []string                         // the stack's own that services mount, by name
	external externals                        // must be there already
	// proxied: the run's network to the proxy is among networks, and some service that
	// has tasks is on it.
	proxied bool
	files   []file // configs and secrets made from files of the recipe
	lowered lowering
}

type service struct {
	key   string // in the compose file
	image string // as the compose file names it
	name  string // on the daemon
	hash  string // value of LabelSpec
	// probed: the compose file gives it a healthcheck. That of an image is not known here.
	probed bool
	shares int64 // CPU weight of each of its containers
	// spec refers to networks, secrets and configs by name; see references.bind.
	spec swarm.ServiceSpec
}

type externals struct{ networks, secrets, configs, volumes []string }

// file is a config or secret whose content is a file of the recipe.
type file struct {
	secret   bool
	key      string
	name     string
	path     string
	labels   map[string]string
	template string
}

type converter struct {
	stack  *recipe.Stack
	images map[string]string // by reference
	run    ccci.RunID
	dnsrr  bool
	proxy  string // the external network that recipes name towards the proxy
}

// convert translates a stack and brings it under the ceilings. images has the ID of each image by its
// reference; a reference that it lacks stays, in a model that is not to be deployed.
// Errors name service and key and are the recipe's.
func convert(stack *recipe.Stack, images map[string]string, run ccci.RunID, dnsrr bool, proxy string, ceilings Ceilings) (_ *model, err error) {
	if stack == nil || stack.Config == nil || stack.Name == "" {
		return nil, ccci.Errorf(ccci.CodeInvalid, "converting a stack: it has no name or no compose model")
	}
	c := converter{stack, images, run, dnsrr, proxy}
	m := &model{}
	for _, s := range stack.Config.Services {
		svc, err := c.service(s)
		if err != nil {
			return nil, ccci.Errorf(ccci.CodeRecipe, "service %s: %w", s.Name, err)
		}
		m.services = append(m.services, svc)
	}
	if len(m.services) == 0 {
		return nil, ccci.Errorf(ccci.CodeRecipe, "stack %s has no services", stack.Name).
			WithHint("compose.yml needs a services section with at least one service")
	}
	slices.SortFunc(m.services, func(a, b service) int { return strings.Compare(a.key, b.key) })
	c.shared(m)
	if err := checkSizes(m, ceilings.Specs); err != nil {
		return nil, err
	}
	if m.lowered, err = clamp(m.services, ceilings); err != nil {
		return nil, err
	}
	m.lowered.notes = append(m.lowered.notes, c.hostPorts()...)
	for i := range m.services {
		s := &m.services[i]
		if s.hash, err = digest(s.spec.TaskTemplate); err != nil {
			return nil, ccci.Errorf(ccci.CodeRecipe, "service %s: %w", s.key, err)
		}
		s.spec.TaskTemplate.ContainerSpec.Labels[LabelSpec] = s.hash
	}
	return m, nil
}

// scope returns the daemon's name of a key: name when it has one of its own.
func (c converter) scope(key, name string) string {
	if name != "" {
		return name
	}
	return c.stack.Name + "_" + key
}

func (c converter) service(s types.ServiceConfig) (service, error) {
	if s.Image == "" {
		return service{}, fmt.Errorf("it has no image")
	}
	labels := maps.Clone(map[string]string(s.Deploy.Labels))
	if c.dnsrr {
		// Traefik can balance through swarm only with a virtual address; asked for
		// it without one, it drops the whole service.
		delete(labels, "traefik.docker.lbswarm")
		delete(labels, "traefik.swarm.lbswarm")
	}
	labels = owned(safeDefaults(c.proxyLabels(s, labels)), c.run, c.stack.Name)
	labels[labelStackImage] = s.Image

	spec := swarm.ServiceSpec{
		Annotations:    swarm.Annotations{Name: c.stack.Name + "_" + s.Name, Labels: labels},
		UpdateConfig:   updateConfig(s.Deploy.UpdateConfig),
		RollbackConfig: updateConfig(s.Deploy.RollbackConfig),
		EndpointSpec:   c.endpoint(s),
	}
	var err error
	if spec.Mode, err = serviceMode(s.Deploy); err != nil {
		return service{}, err
	}
	if spec.TaskTemplate, err = c.task(s); err != nil {
		return service{}, err
	}
	health := spec.TaskTemplate.ContainerSpec.Healthcheck
	probed := health != nil && len(health.Test) > 0 && health.Test[0] != "NONE"
	return service{key: s.Name, image: s.Image, name: spec.Name, probed: probed, spec: spec}, nil
}

func (c converter) task(s types.ServiceConfig) (swarm.TaskSpec, error) {
	mounts, err := c.mounts(s.Volumes)
	if err != nil {
		return swarm.TaskSpec{}, err
	}
	health, err := healthcheck(s.HealthCheck)
	if err != nil {
		return swarm.TaskSpec{}, err
	}
	resources, err := requirements(s.Deploy.Resources)
	if err != nil {
		return swarm.TaskSpec{}, err
	}
	restart, err := restartPolicy(s.Restart, s.Deploy.RestartPolicy)
	if err != nil {
		return swarm.TaskSpec{}, err
	}
	networks, err := c.attachments(s)
	if err != nil {
		return swarm.TaskSpec{}, err
	}
	secrets, err := c.secretRefs(s.Secrets)
	if err != nil {
		return swarm.TaskSpec{}, err
	}
	configs, err := c.configRefs(s.Configs)
	if err != nil {
		return swarm.TaskSpec{}, err
	}
	if s.CredentialSpec != (types.CredentialSpecConfig{}) {
		return swarm.TaskSpec{}, fmt.Errorf("credential_spec is for Windows and is not supported")
	}
	capAdd, capDrop := capabilities(s.CapAdd, s.CapDrop)
	task := swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{
			Image:           cmp.Or(c.images[s.Image], s.Image),
			Command:         s.Entrypoint,
			Args:            s.Command,
			Hostname:        c.hostname(s),
			Hosts:           extraHosts(s.ExtraHosts),
			DNSConfig:       dns(s),
			Healthcheck:     health,
			Env:             environment(s.Environment),
			Labels:          owned(s.Labels, c.run, c.stack.Name),
			Dir:             s.WorkingDir,
			User:            s.User,
			Mounts:          mounts,
			StopGracePeriod: (*time.Duration)(s.StopGracePeriod),
			StopSignal:      s.StopSignal,
			TTY:             s.Tty,
			OpenStdin:       s.StdinOpen,
			Secrets:         secrets,
			Configs:         configs,
			ReadOnly:        s.ReadOnly,
			Isolation:       container.Isolation(s.Isolation),
			Init:            s.Init,
			Sysctls:         s.Sysctls,
			CapabilityAdd:   capAdd,
			CapabilityDrop:  capDrop,
			Ulimits:         ulimits(s.Ulimits),
			OomScoreAdj:     s.OomScoreAdj,
		},
		Resources:     resources,
		RestartPolicy: restart,
		Placement:     placement(s.Deploy.Placement),
		Networks:      networks,
	}
	if s.Logging != nil {
		task.LogDriver = &swarm.Driver{Name: s.Logging.Driver, Options: s.Logging.Options}
	}
	return task, nil
}

func (c converter) endpoint(s types.ServiceConfig) *swarm.EndpointSpec {
	e := &swarm.EndpointSpec{Mode: swarm.ResolutionMode(strings.ToLower(s.Deploy.EndpointMode))}
	if c.dnsrr {
		e.Mode = swarm.ResolutionModeDNSRR
	}
	for _, p := range s.Ports {
		mode := swarm.PortConfigPublishMode(p.Mode)
		if c.dnsrr && s.Deploy.EndpointMode != string(swarm.ResolutionModeDNSRR) && mode != swarm.PortConfigPublishModeHost {
			mode = swarm.PortConfigPublishModeHost // swarm publishes by the address that dnsrr lacks
		}
		e.Ports = append(e.Ports, swarm.PortConfig{
			Protocol:      swarm.PortConfigProtocol(p.Protocol),
			TargetPort:    p.Target,
			PublishedPort: p.Published,
			PublishMode:   mode,
		})
	}
	slices.SortFunc(e.Ports, func(a, b swarm.PortConfig) int { return int(a.PublishedPort) - int(b.PublishedPort) })
	return e
}

// hostPorts says which ports are published otherwise than the recipe states.
func (c converter) hostPorts() []string {
	var notes []string
	for _, s := range c.stack.Config.Services {
		for i, p := range c.endpoint(s).Ports {
			if i == 0 && slices.ContainsFunc(s.Ports, func(stated types.ServicePortConfig) bool { return stated.Mode != string(p.PublishMode) }) {
				notes = append(notes, fmt.Sprintf("service %s: its ports are published in mode host, not ingress, as this machine runs every service with endpoint_mode dnsrr", s.Name))
			}
		}
	}
	return notes
}

// specLimit bounds a service's specification with its networks, in bytes. Swarm keeps it in one
// message, and a copy of its task and its networks in each task.
const specLimit = 512 << 10

// checkSizes bounds each specification, and the sum over all tasks: swarm's log has a copy of the
// specification for each change of each task's state, and with it a copy of each of the task's networks.
func checkSizes(m *model, most int64) error {
	var sum, largest, copies int64
	var key, included string
	for i := range m.services {
		s := &m.services[i]
		text, err := json.Marshal(s.spec)
		if err != nil {
			return ccci.Errorf(ccci.CodeRecipe, "service %s: encoding its specification: %w", s.key, err)
		}
		networks, err := m.networkBytes(s)
		if err != nil {
			return ccci.Errorf(ccci.CodeRecipe, "service %s: encoding its networks: %w", s.key, err)
		}
		size, with := int64(len(text))+networks, ""
		if networks > size/2 {
			with = " with its networks"
		}
		if size > specLimit {
			return ccci.Errorf(ccci.CodeRecipe, "service %s: its specification has %d bytes%s, at most %d are allowed", s.key, size, with, specLimit).WithHint(shorten)
		}
		sum += size * s.tasks()
		if size*s.tasks() > largest {
			largest, copies, key, included = size*s.tasks(), s.tasks(), s.key, with
		}
	}
	if most > 0 && sum > most {
		return ccci.Errorf(ccci.CodeRecipe, "service %s: its specification has %d bytes%s for each of %d tasks; all tasks of the app together have %d, at most %d are allowed",
			key, largest/copies, included, copies, sum, most).WithHint(shorten + ", or use fewer replicas")
	}
	return nil
}

// networkBytes is the size of what the stack's networks that a service is on are created with.
func (m *model) networkBytes(s *service) (sum int64, err error) {
	for _, n := range s.spec.TaskTemplate.Networks {
		if options, ours := m.networks[n.Target]; ours {
			text, err := json.Marshal(options)
			if err != nil {
				return 0, err
			}
			sum += int64(len(text))
		}
	}
	return sum, nil
}

const shorten = "shorten the service's command, environment and labels, and the labels of its networks: put long texts into a config or a volume"

// tasks is how many tasks the service has. A global one counts as that of a single node.
func (s *service) tasks() int64 {
	if m := s.spec.Mode.Replicated; m != nil && m.Replicas != nil {
		return int64(min(*m.Replicas, 1<<20))
	}
	return 1
}

// digest is a short, stable fingerprint of a task's specification. It is taken
// before identifiers of networks, secrets and configs are filled in.
func digest(task swarm.TaskSpec) (string, error) {
	text, err := json.Marshal(task)
	if err != nil {
		return "", fmt.Errorf("encoding the task: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12]), nil
}

func serviceMode(d types.DeployConfig) (swarm.ServiceMode, error) {
	replicas := d.Replicas
	switch d.Mode {
	case "", "replicated":
		return swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: replicas}}, nil
	case "replicated-job", "global-job":
		// Swarm keeps the tasks of a job that has completed after its service was
		// removed, and no request removes them: nothing could tear such an app down.
		return swarm.ServiceMode{}, fmt.Errorf("deploy.mode %s is not supported: swarm keeps the tasks of a job for ever", d.Mode)
	case "global":
		if replicas != nil {
			return swarm.ServiceMode{}, fmt.Errorf("deploy.replicas cannot be set with mode %s", d.Mode)
		}
		return swarm.ServiceMode{Global: &swarm.GlobalService{}}, nil
	}
	return swarm.ServiceMode{}, fmt.Errorf("deploy.mode %q is unknown", d.Mode)
}

func updateConfig(u *types.UpdateConfig) *swarm.UpdateConfig {
	if u == nil {
		return nil
	}
	parallelism := uint64(1)
	if u.Parallelism != nil {
		parallelism = *u.Parallelism
	}
	return &swarm.UpdateConfig{
		Parallelism:     parallelism,
		Delay:           time.Duration(u.Delay),
		FailureAction:   u.FailureAction,
		Monitor:         time.Duration(u.Monitor),
		MaxFailureRatio: u.MaxFailureRatio,
		Order:           u.Order,
	}
}

// restartPolicy prefers deploy.restart_policy. Of the old restart key it takes
// what docker stack deploy takes: "no" leaves swarm's default, which is any.
func restartPolicy(old string, p *types.RestartPolicy) (*swarm.RestartPolicy, error) {
	if p != nil {
		return &swarm.RestartPolicy{
			Condition:   swarm.RestartPolicyCondition(p.Condition),
			Delay:       (*time.Duration)(p.Delay),
			MaxAttempts: p.MaxAttempts,
			Window:      (*time.Duration)(p.Window),
		}, nil
	}
	name, count, _ := strings.Cut(old, ":")
	switch name {
	case "", "no":
		return nil, nil
	case "always", "unless-stopped":
		return &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionAny}, nil
	case "on-failure":
		policy := &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionOnFailure}
		if count != "" {
			var n uint64
			if _, err := fmt.Sscanf(count, "%d", &n); err != nil {
				return nil, fmt.Errorf("restart %q: the number of attempts is not a number", old)
			}
			policy.MaxAttempts = &n
		}
		return policy, nil
	}
	return nil, fmt.Errorf("restart %q is unknown", old)
}

func healthcheck(h *types.HealthCheckConfig) (*container.HealthConfig, error) {
	if h == nil {
		return nil, nil
	}
	if h.Disable {
		if len(h.Test) != 0 {
			return nil, fmt.Errorf("healthcheck: test and disable exclude each other")
		}
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	}
	out := &container.HealthConfig{
		Test:          h.Test,
		Interval:      duration(h.Interval),
		Timeout:       duration(h.Timeout),
		StartPeriod:   duration(h.StartPeriod),
		StartInterval: duration(h.StartInterval),
	}
	if h.Retries != nil {
		out.Retries = int(*h.Retries)
	}
	return out, nil
}

func duration(d *types.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

func placement(p types.Placement) *swarm.Placement {
	out := &swarm.Placement{Constraints: p.Constraints, MaxReplicas: p.MaxReplicas}
	for _, pref := range p.Preferences {
		out.Preferences = append(out.Preferences, swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: pref.Spread}})
	}
	return out
}

func environment(env types.MappingWithEquals) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(env)) {
		if value := env[key]; value != nil {
			out = append(out, key+"="+*value)
		} else {
			out = append(out, key)
		}
	}
	return out
}

// extraHosts turns "name:address" into the "address name" of /etc/hosts.
func extraHosts(hosts []string) []string {
	var out []string
	for _, h := range hosts {
		if name, address, ok := strings.Cut(h, ":"); ok {
			out = append(out, address+" "+name)
		}
	}
	return out
}

func dns(s types.ServiceConfig) *swarm.DNSConfig {
	if s.DNS == nil && s.DNSSearch == nil {
		return nil
	}
	return &swarm.DNSConfig{Nameservers: s.DNS, Search: s.DNSSearch}
}
