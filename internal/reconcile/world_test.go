package reconcile

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/recipe-maintainers/cc-ci/internal/host"
)

// world is a Docker in memory that behaves as the real one does where it matters: what is in
// use cannot be removed, what is there cannot be made twice, and a service's tasks
// run at once, unless its image is broken.
type world struct {
	Observed
	broken   map[string]bool // images whose tasks fail
	pending  map[string]bool // images whose tasks never start
	previous map[string]swarm.ServiceSpec
	ids      int
	applied  []string
	now      func() time.Time
}

func newWorld() *world {
	return &world{
		Observed: Observed{Swarm: swarm.LocalNodeStateInactive}, now: time.Now,
		broken: map[string]bool{}, pending: map[string]bool{}, previous: map[string]swarm.ServiceSpec{},
	}
}

func (w *world) id() string { w.ids++; return fmt.Sprint("id", w.ids) }

func (w *world) Observe(context.Context) (Observed, error) {
	o := w.Observed
	o.Networks, o.Files, o.Services = slices.Clone(o.Networks), slices.Clone(o.Files), slices.Clone(o.Services)
	return o, nil
}

func (w *world) Apply(_ context.Context, want Desired, o Observed, a Action) error {
	w.applied = append(w.applied, a.String())
	switch a.Kind {
	case KindSwarm:
		w.SwarmLog = *swarmLog(host.SwarmLog())
		if a.Verb == Update {
			return nil
		}
		w.Swarm, w.Manager, w.NodeID, w.NodeLabels = swarm.LocalNodeStateActive, true, "node", map[string]string{}
		return nil
	case KindNode:
		maps.Copy(w.NodeLabels, want.NodeLabels)
		return nil
	case KindNetwork:
		return w.network(want, a)
	case KindSecret, KindConfig:
		return w.file(want, a)
	case KindService:
		return w.service(want, o, a)
	}
	return errNotOne
}

func (w *world) network(want Desired, a Action) error {
	i := slices.IndexFunc(w.Networks, func(n NetworkSeen) bool { return n.Name == a.Name })
	if a.Verb == Remove {
		for _, s := range w.Services {
			if joins(s.Spec, a.Name) {
				return fmt.Errorf("network %s is in use by service %s", a.Name, s.Spec.Name)
			}
		}
		w.Networks = slices.Delete(w.Networks, i, i+1)
		return nil
	}
	if i >= 0 {
		return fmt.Errorf("network %s already exists", a.Name)
	}
	n := want.Networks[slices.IndexFunc(want.Networks, func(n Network) bool { return n.Name == a.Name })]
	w.Networks = append(w.Networks, seenNetwork(w.id(), want.Unit, n))
	return nil
}

func seenNetwork(id, unit string, n Network) NetworkSeen {
	seen := NetworkSeen{ID: id, Name: n.Name, Driver: "overlay", Subnets: []string{n.Subnet}, Network: n, Labels: map[string]string{LabelUnit: unit}}
	seen.Subnet = ""
	return seen
}

func (w *world) file(want Desired, a Action) error {
	i := slices.IndexFunc(w.Files, func(f FileSeen) bool { return f.Kind == a.Kind && f.Name == a.Name })
	switch a.Verb {
	case Remove:
		for _, s := range w.Services {
			if slices.Contains(uses(s.Spec, a.Kind), a.Name) {
				return fmt.Errorf("%s %s is in use by %s", a.Kind, a.Name, s.Spec.Name)
			}
		}
		w.Files = slices.Delete(w.Files, i, i+1)
	case Label:
		w.Files[i].Labels = a.File.labels(want.Unit)
	case Create:
		if i >= 0 {
			return fmt.Errorf("%s %s already exists", a.Kind, a.Name)
		}
		seen := FileSeen{ID: w.id(), Kind: a.Kind, Name: a.Name, Labels: a.File.labels(want.Unit)}
		if a.Kind == KindConfig {
			seen.Digest = a.File.digest()
		}
		w.Files = append(w.Files, seen)
	}
	return nil
}

func (w *world) service(want Desired, o Observed, a Action) error {
	i := slices.IndexFunc(w.Services, func(s ServiceSeen) bool { return s.Spec.Name == a.Name })
	if a.Verb == Remove {
		w.Services = slices.Delete(w.Services, i, i+1)
		return nil
	}
	if a.Verb == Rollback {
		s := &w.Services[i]
		begin := w.now()
		s.Spec, s.Previous = w.previous[s.ID], false
		s.Update = swarm.UpdateStatus{State: swarm.UpdateStateRollbackCompleted, StartedAt: &begin, CompletedAt: &begin}
		s.Tasks = append([]TaskSeen{w.task(s.Spec)}, end(s.Tasks, begin)...)
		return nil
	}
	p := &planner{desired: want, seen: o}
	p.files()
	wanted, _ := want.service(a.Name)
	spec, hash := want.finished(wanted, p.names)
	for _, kind := range []Kind{KindSecret, KindConfig} {
		for _, name := range uses(spec, kind) {
			if !slices.ContainsFunc(w.Files, func(f FileSeen) bool { return f.Kind == kind && f.Name == name }) {
				return fmt.Errorf("there is no %s %s", kind, name)
			}
		}
	}
	for _, n := range spec.TaskTemplate.Networks {
		if n.Target != EgressNetwork && !slices.ContainsFunc(w.Networks, func(have NetworkSeen) bool { return have.Name == n.Target }) {
			return &Gone{fmt.Errorf("there is no network %s", n.Target)}
		}
	}
	if a.Verb == Create {
		if i >= 0 {
			return fmt.Errorf("service %s already exists", a.Name)
		}
		w.Services = append(w.Services, ServiceSeen{ID: w.id(), Spec: spec, Tasks: []TaskSeen{w.task(spec)}})
		return nil
	}
	s := &w.Services[i]
	begin := w.now()
	w.previous[s.ID], s.Previous = s.Spec, true
	image := spec.TaskTemplate.ContainerSpec.Image
	if w.broken[image] { // swarm goes back by itself
		s.Update = swarm.UpdateStatus{State: swarm.UpdateStateRollbackCompleted, StartedAt: &begin, CompletedAt: &begin}
		s.Tasks = append([]TaskSeen{
			{ID: w.id(), Hash: hash, State: swarm.TaskStatePending, Since: begin, Desired: swarm.TaskStateShutdown, Err: "host-mode port already in use"},
			{ID: w.id(), Hash: hash, State: swarm.TaskStateRejected, Since: begin, Err: "No such image: " + image},
		}, s.Tasks...)
		return nil
	}
	s.Spec = spec
	s.Update = swarm.UpdateStatus{State: swarm.UpdateStateCompleted, StartedAt: &begin}
	s.Tasks = append([]TaskSeen{w.task(spec)}, end(s.Tasks, begin)...)
	return nil
}

func (w *world) task(spec swarm.ServiceSpec) TaskSeen {
	c := spec.TaskTemplate.ContainerSpec
	t := TaskSeen{ID: w.id(), Hash: c.Labels[LabelSpec], State: swarm.TaskStateRunning, Desired: swarm.TaskStateRunning, Since: w.now().Add(-time.Minute)}
	switch {
	case w.pending[c.Image]:
		t.State = swarm.TaskStatePending
	case w.broken[c.Image]:
		t.State, t.Err = swarm.TaskStateRejected, "No such image: "+c.Image
	}
	return t
}

// end is what becomes of tasks when others take their place.
func end(tasks []TaskSeen, at time.Time) []TaskSeen {
	tasks = slices.Clone(tasks)
	for i := range tasks {
		tasks[i].Desired = swarm.TaskStateShutdown
		if alive(tasks[i]) {
			tasks[i].State, tasks[i].Since = swarm.TaskStateShutdown, at
		}
	}
	return tasks
}

// example is a desired state with one of everything.
func example(image, cert string) Desired {
	secret := File{Key: "key", Secret: true, Content: ccciSecret(cert)}
	config := File{Key: "conf", Content: ccciSecret("a: 1")}
	back := NewService("back", image)
	back.Join("inside")
	back.Mount(secret, "/run/secrets/key")
	front := NewService("front", image)
	front.Join("proxy", "inside")
	front.Mount(config, "/conf")
	front.Publish(443, 443, swarm.PortConfigProtocolTCP)
	return Desired{
		Unit: "test", NodeLabels: map[string]string{LabelHost: "true"},
		Networks: []Network{{Name: "proxy", Subnet: "10.10.0.0/16", Attachable: true}, {Name: "inside", Internal: true, Subnet: "10.9.0.0/24"}},
		Files:    []File{secret, config},
		Services: []Service{back, front},
	}
}

// tamper changes something, as a person or an accident would.
func (w *world) tamper(r *rand.Rand) {
	service := func() *ServiceSeen {
		if len(w.Services) == 0 {
			return &ServiceSeen{Spec: swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{}}}}
		}
		s := &w.Services[r.IntN(len(w.Services))]
		c := *s.Spec.TaskTemplate.ContainerSpec
		s.Spec.TaskTemplate.ContainerSpec = &c
		return s
	}
	drop := func(i int, n int) bool { return n > 0 && r.IntN(2) == i%2 }
	switch r.IntN(12) {
	case 0:
		w.Services = slices.DeleteFunc(w.Services, func(ServiceSeen) bool { return drop(0, 1) })
	case 1: // whatever is not in use
		w.Files = slices.DeleteFunc(w.Files, func(f FileSeen) bool {
			return drop(0, 1) && !slices.ContainsFunc(w.Services, func(s ServiceSeen) bool { return slices.Contains(uses(s.Spec, f.Kind), f.Name) })
		})
	case 2:
		w.Networks = slices.DeleteFunc(w.Networks, func(n NetworkSeen) bool {
			return drop(0, 1) && !slices.ContainsFunc(w.Services, func(s ServiceSeen) bool { return joins(s.Spec, n.Name) })
		})
	case 3:
		service().Spec.TaskTemplate.ContainerSpec.Image = "tampered"
	case 4:
		service().Spec.Labels = map[string]string{"x": "y", LabelUnit: "test"}
	case 5:
		n := uint64(r.IntN(3))
		service().Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n}
	case 6:
		if len(w.Files) > 0 {
			f := &w.Files[r.IntN(len(w.Files))]
			f.Labels = map[string]string{LabelUnit: "test", LabelDigest: "other"}
			if f.Kind == KindConfig && r.IntN(2) == 0 {
				f.Digest = "other"
			}
		}
	case 7:
		if len(w.Networks) > 0 {
			n := &w.Networks[r.IntN(len(w.Networks))]
			n.Internal, n.Attachable = r.IntN(2) == 0, r.IntN(2) == 0
			n.Subnets = []string{"10.77.0.0/24"}
		}
	case 8:
		w.NodeLabels = nil
		if w.Swarm == swarm.LocalNodeStateActive {
			w.NodeLabels = map[string]string{LabelHost: "false"}
		}
	case 9: // left over from an older version
		w.Files = append(w.Files, FileSeen{ID: w.id(), Kind: KindSecret, Name: fmt.Sprint("old", w.ids), Labels: map[string]string{LabelUnit: "test"}})
		w.Services = append(w.Services, ServiceSeen{ID: w.id(), Spec: NewService(fmt.Sprint("old", w.ids), "x").Spec})
		w.Services[len(w.Services)-1].Spec.Labels = map[string]string{LabelUnit: "test"}
		w.Networks = append(w.Networks, seenNetwork(w.id(), "test", Network{Name: fmt.Sprint("old", w.ids)}))
	case 10:
		service().Spec.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	case 11:
		w.Swarm, w.Manager, w.NodeID, w.NodeLabels, w.Networks, w.Files, w.Services = swarm.LocalNodeStateInactive, false, "", nil, nil, nil, nil
	}
}
