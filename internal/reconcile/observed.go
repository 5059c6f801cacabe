package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// Observed is what Docker has at one moment, of everybody. Specifications of
// services are with names in place of identifiers, as in [Desired].
type Observed struct {
	At         time.Time
	Swarm      swarm.LocalNodeState // inactive, active, pending, error, locked
	Manager    bool
	NodeID     string
	NodeLabels map[string]string
	SwarmLog   SwarmLog
	// NoCPULimit says that the kernel cannot bound processors: a task that asks for it never starts.
	NoCPULimit bool
	Networks   []NetworkSeen
	Files      []FileSeen
	Services   []ServiceSeen
}

// NetworkSeen is a network of the swarm.
type NetworkSeen struct {
	ID, Name string
	Driver   string
	Subnets  []string
	Network  // what can be wanted of it; Subnet is empty
	Labels   map[string]string
}

// FileSeen is a secret or a config.
type FileSeen struct {
	ID      string
	Kind    Kind
	Name    string
	Version swarm.Version
	Labels  map[string]string
	Digest  string // of a config's content; "" for a secret, whose content nobody can read
}

// ServiceSeen is a service and its tasks.
type ServiceSeen struct {
	ID       string
	Version  swarm.Version
	Spec     swarm.ServiceSpec
	Previous bool // there is a specification to go back to
	Update   swarm.UpdateStatus
	Tasks    []TaskSeen // newest first
}

// TaskSeen is a task of a service.
type TaskSeen struct {
	ID      string
	Hash    string // of the specification that it was made from, "" when that was not ours
	State   swarm.TaskState
	Desired swarm.TaskState
	Since   time.Time // when it came into State
	Err     string    // its own account of its trouble
	Healthy bool      // it has a healthcheck, so that running means healthy
}

// youngest is how long a task without a healthcheck must have run to count: also one
// that dies at once is seen running.
const youngest = time.Second

// judge reports whether a service has converged on the specification with that hash,
// and in words how far it is.
func (s ServiceSeen) judge(hash string, at time.Time) (bool, string) {
	want := 1
	if r := s.Spec.Mode.Replicated; r != nil && r.Replicas != nil {
		want = int(*r.Replicas)
	}
	running, others := 0, 0
	var newest TaskSeen
	for _, t := range s.Tasks {
		ours := t.Hash == hash
		if ours && newest.ID == "" {
			newest = t
		}
		switch {
		case ours && t.State == swarm.TaskStateRunning && t.Desired == swarm.TaskStateRunning && (t.Healthy || at.Sub(t.Since) >= youngest):
			running++
		case alive(t):
			others++
		}
	}
	words := fmt.Sprintf("%d of %d tasks run", running, want)
	switch s.Update.State {
	case swarm.UpdateStateUpdating, swarm.UpdateStateRollbackStarted:
		words += ", swarm still watches them"
		others++
	}
	if running < want && newest.ID != "" {
		words += ", the newest is " + string(newest.State)
		if newest.Err != "" {
			words += ": " + newest.Err
		}
	}
	return running == want && others == 0, words
}

// alive reports whether a task has, or is about to have, a container.
func alive(t TaskSeen) bool {
	switch t.State {
	case swarm.TaskStateNew, swarm.TaskStatePending:
		return t.Desired != swarm.TaskStateShutdown && t.Desired != swarm.TaskStateRemove // else it never gets a node
	case swarm.TaskStateAssigned, swarm.TaskStateAccepted, swarm.TaskStatePreparing,
		swarm.TaskStateReady, swarm.TaskStateStarting, swarm.TaskStateRunning:
		return true
	}
	return false
}

func failed(t TaskSeen) bool {
	return t.State == swarm.TaskStateFailed || t.State == swarm.TaskStateRejected || t.State == swarm.TaskStateOrphaned
}

// refused reports whether an update to that hash was tried and taken back, when, and why.
func (s ServiceSeen) refused(hash string) (bool, time.Time, string) {
	switch s.Update.State {
	case swarm.UpdateStateRollbackCompleted, swarm.UpdateStateRollbackPaused:
	default:
		return false, time.Time{}, ""
	}
	for _, t := range s.Tasks {
		// One that ended before this update began is of an older one.
		if t.Hash != hash || s.Update.StartedAt != nil && t.Since.Before(*s.Update.StartedAt) {
			continue
		}
		at := t.Since
		if s.Update.CompletedAt != nil {
			at = *s.Update.CompletedAt
		}
		words := s.words(hash)
		if words == "" {
			words = "it ran and did not serve"
		}
		return true, at, words
	}
	return false, time.Time{}, ""
}

// words are those of the newest task of that hash that failed, else of the newest that has
// any: one that waits for a failed one's port says nothing of the cause.
func (s ServiceSeen) words(hash string) string {
	words := ""
	for _, t := range s.Tasks {
		switch {
		case t.Hash != hash || t.Err == "":
		case failed(t):
			return t.Err
		case words == "":
			words = t.Err
		}
	}
	return words
}

// uses returns the names of the files of a kind that a service uses.
func uses(spec swarm.ServiceSpec, kind Kind) []string {
	var names []string
	c := spec.TaskTemplate.ContainerSpec
	if c == nil {
		return nil
	}
	if kind == KindSecret {
		for _, r := range c.Secrets {
			names = append(names, r.SecretName)
		}
		return names
	}
	for _, r := range c.Configs {
		names = append(names, r.ConfigName)
	}
	return names
}

// joins reports whether a service is in a network.
func joins(spec swarm.ServiceSpec, network string) bool {
	return slices.ContainsFunc(spec.TaskTemplate.Networks, func(n swarm.NetworkAttachmentConfig) bool { return n.Target == network })
}
