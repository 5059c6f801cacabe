package ccci

import (
	"context"
	"time"
)

// RunFilter selects runs. Zero fields do not restrict, neither those of PR.
type RunFilter struct {
	Recipe     string
	PR         PRRef // without a number: all pull requests of the repository
	Statuses   []Status
	Unfinished bool  // queued and running only
	Before     RunID // only IDs that sort before it, for paging
	Limit      int   // at most this many; 0 stands for 100
}

// CheckFilter selects observations of a recipe's checks. Of About and Commit one is set.
type CheckFilter struct {
	Recipe string
	About  Subject // runs that speak for it
	Commit Commit  // runs that tested it, of which checks are kept
	Limit  int     // at most this many runs; 0 stands for 100
}

// MessageKind says what an outgoing [Message] does.
type MessageKind string

const (
	MessageComment MessageKind = "comment" // posted once, then edited
	MessageStatus  MessageKind = "status"
)

// Message is something to be said on the forge, kept until it was said.
// Only the latest content of a key matters: versions in between may be skipped.
type Message struct {
	Key       string       `json:"key"` // "run/ID/comment", "reply/COMMENT"; unique
	Kind      MessageKind  `json:"kind"`
	PR        PRRef        `json:"pr"`
	Body      string       `json:"body,omitempty"`   // for a comment
	Commit    Commit       `json:"commit,omitempty"` // for a status
	Status    CommitStatus `json:"status,omitzero"`  // for a status
	Posted    CommentID    `json:"posted,omitempty"` // the comment, once it exists
	Version   int          `json:"version"`          // raised by SaveMessage when the content differs
	Sent      int          `json:"sent"`             // the last version that was delivered
	Attempts  int          `json:"attempts"`         // failures since the last delivery
	NotBefore time.Time    `json:"notBefore,omitzero"`
	LastError string       `json:"lastError,omitempty"`
	Updated   time.Time    `json:"updated"`
}

// Store is the truth about runs. Every method is atomic and durable when it
// returns, and safe for concurrent use, also from several processes.
type Store interface {
	// ClaimRun inserts run unless one with its Key exists, and returns the run
	// that the store now holds and whether it was inserted. It is the only insert.
	// Two runs with different keys and the same ID are an error.
	ClaimRun(ctx context.Context, run Run) (Run, bool, error)

	// UpdateRun replaces the stored run of run.ID. Key, Recipe, PR, Commit and
	// Created never change and are ignored. A run without CancelledBy keeps the stored one:
	// CancelRun may have recorded it since the run was read. An illegal move of Status is
	// an Error with CodeConflict and changes nothing; an unknown ID is ErrNotFound.
	UpdateRun(ctx context.Context, run Run) error

	// CancelRun records in an unfinished run by whom its end was asked for, and changes nothing
	// else of it. Whoever follows the run ends it. A run that has ended, or whose end was asked
	// for before, stays as it is; an unknown ID is ErrNotFound. It returns the run as it is stored.
	CancelRun(ctx context.Context, id RunID, by string) (Run, error)

	// FindRun returns one run, or ErrNotFound.
	FindRun(ctx context.Context, id RunID) (Run, error)

	// FindRuns returns the selected runs, newest first.
	FindRuns(ctx context.Context, filter RunFilter) ([]Run, error)

	// LatestPerRecipe returns for each recipe its newest run, and the run that speaks for
	// SubjectRecipe where that is another one: of those whose [Run.SpeaksFor] names the subject
	// and, if there are any, that came to an answer ([Status.Answers]), the one with the latest
	// time, and of equal ones the newest. Ordered by recipe, newest first within one.
	LatestPerRecipe(ctx context.Context) ([]Run, error)

	// LatestOf is LatestPerRecipe for one recipe and any subject, fast enough for a badge.
	LatestOf(ctx context.Context, recipe string, about Subject) ([]Run, error)

	// KeepChecks replaces what is kept of the checks of a run; an unknown ID is ErrNotFound.
	KeepChecks(ctx context.Context, id RunID, checks []CheckOutcome) error

	// CheckHistory returns the selected runs with their checks, newest first: by the time since
	// when each speaks for the subject, or by their ID. A run that speaks comes also when nothing
	// is kept of its checks.
	CheckHistory(ctx context.Context, filter CheckFilter) ([]Observation, error)

	// Cursor returns the saved cursor, or the zero Cursor.
	Cursor(ctx context.Context, forge string, repo RepoRef) (Cursor, error)

	// SaveCursor saves it.
	SaveCursor(ctx context.Context, forge string, repo RepoRef, cursor Cursor) error

	// SaveMessage inserts or updates by Key. Version is raised, and NotBefore and
	// Attempts are cleared, only when Body, Commit or Status differ from what
	// is stored; Posted and Sent are kept.
	SaveMessage(ctx context.Context, msg Message) error

	// PendingMessages returns messages with Version > Sent and NotBefore not
	// after now, at most limit: those that failed less often first, and of these
	// the oldest Updated, so that what fails for ever delays nothing else.
	PendingMessages(ctx context.Context, now time.Time, limit int) ([]Message, error)

	// MarkSent records that version of key was delivered. A newer version stays pending.
	MarkSent(ctx context.Context, key string, version int, posted CommentID) error

	// MarkFailed records a failed delivery and when to try again.
	MarkFailed(ctx context.Context, key string, notBefore time.Time, cause string) error
}
