package swarm

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// This file decides when waiting longer is in vain. Swarm itself never says so: it
// tries a task that cannot start for ever, every few seconds.

// certain are causes that no second attempt removes. An exit code is none of them.
var certain = []string{
	"invalid mount", "bind source path does not exist", "executable file not found", "exec format error",
}

// hopeless recognises what will not heal, and notes failures for [history.loops].
func (h *history) hopeless(want service, svc swarm.Service, tasks []swarm.Task, o observation) *failure {
	waiting := false // some task is still wanted
	placed := true
	for _, t := range tasks {
		if !current(t, svc, want) {
			continue
		}
		switch t.Status.State {
		case swarm.TaskStateRejected, swarm.TaskStateFailed, swarm.TaskStateComplete:
			if t.Status.State == swarm.TaskStateComplete && oneShot(svc) {
				waiting = true
				continue
			}
			if fail := h.note(want, t, o.at); fail != nil {
				return fail
			}
		case swarm.TaskStatePending:
			if strings.Contains(t.Status.Err, "no suitable node") {
				placed = false
				if fail := h.unplaceable(want, t, o.at); fail != nil {
					return fail
				}
			}
		}
		given := t.DesiredState == swarm.TaskStateShutdown || t.DesiredState == swarm.TaskStateRemove
		if !ended(t.Status.State) || !given {
			waiting = true
		}
	}
	if placed {
		delete(h.unplaced, want.name)
	}
	return h.abandoned(want, svc, tasks, waiting)
}

// note records a failed task, once, and returns a failure when it is a certain one.
func (h *history) note(want service, t swarm.Task, at time.Time) *failure {
	said := cmp.Or(taskWords(t), endedWell)
	key := want.name + " " + alike(said)
	s := h.streaks[key]
	if s == nil {
		s = &streak{first: at}
		h.streaks[key] = s
	}
	if !h.seen[t.ID] {
		h.seen[t.ID] = true
		s.total++
		s.count++
		s.last = at
		s.tasks = append([]swarm.Task{t}, s.tasks...)
	}
	rejected := t.Status.State == swarm.TaskStateRejected
	if rejected && strings.Contains(said, "No such image") { // it was there when Pull returned
		return &failure{
			reason: "rejected", code: ccci.CodeInfra, service: want.key, tasks: s.tasks,
			message: fmt.Sprintf("image %s was removed from this machine after the run had pulled it: %s", want.image, said),
		}
	}
	sure := slices.ContainsFunc(certain, func(c string) bool { return strings.Contains(said, c) })
	if rejected && sure || (rejected || sure) && s.total >= rejections {
		return &failure{
			reason: "rejected", code: ccci.CodeRecipe, service: want.key, tasks: s.tasks,
			message: "its task was rejected: " + said,
		}
	}
	return nil
}

var variable = regexp.MustCompile(`[0-9a-f]{12,}|[0-9a-z]{25}`)

// alike removes identifiers, so that the same failure of two tasks is the same text.
func alike(text string) string { return variable.ReplaceAllString(text, "…") }

func (h *history) unplaceable(want service, t swarm.Task, at time.Time) *failure {
	since, known := h.unplaced[want.name]
	if !known {
		h.unplaced[want.name] = at
		return nil
	}
	if at.Sub(since) < unplacedLimit {
		return nil
	}
	fail := &failure{
		reason: "rejected", code: ccci.CodeRecipe, service: want.key, tasks: []swarm.Task{t},
		message: "no node can take it: " + t.Status.Err,
	}
	if strings.Contains(t.Status.Err, "insufficient resources") {
		fail.code = ccci.CodeInfra
	}
	return fail
}

// abandoned recognises that swarm will not try again: max_attempts is reached, or the
// policy forbids it.
func (h *history) abandoned(want service, svc swarm.Service, tasks []swarm.Task, waiting bool) *failure {
	first := slices.IndexFunc(tasks, func(t swarm.Task) bool { return current(t, svc, want) })
	if waiting || first < 0 || !failedState(tasks[first].Status.State) || desiredTasks(svc, tasks) == 0 {
		h.givenUp[want.name] = 0
		return nil
	}
	h.givenUp[want.name]++
	if h.givenUp[want.name] < givenUpLooks {
		return nil
	}
	return &failure{
		reason: loopReason(taskWords(tasks[first])), code: ccci.CodeRecipe, service: want.key,
		tasks:   []swarm.Task{tasks[first]},
		message: "swarm gave it up: " + taskWords(tasks[first]),
	}
}

// loops finds a failure that keeps repeating. It counts only while every other service either is up
// or fails too, and long after each has started: an app that dies until its database is ready is
// slow and not broken.
func (h *history) loops(o observation, dec decision) *failure {
	for _, state := range dec.states {
		if !state.current && h.failing(state.service.name) == nil {
			for _, s := range h.streaks {
				s.count, s.first = 0, o.at
			}
			return nil
		}
	}
	for _, state := range dec.states {
		s := h.failing(state.service.name)
		if state.current || s == nil || s.count < loopFailures || s.last.Sub(s.first) < h.loopWindow || !h.alone(state.service, s.last, o) {
			continue
		}
		return &failure{
			reason: loopReason(s.words()), code: ccci.CodeRecipe, service: state.service.key, tasks: s.tasks,
			message: fmt.Sprintf("its task failed %d times in the same way: %s", s.count, s.words()),
		}
	}
	return nil
}

// words is how the tasks of a streak account for themselves.
func (s *streak) words() string { return cmp.Or(taskWords(s.tasks[0]), endedWell) }

// alone reports whether a task of a service that ended at some time did so by itself: every other
// service that runs had started well before.
func (h *history) alone(want service, ended time.Time, o observation) bool {
	for _, other := range h.services {
		grace := h.grace.bare
		if other.probed {
			grace = h.grace.probed
		}
		for _, t := range o.tasks {
			if other.name == want.name || !isOf(t, other) {
				continue
			}
			switch t.Status.State {
			case swarm.TaskStateRunning:
				if ended.Sub(h.since(t, o.at)) < grace {
					return false
				}
			case swarm.TaskStateComplete: // a job; what waited for it has had one more try
				if !ended.After(t.Status.Timestamp) {
					return false
				}
			}
		}
	}
	return true
}

// failing returns the most frequent failure of a service, nil when it has none.
func (h *history) failing(name string) *streak {
	var worst *streak
	for key, s := range h.streaks {
		if strings.HasPrefix(key, name+" ") && (worst == nil || s.total > worst.total) {
			worst = s
		}
	}
	return worst
}

func loopReason(said string) string {
	if strings.Contains(said, unhealthyWords) {
		return "unhealthy"
	}
	return "restart-loop"
}
