package ccci

import (
	"context"
	"io"
	"time"
)

// Job is the whole input of a harness process.
type Job struct {
	RunID    RunID         `json:"runId"`
	Recipe   string        `json:"recipe"`
	PR       PRRef         `json:"pr"`
	Commit   Commit        `json:"commit"`
	CloneURL string        `json:"cloneUrl"` // where the commit and the version tags are fetched from
	BaseRef  string        `json:"baseRef"`  // the pull request's target branch, for the upgrade base
	Options  Options       `json:"options"`
	Trigger  Trigger       `json:"trigger,omitempty"` // "" for a person's wish
	Deadline time.Duration `json:"deadline"`          // the whole run's limit; the engine kills what outlives it (A16)
	// Asked is when the run was asked for; see [QueueOrder]. Zero: when the job comes.
	Asked time.Time `json:"asked,omitzero"`
	// Attempt counts from 1, for which 0 stands too. It is raised by the bridge that
	// repeats a run, and by an engine that starts a lost build again; the harness copies
	// it into its result, so that an earlier attempt's result is known as such.
	Attempt int `json:"attempt,omitempty"`
}

// BuildRef is an engine's own name for a started job.
type BuildRef string

// BuildState is where a build is.
type BuildState string

const (
	BuildQueued  BuildState = "queued"
	BuildRunning BuildState = "running"
	BuildDone    BuildState = "done"
)

// Ending says how a build came to its end.
type Ending string

const (
	EndExited    Ending = "exited"    // the harness ended by itself; ExitCode tells how
	EndCancelled Ending = "cancelled" // somebody asked for it
	EndDeadline  Ending = "deadline"  // it ran longer than Job.Deadline
	EndLost      Ending = "lost"      // the engine or its machine died under it, more often than it is retried
)

// Build is what an engine knows about a job.
type Build struct {
	Ref      BuildRef   `json:"ref"`
	RunID    RunID      `json:"runId"`
	State    BuildState `json:"state"`
	Ending   Ending     `json:"ending,omitempty"` // set when State is done
	ExitCode int        `json:"exitCode"`         // the harness's, when Ending is exited; see the exit codes of cc-ci
	Attempt  int        `json:"attempt"`          // that of the job, from 1; raised when the engine restarts a lost build
	Created  time.Time  `json:"created"`
	Started  time.Time  `json:"started,omitzero"`
	Finished time.Time  `json:"finished,omitzero"`
}

// Engine runs jobs, at most its capacity at a time (A15), in the order in which
// they came; one that keeps its queue itself orders those that wait by [Job.Asked]. Implementations are safe for concurrent use.
type Engine interface {
	// Start queues a job. The same Job.RunID and Attempt twice give the same build,
	// also across restarts of the engine.
	Start(ctx context.Context, job Job) (BuildRef, error)

	// Status returns what is known, or ErrNotFound.
	Status(ctx context.Context, ref BuildRef) (Build, error)

	// Cancel takes a queued build out of the queue, and asks a running one to
	// end; it does not wait for the end. The build is done, with Ending
	// cancelled, only after the harness has torn down and its process is gone.
	// Legal on finished and unknown builds, where it does nothing.
	Cancel(ctx context.Context, ref BuildRef) error

	// Logs returns the build's log from a byte offset. Read blocks at the end
	// of what was written until there is more, and returns io.EOF when
	// the build is done and all was read, or ctx's error. An offset beyond the end
	// waits likewise. Unknown builds are ErrNotFound. The caller closes it.
	Logs(ctx context.Context, ref BuildRef, offset int64) (io.ReadCloser, error)
}
