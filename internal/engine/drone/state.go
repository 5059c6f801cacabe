package drone

import (
	"context"
	"fmt"
	"time"

	"github.com/drone/drone-go/drone"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// phases maps every status that Drone has to how far the build is there.
var phases = map[string]ccci.BuildState{
	drone.StatusBlocked:  ccci.BuildQueued, // waits for somebody's approval
	drone.StatusWaiting:  ccci.BuildQueued, // for another pipeline
	drone.StatusPending:  ccci.BuildQueued,
	drone.StatusRunning:  ccci.BuildRunning,
	drone.StatusSkipped:  ccci.BuildDone,
	drone.StatusDeclined: ccci.BuildDone,
	drone.StatusPassing:  ccci.BuildDone,
	drone.StatusFailing:  ccci.BuildDone,
	drone.StatusKilled:   ccci.BuildDone,
	drone.StatusError:    ccci.BuildDone,
}

// over reports whether Drone does no more for a build of this status.
func over(status string) bool { return phases[status] == ccci.BuildDone }

// coarse is how much Drone's times, whole seconds, may be short of the truth.
const coarse = 2 * time.Second

// judge says what a build is, from Drone's record, what the machine knows and
// what this process did itself.
func (e *Engine) judge(ctx context.Context, b *drone.Build) (ccci.Build, error) {
	phase, known := phases[b.Status]
	if !known {
		return ccci.Build{}, ccci.Errorf(ccci.CodeInfra, "asking for build %d: Drone says it is %q, which this version does not know", b.Number, b.Status)
	}
	run := ccci.RunID(b.Params[runParam])
	_, step := e.step(b)
	out := ccci.Build{
		Ref: refOf(b.Number), RunID: run, Attempt: attemptOf(b.Params), State: phase,
		Created: moment(b.Created), Started: started(b, step), Finished: moment(b.Finished),
	}
	e.mu.Lock()
	t := *e.trackOf(b.Number, run)
	e.mu.Unlock()
	// Only a build that Drone calls running, or killed after it had begun, may have a
	// harness of which Drone says nothing.
	begun := !out.Started.IsZero()
	if e.opts.Host != nil && !t.settled && (phase == ccci.BuildRunning || b.Status == drone.StatusKilled && begun) {
		presence, err := e.opts.Host(ctx, run)
		if err != nil {
			return ccci.Build{}, fmt.Errorf("asking for the harness of %s: %w", run, err)
		}
		t = e.look(b.Number, run, presence)
		out.State = e.meet(phase, presence, t, out.Finished)
	}
	if out.State == ccci.BuildRunning && !begun {
		out.State = ccci.BuildQueued // a runner has it, and prepares its step
	}
	if out.State != ccci.BuildDone {
		if out.State == ccci.BuildQueued {
			out.Started = time.Time{}
		}
		out.Finished = time.Time{}
		return out, nil
	}
	out.Ending, out.ExitCode = e.ending(b, step, t)
	if phase == ccci.BuildRunning { // Drone has not noticed
		out.Ending, out.Finished = ccci.EndLost, t.absent
	}
	// Whatever is late: the times must be in order.
	if out.Finished.Before(out.Started) {
		out.Finished = out.Started
	}
	if phase == ccci.BuildDone {
		e.mu.Lock()
		e.trackOf(b.Number, run).settled = true
		e.mu.Unlock()
	}
	return out, nil
}

// look keeps what the machine said of a started build.
func (e *Engine) look(number int64, run ccci.RunID, presence Presence) track {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.trackOf(number, run)
	switch {
	case presence != Absent:
		t.seen = t.seen || presence == Working
		t.absent = time.Time{}
	case t.absent.IsZero():
		t.absent = e.now().UTC()
	}
	return *t
}

// meet brings together how far Drone says a started build is and what the
// machine says of its harness.
func (e *Engine) meet(phase ccci.BuildState, presence Presence, t track, finished time.Time) ccci.BuildState {
	switch {
	case phase == ccci.BuildDone && presence != Absent:
		return ccci.BuildRunning // it is tearing down
	case phase == ccci.BuildDone && !t.seen && e.now().Before(finished.Add(e.opts.Settle+time.Second)):
		return ccci.BuildRunning // its shell was about to start a harness, perhaps
	case phase == ccci.BuildDone:
		return ccci.BuildDone
	case presence == Working:
		return ccci.BuildRunning
	case presence == Waiting:
		return ccci.BuildQueued
	case e.now().Sub(t.absent) >= e.opts.LostAfter:
		return ccci.BuildDone // lost
	case t.seen:
		return ccci.BuildRunning // it has ended; the runner is about to say so
	}
	return ccci.BuildQueued // its shell is starting
}

// ending says how a build that is over in Drone came to its end.
func (e *Engine) ending(b *drone.Build, step *drone.Step, t track) (ccci.Ending, int) {
	switch b.Status {
	case drone.StatusPassing:
		return ccci.EndExited, 0
	case drone.StatusFailing:
		if step != nil && step.ExitCode != 0 && step.Error == "" {
			return ccci.EndExited, step.ExitCode
		}
	case drone.StatusDeclined:
		return ccci.EndCancelled, 0
	case drone.StatusKilled:
		if t.asked != "" {
			return t.asked, 0
		}
		if e.ranOut(b, step) {
			return ccci.EndDeadline, 0
		}
		return ccci.EndCancelled, 0
	}
	return ccci.EndLost, 0 // no harness has said anything
}

// ranOut tells a time-out from a cancellation, which Drone records alike: by how
// long the build took.
func (e *Engine) ranOut(b *drone.Build, step *drone.Step) bool {
	begun := started(b, step)
	if begun.IsZero() {
		return false
	}
	return moment(b.Finished).Sub(begun)+coarse >= min(e.deadline(b), e.opts.Timeout)
}

// deadline is the limit of the job in a build.
func (e *Engine) deadline(b *drone.Build) time.Duration {
	job, err := DecodeJob(b.Params[JobVariable])
	if err != nil || job.Deadline <= 0 {
		return e.opts.Timeout
	}
	return job.Deadline
}

// step finds the one step of the pipeline; nil where no runner has begun.
func (e *Engine) step(b *drone.Build) (*drone.Stage, *drone.Step) {
	for _, stage := range b.Stages {
		if stage.Name != e.opts.Pipeline {
			continue
		}
		for _, step := range stage.Steps {
			if step.Name != "clone" {
				return stage, step
			}
		}
		return stage, nil
	}
	return nil, nil
}

// started is when a runner began. A cancelled build gets a time there even if
// none did; then it has no step.
func started(b *drone.Build, step *drone.Step) time.Time {
	switch {
	case step != nil && step.Started != 0 && step.Status != drone.StatusSkipped:
		return moment(step.Started)
	case len(b.Stages) == 0 && b.Status == drone.StatusRunning: // an item of a list
		return moment(b.Started)
	}
	return time.Time{}
}

func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
