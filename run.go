package ccci

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// RunID names a run: "YYMMDD-HHMMSS-" in UTC and 6 hexadecimal digits. IDs sort
// by time and are safe in paths, URLs and Docker labels.
type RunID string

// NewRunID makes an ID from a time and 3 bytes of rnd.
func NewRunID(now time.Time, rnd io.Reader) (RunID, error) {
	var b [3]byte
	if _, err := io.ReadFull(rnd, b[:]); err != nil {
		return "", fmt.Errorf("reading randomness for a run id: %w", err)
	}
	return RunID(now.UTC().Format("060102-150405-") + hex.EncodeToString(b[:])), nil
}

// AppName returns the first label of a run's own domain (A21): the first four
// letters or digits of the recipe's name, a hyphen, and 6 hexadecimal digits
// that only this run has.
func (id RunID) AppName(recipe string) string {
	var short []rune
	for _, r := range strings.ToLower(recipe) {
		if len(short) < 4 && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9') {
			short = append(short, r)
		}
	}
	if len(short) == 0 {
		short = []rune("app")
	}
	sum := sha256.Sum256([]byte(id))
	return string(short) + "-" + hex.EncodeToString(sum[:3])
}

// Status is where a run is. Terminal states never move.
type Status string

const (
	StatusQueued    Status = "queued"
	StatusRunning   Status = "running"
	StatusPassed    Status = "passed"
	StatusFailed    Status = "failed"    // the recipe's fault
	StatusRefused   Status = "refused"   // the recipe asks for what no run gets (N3)
	StatusErrored   Status = "errored"   // ours
	StatusCancelled Status = "cancelled" // somebody asked for it
	// StatusInconclusive is that of a run whose time was up, since a hung app and a slow host look
	// alike, and of one whose base was asked for and does not install.
	StatusInconclusive Status = "inconclusive"
	// StatusFlaky is that of a run in which nothing failed twice and a check failed once (N14).
	StatusFlaky Status = "flaky"
)

// Statuses lists every status a run may have.
var Statuses = []Status{StatusQueued, StatusRunning, StatusPassed, StatusFailed, StatusRefused, StatusErrored, StatusInconclusive, StatusFlaky, StatusCancelled}

// Terminal reports whether the run has ended.
func (s Status) Terminal() bool {
	return slices.Contains(Statuses, s) && s != StatusQueued && s != StatusRunning
}

// Judged reports whether a run with this status says how far its recipe comes: its level and its
// duration are those of the recipe.
func (s Status) Judged() bool {
	return s == StatusPassed || s == StatusFailed || s == StatusFlaky
}

// Answers reports whether a run with this status says something about its recipe: no fault of ours
// and no person ended it before.
func (s Status) Answers() bool { return s.Judged() || s == StatusRefused }

// CanBecome reports whether a run may move from s to next. Staying is legal,
// so that an update may be repeated; a requeued run goes from running to queued.
func (s Status) CanBecome(next Status) bool {
	switch {
	case s == next:
		return true
	case s == StatusQueued:
		return next == StatusRunning || next.Terminal()
	case s == StatusRunning:
		return next == StatusQueued || next.Terminal()
	}
	return false
}

// Verdict is what a run says about the recipe (N7). A recipe that is refused is not tested: its
// verdict is neither that it failed nor that anything of ours did.
type Verdict string

const (
	VerdictPassed       Verdict = "passed"
	VerdictFailed       Verdict = "recipe failed"
	VerdictRefused      Verdict = "refused"
	VerdictErrored      Verdict = "infrastructure errored"
	VerdictInconclusive Verdict = "inconclusive"
)

// Verdict maps a status to what it says about the recipe; "" while unfinished.
func (s Status) Verdict() Verdict {
	switch s {
	case StatusPassed:
		return VerdictPassed
	case StatusFailed:
		return VerdictFailed
	case StatusRefused:
		return VerdictRefused
	case StatusErrored:
		return VerdictErrored
	case StatusCancelled, StatusInconclusive, StatusFlaky:
		return VerdictInconclusive
	}
	return ""
}

// StageName names one of the five stages, in their order.
type StageName string

const (
	StageInstall StageName = "install"
	StageUpgrade StageName = "upgrade"
	StageBackup  StageName = "backup"
	StageRestore StageName = "restore"
	StageChecks  StageName = "checks"
)

// StageNames lists all stages in the order in which they run (A18).
var StageNames = []StageName{StageInstall, StageUpgrade, StageBackup, StageRestore, StageChecks}

// Options are what a person may ask for on the command line of a comment.
// The zero value is the whole suite from the default base.
type Options struct {
	Stages []StageName `json:"stages,omitempty"` // empty: all
	From   string      `json:"from,omitempty"`   // upgrade base version; empty: chosen by rule U4
	Retest RunID       `json:"retest,omitempty"` // the run whose failed stages are repeated
	// Quick starts from the recipe's canonical in place of a fresh install and leaves
	// backup and restore out (U20).
	Quick bool `json:"quick,omitempty"`
}

// Wants reports whether the options ask for a stage. Install is always wanted,
// and restore brings backup along.
func (o Options) Wants(stage StageName) bool {
	if len(o.Stages) == 0 || stage == StageInstall || slices.Contains(o.Stages, stage) {
		return true
	}
	return stage == StageBackup && slices.Contains(o.Stages, StageRestore)
}

// Whole reports whether the options restrict nothing: every stage is asked for, from the
// base that the rule chooses. Only whole runs speak ([Run.SpeaksFor]): on badges, on
// overviews and in the commit status that branches are protected by.
func (o Options) Whole() bool { return o.Restriction() == "" }

// Restriction writes what the options restrict a run to, as on a command line:
// "stages=install,upgrade from=1.0.0+2.1", "--quick". It is "" for a whole run.
func (o Options) Restriction() string {
	if o.Quick {
		return "--quick"
	}
	var words []string
	var stages []string
	for _, s := range StageNames {
		if o.Wants(s) {
			stages = append(stages, string(s))
		}
	}
	if len(stages) < len(StageNames) {
		words = append(words, "stages="+strings.Join(stages, ","))
	}
	if o.From != "" {
		words = append(words, "from="+o.From)
	}
	return strings.Join(words, " ")
}

// RunKey identifies the wish behind a run: forge, comment and the index of the
// command in it. Whatever path the wish comes by, there is one run per key (N2).
func RunKey(forge string, comment CommentID, index int) string {
	return fmt.Sprintf("%s/%s/%d", forge, comment, index)
}

// Run is one wish to test a recipe at a commit, and how far it has come.
type Run struct {
	ID          RunID     `json:"id"`
	Key         string    `json:"key"`
	Recipe      string    `json:"recipe"`
	PR          PRRef     `json:"pr"`                // zero for a run by hand
	PullURL     string    `json:"pullUrl,omitempty"` // where people look at the pull request; "" where the forge names none
	Commit      Commit    `json:"commit"`
	CloneURL    string    `json:"cloneUrl"`
	RequestedBy User      `json:"requestedBy"`
	Comment     CommentID `json:"comment,omitempty"`
	Options     Options   `json:"options"`
	Trigger     Trigger   `json:"trigger,omitempty"` // "" for a person's wish
	// Branch is the branch of the recipe's own repository whose head Commit was when the run was
	// accepted; "" for a fork's branch and for a release.
	Branch string `json:"branch,omitempty"`
	// Release is the tag that the sweep tested, "" when it tested Branch.
	Release string `json:"release,omitempty"`
	// Asked is when the comment was written, by the forge's clock. Created is by
	// ours. A later command about runs (!cancel) holds for those asked for before it.
	Asked time.Time `json:"asked,omitzero"`

	Status  Status   `json:"status"`
	Attempt int      `json:"attempt"` // 1 for the first; raised when an infrastructure error requeues it
	Build   BuildRef `json:"build,omitempty"`
	// Earlier are the builds of the attempts before Build, oldest first: those that the bridge
	// repeated after an infrastructure error. Their logs come before that of Build.
	Earlier []BuildRef `json:"earlier,omitempty"`
	Stages  []StageRow `json:"stages,omitempty"`
	Level   int        `json:"level"`           // 0 to 5; meaningful when Status is terminal and a result was read
	Version string     `json:"version"`         // the recipe version under test, once known
	Cause   string     `json:"cause,omitempty"` // one line: the first real cause of a bad end (N12)
	// Flakes are the checks that decided the run and have a history of flaking.
	Flakes []Flake `json:"flakes,omitempty"`

	CancelledBy string `json:"cancelledBy,omitempty"`
	// Head is the pull request's head when the run was accepted. It is not Commit
	// when the comment named one that was the head before.
	Head Commit `json:"head,omitempty"`
	// Superseded says what made a run that waited pointless, so that it was cancelled (P4).
	Superseded Supersession `json:"superseded,omitzero"`
	// Merge is how the pull request came into its target branch, once that is known.
	Merge Merge `json:"merge,omitzero"`

	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
}

// Take takes over what a result says and lists of runs show. Texts are cut to
// MarkerReasonLimit: a list holds many runs.
func (r *Run) Take(result *Result) {
	r.Level, r.Version = result.Level, oneLine(result.Version, MarkerReasonLimit)
	r.Stages = result.Rows()
}

// Rows are the stages as lists show them.
func (r *Result) Rows() (rows []StageRow) {
	for _, s := range r.Stages {
		row := s.Row()
		row.Reason = oneLine(row.Reason, MarkerReasonLimit)
		rows = append(rows, row)
	}
	return rows
}

// Supersession is what made a run that waited pointless.
type Supersession struct {
	// Run is that of a newer command on the same pull request; "" when a push alone did it.
	Run RunID `json:"run,omitempty"`
	// Head is the newer commit: the one that Run tests, or that no run tests yet. It is "" when
	// Run tests the same one.
	Head Commit `json:"head,omitempty"`
}

// IsZero reports whether nothing superseded the run.
func (s Supersession) IsZero() bool { return s == Supersession{} }

// QueueOrder compares two runs by when they were asked for. That is the order in which those
// that wait are served: the order of the comments, whichever was read first.
func QueueOrder(a, b Run) int {
	asked := func(r Run) time.Time {
		if r.Asked.IsZero() {
			return r.Created
		}
		return r.Asked
	}
	return cmp.Or(asked(a).Compare(asked(b)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

// StageRow is a stage's line in lists and comments.
type StageRow struct {
	Name   StageName   `json:"name"`
	Status CheckStatus `json:"status,omitempty"` // empty: not finished
	Reason string      `json:"reason,omitempty"`
	// Refused says of one that failed that the recipe was refused in it, and not tested.
	Refused bool `json:"refused,omitempty"`
	// Running is true between a stage's begin and end.
	Running  bool          `json:"running,omitempty"`
	Duration time.Duration `json:"duration,omitempty"` // nanoseconds
}
