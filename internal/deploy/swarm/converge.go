package swarm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// This file decides, from one look at the daemon, whether a stack has converged.
// It is pure: it asks nobody, and time is what the observation says.
//
// A service has converged when as many tasks run as are wanted, each made from the
// specification that was deployed (LabelSpec) and, since swarm keeps a task with a
// healthcheck in "starting" until it is healthy, each healthy; and when no
// other task of it is alive. The second half matters: a rolling update counts old
// and new tasks alike, and during a roll back the old ones answer every probe.
//
// Swarm calls an update "completed" only when its monitor period (5 s unless the
// recipe says otherwise) has passed without a failure. Deploy does not wait for that:
// the work that follows takes longer anyway. A task that fails within the period
// makes swarm roll back or pause, and Settle, which does wait for the monitor,
// reports it. Where swarm updates nothing it starts a task that ended again, for ever:
// Settle asks a service with such tasks to outlive them. So a run calls Settle before it
// gives its verdict.

// observation is one look at a stack.
type observation struct {
	services []swarm.Service
	tasks    []swarm.Task
	running  []string // names of services, one for each running container
	strays   int      // containers of services that the stack no longer has
	at       time.Time
}

// allRunning reports whether each service that wants tasks has a running container.
func (o observation) allRunning() bool {
	return len(o.services) > 0 && !slices.ContainsFunc(o.services, func(s swarm.Service) bool {
		return desiredTasks(s, o.tasks) > 0 && !slices.Contains(o.running, s.Spec.Name)
	})
}

// decision is what follows from a look and those before it.
type decision struct {
	converged bool
	tasks     string         // the tasks that converged, to compare two looks
	aged      bool           // all of them have run for so long that one look is enough for Settle
	failed    *failure       // nil while there is hope
	states    []serviceState // one per service, in order
	strays    int
}

type serviceState struct {
	service  service
	current  bool // converged
	watching bool // converged, and swarm still monitors the update
	unproven bool // converged, and not yet longer than its tasks before it ran
	words    string
	newest   *swarm.Task // of the specification wanted; nil when there is none
	failing  *streak     // its most frequent failure; nil when it has none
}

// failure is the end of hope.
type failure struct {
	reason  string
	code    ccci.Code
	service string // key
	message string
	tasks   []swarm.Task // the failed ones, newest first
}

// history remembers failed tasks, which swarm forgets after a few.
type history struct {
	services   []service
	floor      map[string]uint64
	loopWindow time.Duration
	grace      grace
	settle     bool                     // wait for swarm's monitor, and for services that have ended to last
	lives      map[string]time.Duration // by ended task: how long it ran
	ended      map[string]bool          // tasks that had ended at the first look; nil before it
	seen       map[string]bool
	running    map[string]time.Time // by task: when it was first seen running
	streaks    map[string]*streak   // by service name and failure
	givenUp    map[string]int       // by service name: looks in a row
	unplaced   map[string]time.Time
}

// streak is one failure of one service, repeated.
type streak struct {
	total int          // since the wait began
	count int          // since every other service is up or fails too
	first time.Time    // when count began
	last  time.Time    // when the newest was seen
	tasks []swarm.Task // newest first
}

// grace is how long after the start of a service another one may still end because it waits for it.
// A healthcheck says when a service is ready; without one its start says nothing about that.
type grace struct{ probed, bare time.Duration }

func newHistory(services []service) *history {
	return &history{
		services: services,
		floor:    map[string]uint64{},
		seen:     map[string]bool{},
		running:  map[string]time.Time{},
		lives:    map[string]time.Duration{},
		streaks:  map[string]*streak{},
		givenUp:  map[string]int{},
		unplaced: map[string]time.Time{},
	}
}

const (
	loopFailures  = 3 // the same failure so often is a restart loop
	rejections    = 2 // a rejection that may be a passing one
	givenUpLooks  = 3
	unplacedLimit = 5 * time.Second

	// A task without a healthcheck counts as running from its first moment, which
	// is seen even of one that dies at once. So it must have run for a while, and for
	// longer when one before it has failed.
	youngest      = time.Second
	youngestAgain = 3 * time.Second

	// lifeMargin is how much longer than the tasks before it, beside a quarter of that, a task must have
	// run: their lives are not equal to the second.
	lifeMargin = time.Second

	// unmonitored is how long a task without a healthcheck must have run for Settle: swarm monitors an
	// update for 5 s, and a new service not at all.
	unmonitored = 6 * time.Second
)

func (h *history) judge(o observation) decision {
	dec := decision{converged: o.strays == 0, aged: true, strays: o.strays}
	var signature []string
	waiting := false
	for _, want := range h.services {
		state, fail := h.judgeService(want, o)
		dec.states = append(dec.states, state)
		if fail != nil && dec.failed == nil {
			dec.failed = fail
		}
		dec.converged = dec.converged && state.current
		waiting = waiting || state.watching || state.unproven
		for _, t := range o.tasks {
			if isOf(t, want) && t.Status.State == swarm.TaskStateRunning {
				signature = append(signature, t.ID)
				dec.aged = dec.aged && o.at.Sub(h.since(t, o.at)) > unmonitored
			}
		}
	}
	slices.Sort(signature)
	dec.tasks = strings.Join(signature, " ")
	if dec.failed == nil {
		dec.failed = h.loops(o, dec)
	}
	if h.settle {
		dec.converged = dec.converged && !waiting
		h.remember(o)
	}
	for i := range dec.states {
		if state := &dec.states[i]; !state.current {
			state.failing = h.failing(state.service.name)
		}
	}
	return dec
}

func (h *history) judgeService(want service, o observation) (serviceState, *failure) {
	state := serviceState{service: want}
	i := slices.IndexFunc(o.services, func(s swarm.Service) bool { return s.Spec.Name == want.name })
	if i < 0 {
		state.words = "the service does not exist"
		return state, nil
	}
	svc := o.services[i]
	var tasks []swarm.Task
	for _, t := range o.tasks {
		if t.ServiceID == svc.ID {
			tasks = append(tasks, t)
		}
	}
	slices.SortFunc(tasks, func(a, b swarm.Task) int { return b.CreatedAt.Compare(a.CreatedAt) })
	for i, t := range tasks {
		if current(t, svc, want) {
			state.newest = &tasks[i]
			break
		}
	}
	if svc.Version.Index <= h.floor[svc.ID] {
		state.words = "swarm has not taken the update yet"
		return state, nil
	}
	if fail := updateFailure(want, svc, tasks); fail != nil {
		state.words = fail.message
		return state, fail
	}
	state.watching = svc.UpdateStatus != nil && svc.UpdateStatus.State == swarm.UpdateStateUpdating
	state.current, state.words = count(want, svc, tasks)
	if fail := h.hopeless(want, svc, tasks, o); fail != nil {
		return state, fail
	}
	if h.settle {
		var fail *failure
		if state.unproven, fail = h.lasts(want, svc, tasks, o); fail != nil {
			state.words = fail.message
			return state, fail
		}
	}
	if state.current && !want.probed && h.young(want, svc, tasks, o.at) {
		state.current = false
		state.words += ", which has no healthcheck and only just started"
	}
	return state, nil
}

// young reports whether a running task has not yet run long enough to be believed.
func (h *history) young(want service, svc swarm.Service, tasks []swarm.Task, at time.Time) bool {
	age := youngest
	if h.failing(want.name) != nil {
		age = youngestAgain
	}
	for _, t := range tasks {
		if !current(t, svc, want) || t.Status.State != swarm.TaskStateRunning {
			continue
		}
		if at.Sub(h.since(t, at)) < age {
			return true
		}
	}
	return false
}

// since says when a task that runs began to.
func (h *history) since(t swarm.Task, at time.Time) time.Time {
	first, known := h.running[t.ID]
	if !known {
		// Swarm's own time, when its clock is not ahead of ours.
		first = at
		if !t.Status.Timestamp.IsZero() && t.Status.Timestamp.Before(at) {
			first = t.Status.Timestamp
		}
		h.running[t.ID] = first
	}
	return first
}

// lasts decides whether a service runs for good. One whose tasks have ended by themselves
// must have run for longer than any of them did, and one without a healthcheck for a while. So one that waited for its database
// passes, and one that ends for ever does not, whenever it is looked at.
func (h *history) lasts(want service, svc swarm.Service, tasks []swarm.Task, o observation) (unproven bool, _ *failure) {
	if len(tasks) == 0 || desiredTasks(svc, tasks) == 0 {
		return false, nil
	}
	var ended []swarm.Task // newest first
	var longest, least time.Duration
	again := false
	for _, t := range tasks {
		if isOf(t, want) && endedByItself(t, svc) {
			ended = append(ended, t)
			longest = max(longest, h.lives[t.ID])
			again = again || h.ended != nil && !h.ended[t.ID]
		}
	}
	if !want.probed {
		least = unmonitored
	}
	if len(ended) > 0 {
		least = max(least, longest+longest/4+lifeMargin)
	}
	if least == 0 || oneShot(svc) && isOf(tasks[0], want) && tasks[0].Status.State == swarm.TaskStateComplete {
		return false, nil
	}
	if again && len(ended) > 1 && h.alone(want, ended[0].Status.Timestamp, o) {
		said := cmp.Or(taskWords(ended[0]), endedWell)
		return false, &failure{
			reason: loopReason(said), code: ccci.CodeRecipe, service: want.key, tasks: ended,
			message: "its tasks go on to end: " + said,
		}
	}
	for _, t := range tasks {
		if current(t, svc, want) && t.Status.State == swarm.TaskStateRunning && o.at.Sub(h.since(t, o.at)) <= least {
			return true, nil
		}
	}
	return false, nil
}

// remember notes, at the first look, what had ended before it.
func (h *history) remember(o observation) {
	if h.ended != nil {
		return
	}
	h.ended = map[string]bool{}
	for _, t := range o.tasks {
		if ended(t.Status.State) {
			h.ended[t.ID] = true
		}
	}
}

// endedByItself reports whether a task has ended that neither swarm stopped nor its service lets end.
func endedByItself(t swarm.Task, svc swarm.Service) bool {
	return t.Status.State == swarm.TaskStateFailed || t.Status.State == swarm.TaskStateComplete && !oneShot(svc)
}

func isOf(t swarm.Task, want service) bool {
	return t.Spec.ContainerSpec != nil && t.Spec.ContainerSpec.Labels[LabelSpec] == want.hash
}

// current reports whether a task was made from the specification that is wanted
// and that the service has now.
func current(t swarm.Task, svc swarm.Service, want service) bool {
	return isOf(t, want) && t.Spec.ForceUpdate == svc.Spec.TaskTemplate.ForceUpdate
}

// updateFailure recognises an update that swarm gave up.
func updateFailure(want service, svc swarm.Service, tasks []swarm.Task) *failure {
	fail := &failure{code: ccci.CodeRecipe, service: want.key}
	for _, t := range tasks {
		if isOf(t, want) && failedState(t.Status.State) {
			fail.tasks = append(fail.tasks, t)
		}
	}
	if u := svc.UpdateStatus; u != nil {
		switch u.State {
		case swarm.UpdateStatePaused:
			fail.reason, fail.message = "paused", "swarm paused the update: "+u.Message
			return fail
		case swarm.UpdateStateRollbackStarted, swarm.UpdateStateRollbackPaused, swarm.UpdateStateRollbackCompleted:
			fail.reason, fail.message = "rollback", "swarm rolled the update back: "+u.Message
			return fail
		}
	}
	if contents := svc.Spec.TaskTemplate.ContainerSpec; contents == nil || contents.Labels[LabelSpec] != want.hash {
		fail.reason, fail.message = "rollback", "the service no longer has the specification that was deployed"
		return fail
	}
	return nil
}

func failedState(s swarm.TaskState) bool {
	return s == swarm.TaskStateFailed || s == swarm.TaskStateRejected
}

// alive reports whether a task has, or is about to have, a container.
func alive(t swarm.Task) bool {
	switch t.Status.State {
	case swarm.TaskStateAssigned, swarm.TaskStateAccepted, swarm.TaskStatePreparing,
		swarm.TaskStateReady, swarm.TaskStateStarting, swarm.TaskStateRunning:
		return true
	}
	return false
}

// count compares the tasks that there are with those that there should be.
func count(want service, svc swarm.Service, tasks []swarm.Task) (bool, string) {
	desired := desiredTasks(svc, tasks)
	var running, complete, others, old int
	var last swarm.Task
	for _, t := range tasks {
		isCurrent := current(t, svc, want)
		if isCurrent && last.ID == "" {
			last = t
		}
		switch {
		case isCurrent && t.Status.State == swarm.TaskStateRunning && t.DesiredState == swarm.TaskStateRunning:
			running++
		case isCurrent && t.Status.State == swarm.TaskStateComplete:
			complete++
		case alive(t):
			others++
			if !isCurrent {
				old++
			}
		}
	}
	enough := running
	if oneShot(svc) {
		enough = running + complete
	}
	words := fmt.Sprintf("%d of %d tasks", enough, desired)
	if last.ID != "" {
		words += ", the newest is " + string(last.Status.State)
		if said := taskWords(last); said != "" {
			words += ": " + said
		}
	}
	if old > 0 {
		words += fmt.Sprintf(", %d older ones still alive", old)
	}
	if svc.Spec.Mode.Global != nil {
		return desired > 0 && enough >= desired && others == 0, words
	}
	// A task too many is one that swarm has not yet told to stop.
	return enough >= desired && running <= desired && others == 0, words
}

// oneShot reports whether a service may end: its tasks that succeeded stay ended.
func oneShot(svc swarm.Service) bool {
	p := svc.Spec.TaskTemplate.RestartPolicy
	return p != nil && (p.Condition == swarm.RestartPolicyConditionNone || p.Condition == swarm.RestartPolicyConditionOnFailure)
}

func desiredTasks(svc swarm.Service, tasks []swarm.Task) int {
	if mode := svc.Spec.Mode; mode.Replicated != nil {
		if mode.Replicated.Replicas == nil {
			return 1
		}
		return int(*mode.Replicated.Replicas)
	}
	if svc.ServiceStatus != nil && svc.ServiceStatus.DesiredTasks > 0 {
		return int(svc.ServiceStatus.DesiredTasks)
	}
	nodes := map[string]bool{} // one task for each node that swarm chose
	for _, t := range tasks {
		nodes[t.NodeID] = true
	}
	return len(nodes)
}

// endedWell is said of a task that has no words of its own.
const endedWell = "it exits with code 0 and is not meant to end"

// taskWords is a task's own account of its trouble, "" when it has none.
func taskWords(t swarm.Task) string {
	if t.Status.Err != "" {
		return clip(t.Status.Err, 500) // the runtime repeats what the recipe told it to start
	}
	if t.Status.ContainerStatus != nil && t.Status.ContainerStatus.ExitCode != 0 {
		return fmt.Sprintf("exit code %d", t.Status.ContainerStatus.ExitCode)
	}
	return ""
}
