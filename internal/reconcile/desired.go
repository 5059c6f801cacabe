package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Labels of what units make.
const (
	// LabelUnit names the unit that an object belongs to.
	LabelUnit = "cc-ci.unit"
	// LabelSpec is on each service and its tasks: a digest of the specification that
	// was wanted. A task without it is of another specification.
	LabelSpec = "cc-ci.spec"
	// LabelDigest is on each secret and config: the SHA-256 of its content, in hex.
	LabelDigest = "cc-ci.digest"
	// LabelHost is on the node whose files and socket the services mount.
	LabelHost = "cc-ci.host"
	// LabelProxy is "true" on the container that apps are reached through, and on no other: a
	// run attaches that container to its own network.
	LabelProxy = "cc-ci.proxy"
	// LabelStack is Docker's own for the members of a stack; docker stack ps cc-ci lists all.
	LabelStack = "com.docker.stack.namespace"

	// Stack is the value of LabelStack, and Prefix begins each service's name.
	Stack  = "cc-ci"
	Prefix = Stack + "_"
)

// Desired is what a unit wants to exist, as data. References inside it are by
// name: a service's networks by Network.Name (of this unit or another one), its
// secrets and configs by File.Key. Docker's identifiers and the versioned
// names are filled in by Plan and Apply.
type Desired struct {
	Unit       string            // filled in by the Runner
	NodeLabels map[string]string // of this node; others stay
	SwarmLog   *SwarmLog         // nil leaves the swarm's settings as they are
	Networks   []Network
	Files      []File
	Services   []Service // in the order in which they are brought up, each before the next
}

// SwarmLog are the settings of a swarm that bound what it keeps of ended tasks.
type SwarmLog struct {
	SnapshotInterval uint64 // entries of its log between two snapshots
	TaskHistory      int64  // tasks kept of each slot
}

func swarmLog(s swarm.Spec) *SwarmLog {
	out := &SwarmLog{SnapshotInterval: s.Raft.SnapshotInterval}
	if limit := s.Orchestration.TaskHistoryRetentionLimit; limit != nil {
		out.TaskHistory = *limit
	}
	return out
}

// Network is an overlay network. Its options cannot be changed in Docker, so that another one
// of its name is replaced, unless somebody else's services use it.
type Network struct {
	Name       string
	Subnet     string // as 10.10.0.0/16; "" leaves it to Docker
	Attachable bool
	Internal   bool // no way out
}

// Networks of cc-ci's own services. No app is in one of them.
const (
	// InfraNetwork is where the proxy reaches Drone, bridge and dashboard. It has no way out.
	InfraNetwork = Prefix + "infra"
	// EgressNetwork is the way out of those that need one, the bridge that every Docker has: a
	// task in it has its default route there and is not on docker_gwbridge, where apps are, so
	// that a firewall can tell them apart.
	EgressNetwork = "bridge"
)

// File is a secret or a config: something that appears as a file in containers.
type File struct {
	Key     string // its name without the version; at most 48 characters
	Secret  bool
	Content ccci.Secret // at most 500 KB
}

// Name returns the versioned name. The digest in a secret's name tells
// nothing of a key or a token; do not make a secret of what could be guessed.
func (f File) Name() string { return f.Key + "_" + f.digest()[:12] }

func (f File) digest() string {
	sum := sha256.Sum256([]byte(f.Content.Reveal()))
	return hex.EncodeToString(sum[:])
}

func (f File) kind() Kind {
	if f.Secret {
		return KindSecret
	}
	return KindConfig
}

// Service is a swarm service. Make one with [NewService] and change what has to differ.
type Service struct {
	Spec swarm.ServiceSpec
	// Patience is how long it may take until all its tasks run, the time for
	// pulling its image included. Default 3 minutes.
	Patience time.Duration
}

// Name is the service's name.
func (s Service) Name() string { return s.Spec.Name }

// NewService returns a service of one task as all of them are: on this node, found by the
// addresses of its tasks (which needs no IPVS in the kernel and takes no virtual address),
// started anew when it ends, without capabilities, with a read-only root file system and a bounded log, watched
// for 5 s when updated and rolled back when it fails. Its name is Prefix and name. It has the
// memory and the processes of a small server; see [Service.Memory].
func NewService(name, image string) Service {
	one, delay := uint64(1), 2*time.Second
	noInit := true
	s := Service{
		Patience: 3 * time.Minute,
		Spec: swarm.ServiceSpec{
			Annotations: swarm.Annotations{Name: Prefix + name, Labels: map[string]string{LabelStack: Stack}},
			TaskTemplate: swarm.TaskSpec{
				ContainerSpec: &swarm.ContainerSpec{
					Image: image, ReadOnly: true, Init: &noInit, CapabilityDrop: []string{"ALL"},
					Labels: map[string]string{LabelStack: Stack},
				},
				RestartPolicy: &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionAny, Delay: &delay},
				Placement:     &swarm.Placement{Constraints: []string{"node.labels." + LabelHost + " == true"}},
				LogDriver:     &swarm.Driver{Name: "json-file", Options: map[string]string{"max-size": "10m", "max-file": "3"}},
			},
			Mode:           swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &one}},
			EndpointSpec:   &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR},
			UpdateConfig:   &swarm.UpdateConfig{Parallelism: 1, FailureAction: swarm.UpdateFailureActionRollback, Monitor: 5 * time.Second, Order: swarm.UpdateOrderStartFirst},
			RollbackConfig: &swarm.UpdateConfig{Parallelism: 1, FailureAction: swarm.UpdateFailureActionPause, Monitor: 2 * time.Second, Order: swarm.UpdateOrderStopFirst},
		},
	}
	s.Memory(32<<20, 256<<20)
	return s
}

// Memory reserves memory, in bytes, so that apps cannot take it, and bounds what the service itself
// uses. Its processes and threads are bounded by pidsLimit. All own services are Go programs,
// which collect garbage harder from nine tenths of the limit on.
func (s *Service) Memory(reserved, limit int64) {
	s.Spec.TaskTemplate.Resources = &swarm.ResourceRequirements{
		Reservations: &swarm.Resources{MemoryBytes: reserved},
		Limits:       &swarm.Limit{MemoryBytes: limit, Pids: pidsLimit},
	}
	const name = "GOMEMLIMIT="
	c := s.Spec.TaskTemplate.ContainerSpec
	c.Env = slices.DeleteFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, name) })
	c.Env = append(c.Env, fmt.Sprintf("%s%d", name, limit/10*9))
}

// CPUs bounds the processors that the service may use, in billionths of one.
func (s *Service) CPUs(limit int64) { s.Spec.TaskTemplate.Resources.Limits.NanoCPUs = limit }

// halfCPUs bounds the service to half of the machine's processors: whoever makes it compute leaves the rest to
// runs and to the other services.
func (s *Service) halfCPUs() { s.CPUs(int64(runtime.NumCPU()) * 1e9 / 2) }

// pidsLimit is far above what any of the services uses.
const pidsLimit = 1024

// StopFirst makes an update end the old task before the new one starts: for what
// cannot be there twice, as whoever has a port of the host or a database file.
func (s *Service) StopFirst() {
	s.Spec.UpdateConfig.Order = swarm.UpdateOrderStopFirst
}

// Join adds networks.
func (s *Service) Join(networks ...string) {
	for _, name := range networks {
		s.Spec.TaskTemplate.Networks = append(s.Spec.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: name})
	}
}

// Publish publishes a port in host mode, which needs no IPVS and keeps callers' addresses. The
// service gets StopFirst.
func (s *Service) Publish(published, target uint32, protocol swarm.PortConfigProtocol) {
	s.StopFirst()
	s.Spec.EndpointSpec.Ports = append(s.Spec.EndpointSpec.Ports, swarm.PortConfig{
		Protocol: protocol, PublishedPort: published, TargetPort: target, PublishMode: swarm.PortConfigPublishModeHost,
	})
}

// Mount mounts the file with that key, readable for root alone if it is a secret.
func (s *Service) Mount(f File, target string) {
	c := s.Spec.TaskTemplate.ContainerSpec
	if f.Secret {
		c.Secrets = append(c.Secrets, &swarm.SecretReference{SecretName: f.Key, File: &swarm.SecretReferenceFileTarget{Name: target, UID: "0", GID: "0", Mode: 0o400}})
		return
	}
	c.Configs = append(c.Configs, &swarm.ConfigReference{ConfigName: f.Key, File: &swarm.ConfigReferenceFileTarget{Name: target, UID: "0", GID: "0", Mode: 0o444}})
}

// Bind mounts a path of the host.
func (s *Service) Bind(source, target string, readOnly bool) {
	c := s.Spec.TaskTemplate.ContainerSpec
	c.Mounts = append(c.Mounts, mount.Mount{Type: mount.TypeBind, Source: source, Target: target, ReadOnly: readOnly})
}

// Volume mounts a volume of this node, which is made where it is not there and
// never removed: it has data.
func (s *Service) Volume(name, target string) {
	c := s.Spec.TaskTemplate.ContainerSpec
	c.Mounts = append(c.Mounts, mount.Mount{Type: mount.TypeVolume, Source: name, Target: target})
}

// Healthy makes Docker ask a command of the image whether a task is well, every
// few seconds; the task counts as running when it first is.
func (s *Service) Healthy(command ...string) {
	s.Spec.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{
		Test: append([]string{"CMD"}, command...), Interval: 3 * time.Second, Timeout: 5 * time.Second, Retries: 5,
	}
}

var keyPattern = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,46}[a-zA-Z0-9])?$`)

// check refuses a desired state that contradicts itself: a mistake in a unit.
func (d Desired) check() error {
	bad := func(format string, args ...any) error {
		return ccci.Errorf(ccci.CodeInvalid, "the desired state of %s: %s", d.Unit, fmt.Sprintf(format, args...))
	}
	seen := map[string]bool{}
	for _, f := range d.Files {
		id := string(f.kind()) + " " + f.Key
		if !keyPattern.MatchString(f.Key) || seen[id] {
			return bad("%s is no name, or there twice", id)
		}
		if n := len(f.Content.Reveal()); n == 0 || n > 500<<10 {
			return bad("%s has %d bytes; Docker takes 1 to 512000", id, n)
		}
		seen[id] = true
	}
	for _, s := range d.Services {
		id := "service " + s.Name()
		if s.Name() == "" || seen[id] {
			return bad("%s has no name, or is there twice", id)
		}
		seen[id] = true
		c := s.Spec.TaskTemplate.ContainerSpec
		if c == nil || c.Image == "" {
			return bad("%s has no image", id)
		}
		for _, f := range c.Secrets {
			if !seen["secret "+f.SecretName] {
				return bad("%s uses a secret %s that is not there", id, f.SecretName)
			}
		}
		for _, f := range c.Configs {
			if !seen["config "+f.ConfigName] {
				return bad("%s uses a config %s that is not there", id, f.ConfigName)
			}
		}
	}
	return nil
}

// finished returns the specification as Docker is to have it, but for its
// identifiers: versioned names in place of keys, and the labels that mark it.
func (d Desired) finished(s Service, names map[fileKey]string) (swarm.ServiceSpec, string) {
	spec := s.Spec
	c := *spec.TaskTemplate.ContainerSpec
	c.Secrets, c.Configs = slices.Clone(c.Secrets), slices.Clone(c.Configs)
	for i, ref := range c.Secrets {
		r := *ref
		r.SecretName = names[fileKey{KindSecret, r.SecretName}]
		c.Secrets[i] = &r
	}
	for i, ref := range c.Configs {
		r := *ref
		r.ConfigName = names[fileKey{KindConfig, r.ConfigName}]
		c.Configs[i] = &r
	}
	spec.Labels = with(spec.Labels, LabelUnit, d.Unit)
	c.Labels = with(c.Labels, LabelUnit, d.Unit)
	spec.TaskTemplate.ContainerSpec = &c
	hash := hashOf(spec)
	c.Labels[LabelSpec] = hash
	spec.Labels[LabelSpec] = hash
	return spec, hash
}

func with(labels map[string]string, key, value string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

type fileKey struct {
	kind Kind
	key  string
}

// on leaves out what the machine cannot do.
func (d Desired) on(o Observed) Desired {
	if !o.NoCPULimit {
		return d
	}
	d.Services = slices.Clone(d.Services)
	for i := range d.Services {
		s := &d.Services[i]
		if r := s.Spec.TaskTemplate.Resources; r != nil && r.Limits != nil && r.Limits.NanoCPUs != 0 {
			resources, limits := *r, *r.Limits
			limits.NanoCPUs = 0
			resources.Limits = &limits
			s.Spec.TaskTemplate.Resources = &resources
		}
	}
	return d
}
