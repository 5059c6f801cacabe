package reconcile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// Verb says what an action does.
type Verb string

// Kind says to what.
type Kind string

// What actions do, and to what.
const (
	Init     Verb = "init"  // the swarm
	Label    Verb = "label" // node, secret, config: their labels only
	Create   Verb = "create"
	Update   Verb = "update"   // a service, the settings of the swarm
	Rollback Verb = "rollback" // a service, to what it was before
	Remove   Verb = "remove"
	Do       Verb = "do"     // a unit's own Step
	Await    Verb = "await"  // nothing: Docker is at it
	Hold     Verb = "hold"   // nothing: this update failed a short while ago
	Refuse   Verb = "refuse" // nothing: a person has to decide

	KindSwarm   Kind = "swarm"
	KindNode    Kind = "node"
	KindNetwork Kind = "network"
	KindSecret  Kind = "secret"
	KindConfig  Kind = "config"
	KindService Kind = "service"
)

// HoldTime is how long an update that failed is not tried again by itself. An operator who knows
// better says --retry.
const HoldTime = time.Hour

// Action is one change: one call of Docker's API.
type Action struct {
	Verb Verb   `json:"verb"`
	Kind Kind   `json:"kind,omitempty"`
	Name string `json:"name"` // of the object, with its version
	Why  string `json:"why,omitempty"`
	Hint string `json:"hint,omitempty"` // with Hold and Refuse: the way out
	Late bool   `json:"late,omitempty"` // only once everything serves: it ends the way back

	ID   string `json:"-"` // of the object, where there is one
	File File   `json:"-"` // of a secret or config to create
	Hash string `json:"-"` // of the service's specification that is wanted
}

// String says it in a sentence.
func (a Action) String() string {
	object := fmt.Sprintf("%s %s", a.Kind, a.Name)
	var text string
	switch a.Verb {
	case Init:
		text = "making a swarm of this one node"
	case Label:
		text = "labelling " + object
	case Create:
		text = "creating " + object
	case Update:
		text = "updating " + object
	case Rollback:
		text = "rolling back " + object
	case Remove:
		text = "removing " + object
	case Do:
		text = a.Name
	case Await:
		text = "waiting for " + object
	case Hold, Refuse:
		return "not touching " + object + ": " + a.Why
	}
	if a.Why != "" {
		text += ": " + a.Why
	}
	return text
}

// Plan returns what has to be done, in order, to come from what there is to what is wanted;
// nothing when they agree. It is pure. An update that failed after tried is held back.
//
// The first action is always right; those after it are what is known now: a
// Runner makes the first one, looks again and plans again.
func Plan(d Desired, o Observed, tried time.Time) []Action {
	p := &planner{desired: d, seen: o, tried: tried}
	if !p.swarm() {
		return p.actions
	}
	p.swarmLog()
	p.nodeLabels()
	p.networks()
	p.files()
	p.services()
	p.garbage()
	late := func(a Action) bool { return a.Late }
	return append(slices.DeleteFunc(slices.Clone(p.actions), late), slices.DeleteFunc(p.actions, func(a Action) bool { return !late(a) })...)
}

type planner struct {
	desired Desired
	seen    Observed
	tried   time.Time
	names   map[fileKey]string // versioned names, by key
	actions []Action
	going   map[string]bool // services that are being removed for the sake of a network
	wanted  map[string]bool // services that are to be there, by name
}

func (p *planner) add(a Action) { p.actions = append(p.actions, a) }

// swarm reports whether it is worth to plan on.
func (p *planner) swarm() bool {
	refuse := func(why, hint string) bool {
		p.add(Action{Verb: Refuse, Kind: KindSwarm, Name: "of this node", Why: why, Hint: hint})
		return false
	}
	switch p.seen.Swarm {
	case swarm.LocalNodeStateInactive, "":
		p.add(Action{Verb: Init, Kind: KindSwarm})
	case swarm.LocalNodeStateActive:
		if !p.seen.Manager {
			return refuse("this node is a worker, and services are made on a manager", "run cc-ci on a manager, or docker node promote this one")
		}
	case swarm.LocalNodeStateLocked:
		return refuse("it is locked", "run docker swarm unlock")
	default:
		return refuse(fmt.Sprintf("it is in state %q", p.seen.Swarm), "look at docker info; docker swarm leave --force starts anew and loses every service")
	}
	return true
}

func (p *planner) swarmLog() {
	want, have := p.desired.SwarmLog, p.seen.SwarmLog
	if want == nil || p.seen.Swarm != swarm.LocalNodeStateActive {
		return // a swarm that is made has them from the start
	}
	var wrong []string
	if have.SnapshotInterval != want.SnapshotInterval {
		wrong = append(wrong, fmt.Sprintf("its snapshot interval is %d, not %d", have.SnapshotInterval, want.SnapshotInterval))
	}
	if have.TaskHistory != want.TaskHistory {
		wrong = append(wrong, fmt.Sprintf("its task history limit is %d, not %d", have.TaskHistory, want.TaskHistory))
	}
	if len(wrong) > 0 {
		p.add(Action{Verb: Update, Kind: KindSwarm, Name: "of this node", Why: strings.Join(wrong, ", ")})
	}
}

func (p *planner) nodeLabels() {
	var wrong []string
	for _, key := range slices.Sorted(maps.Keys(p.desired.NodeLabels)) {
		if have, ok := p.seen.NodeLabels[key]; !ok || have != p.desired.NodeLabels[key] {
			wrong = append(wrong, key+" is not "+p.desired.NodeLabels[key])
		}
	}
	if len(wrong) > 0 {
		p.add(Action{Verb: Label, Kind: KindNode, Name: "of this machine", ID: p.seen.NodeID, Why: strings.Join(wrong, ", ")})
	}
}

func (p *planner) networks() {
	p.going = map[string]bool{}
	for _, want := range p.desired.Networks {
		i := slices.IndexFunc(p.seen.Networks, func(n NetworkSeen) bool { return n.Name == want.Name })
		if i < 0 {
			p.add(Action{Verb: Create, Kind: KindNetwork, Name: want.Name, Why: "it is not there"})
			continue
		}
		have := p.seen.Networks[i]
		why := want.differs(have)
		if why == "" {
			continue
		}
		users, strangers := p.users(have.Name)
		if len(strangers) > 0 {
			p.add(Action{Verb: Refuse, Kind: KindNetwork, Name: want.Name, Why: fmt.Sprintf("%s, and %s uses it", why, strings.Join(strangers, ", ")),
				Hint: "a network cannot be changed: remove those services, or wait until their runs have ended"})
			continue
		}
		for _, s := range users {
			p.going[s.Spec.Name] = true
			p.add(Action{Verb: Remove, Kind: KindService, Name: s.Spec.Name, ID: s.ID, Why: "it is in network " + want.Name + ", which has to be made anew"})
		}
		p.add(Action{Verb: Remove, Kind: KindNetwork, Name: want.Name, ID: have.ID, Why: why})
		p.add(Action{Verb: Create, Kind: KindNetwork, Name: want.Name, Why: "it was removed"})
	}
}

// users returns our services in a network, and the names of the others.
func (p *planner) users(network string) (ours []ServiceSeen, strangers []string) {
	for _, s := range p.seen.Services {
		switch {
		case !joins(s.Spec, network):
		case s.Spec.Labels[LabelUnit] != "" || strings.HasPrefix(s.Spec.Name, Prefix):
			ours = append(ours, s)
		default:
			strangers = append(strangers, s.Spec.Name)
		}
	}
	return ours, strangers
}

// differs says in what a network is not what is wanted.
func (n Network) differs(have NetworkSeen) string {
	switch {
	case have.Driver != "overlay":
		return "its driver is " + have.Driver + ", not overlay"
	case n.Subnet != "" && !slices.Contains(have.Subnets, n.Subnet):
		return fmt.Sprintf("its addresses are %s, not %s", strings.Join(have.Subnets, ", "), n.Subnet)
	case n.Attachable != have.Attachable:
		return fmt.Sprintf("attachable is %t", have.Attachable)
	case n.Internal != have.Internal:
		return fmt.Sprintf("internal is %t", have.Internal)
	}
	return ""
}

// files plans secrets and configs and settles their versioned names.
func (p *planner) files() {
	p.names = map[fileKey]string{}
	for _, f := range p.desired.Files {
		p.names[fileKey{f.kind(), f.Key}] = p.file(f)
	}
}

// file plans one file and returns its versioned name. An object of that name whose content is
// not, or may not be, what its name says is replaced, or gets a neighbour while it is in use.
func (p *planner) file(f File) string {
	for _, have := range p.seen.Files {
		base, _, _ := strings.Cut(have.Name, neighbour)
		if have.Kind != f.kind() || base != f.Name() || !have.holds(f) {
			continue
		}
		if !maps.Equal(have.Labels, f.labels(p.desired.Unit)) {
			p.add(Action{Verb: Label, Kind: f.kind(), Name: have.Name, ID: have.ID, File: f, Why: "its labels differ"})
		}
		return have.Name
	}
	creation := Action{Verb: Create, Kind: f.kind(), Name: f.Name(), File: f, Why: "it is not there"}
	for n := 2; ; n++ {
		i := slices.IndexFunc(p.seen.Files, func(s FileSeen) bool { return s.Kind == f.kind() && s.Name == creation.Name })
		if i >= 0 && len(p.usersOf(f.kind(), creation.Name)) > 0 {
			creation.Name = fmt.Sprint(f.Name(), neighbour, n)
			continue
		}
		if i >= 0 {
			creation.Why = "it was removed"
			p.add(Action{Verb: Remove, Kind: f.kind(), Name: creation.Name, ID: p.seen.Files[i].ID, Why: "nothing says that its content is what its name says"})
		}
		p.add(creation)
		return creation.Name
	}
}

// neighbour is between a versioned name and a number.
const neighbour = "--"

// holds reports whether an object has the content of f, as far as can be known.
func (s FileSeen) holds(f File) bool {
	if s.Digest != "" {
		return s.Digest == f.digest()
	}
	return s.Labels[LabelDigest] == f.digest()
}

// labels are those of a secret or config.
func (f File) labels(unit string) map[string]string {
	return map[string]string{LabelUnit: unit, LabelDigest: f.digest(), LabelStack: Stack}
}

// usersOf returns the names of services that use a file.
func (p *planner) usersOf(kind Kind, name string) []string {
	var users []string
	for _, s := range p.seen.Services {
		if slices.Contains(uses(s.Spec, kind), name) {
			users = append(users, s.Spec.Name)
		}
	}
	return users
}

func (p *planner) services() {
	p.wanted = map[string]bool{}
	before := len(p.actions)
	for _, want := range p.desired.Services {
		p.service(want)
	}
	for _, s := range p.seen.Services {
		if s.Spec.Labels[LabelUnit] == p.desired.Unit && !p.wanted[s.Spec.Name] && !p.going[s.Spec.Name] {
			p.actions = slices.Insert(p.actions, before, Action{Verb: Remove, Kind: KindService, Name: s.Spec.Name, ID: s.ID, Why: "it is wanted no longer"})
			before++
		}
	}
}

func (p *planner) service(want Service) {
	p.wanted[want.Name()] = true
	spec, hash := p.desired.finished(want, p.names)
	act := Action{Kind: KindService, Name: want.Name(), Hash: hash}
	i := slices.IndexFunc(p.seen.Services, func(s ServiceSeen) bool { return s.Spec.Name == want.Name() })
	if i < 0 || p.going[want.Name()] {
		act.Verb, act.Why = Create, "it is not there"
		p.add(act)
		return
	}
	have := p.seen.Services[i]
	act.ID = have.ID
	why := differences(have.Spec, spec)
	if why == "" {
		if done, words := have.judge(hash, p.seen.At); !done {
			act.Verb, act.Why = Await, words
			p.add(act)
		}
		return
	}
	switch have.Update.State {
	case swarm.UpdateStateRollbackStarted:
		act.Verb, act.Why = Await, "swarm takes an update back"
	default:
		act.Verb, act.Why = Update, why
		if (have.Spec.Mode.Replicated == nil) != (spec.Mode.Replicated == nil) || isTrial(want.Name()) {
			act.Verb = Remove // and create: Docker does not change the mode, and a trial is of one version
		} else if refused, at, words := have.refused(hash); refused && at.After(p.tried) {
			act.Verb = Hold
			act.Why = fmt.Sprintf("the update to %s was rolled back at %s: %s", spec.TaskTemplate.ContainerSpec.Image, at.Format(time.RFC3339), words)
			act.Hint = fmt.Sprintf("the version before it serves; mend what it says, or say cc-ci reconcile %s --retry", p.desired.Unit)
		} else if needsTrial(have, spec) {
			p.service(want.trial())
		}
	}
	p.add(act)
}

var versionPattern = regexp.MustCompile(`_[0-9a-f]{12}(--[0-9]+)?$`)

// version reports whether an object is by its name a version of one of the unit's files, whatever
// became of its labels.
func (p *planner) version(s FileSeen) bool {
	end := versionPattern.FindStringIndex(s.Name)
	return end != nil && slices.ContainsFunc(p.desired.Files, func(f File) bool { return f.kind() == s.Kind && f.Key == s.Name[:end[0]] })
}

// garbage plans the removal of what this unit made and wants no longer.
func (p *planner) garbage() {
	inUse := map[fileKey]bool{}
	for _, name := range p.names {
		inUse[fileKey{KindSecret, name}], inUse[fileKey{KindConfig, name}] = true, true
	}
	joined := map[string]bool{}
	for _, n := range p.desired.Networks {
		joined[n.Name] = true
	}
	for _, s := range p.seen.Services {
		// What this unit's services use now they will use no longer, unless one is held back.
		if s.Spec.Labels[LabelUnit] == p.desired.Unit && !slices.ContainsFunc(p.actions, func(a Action) bool { return a.Verb == Hold && a.Name == s.Spec.Name }) {
			continue
		}
		for _, kind := range []Kind{KindSecret, KindConfig} {
			for _, name := range uses(s.Spec, kind) {
				inUse[fileKey{kind, name}] = true
			}
		}
		for _, n := range s.Spec.TaskTemplate.Networks {
			joined[n.Target] = true
		}
	}
	for _, f := range p.seen.Files {
		if (f.Labels[LabelUnit] == p.desired.Unit || p.version(f)) && !inUse[fileKey{f.Kind, f.Name}] {
			p.add(Action{Verb: Remove, Kind: f.Kind, Name: f.Name, ID: f.ID, Why: "nothing uses it any more", Late: true})
		}
	}
	for _, n := range p.seen.Networks {
		if n.Labels[LabelUnit] == p.desired.Unit && !joined[n.Name] {
			p.add(Action{Verb: Remove, Kind: KindNetwork, Name: n.Name, ID: n.ID, Why: "it is wanted no longer", Late: true})
		}
	}
}
