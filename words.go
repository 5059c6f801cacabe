package ccci

import (
	"fmt"
	"time"
)

// Word is what people read for a status, the same on pages and badges, in comments and in commit
// statuses. A status that is not one of [Statuses] is its own word.
func (s Status) Word() string {
	if s == StatusErrored {
		return string(VerdictErrored)
	}
	return string(s)
}

// WordSuperseded is what people read for a run whose place a newer command or push took while it
// waited, WordCancelling for one that was cancelled and has not ended yet.
const (
	WordSuperseded = "superseded"
	WordCancelling = "cancelling"
)

// Word is what people read for the state of a run, the same in the terminal, on pages, in comments
// and in commit statuses.
func (r Run) Word() string {
	switch {
	case !r.Superseded.IsZero() && (r.Status == StatusQueued || r.Status == StatusCancelled):
		return WordSuperseded
	case r.CancelledBy != "" && !r.Status.Terminal():
		return WordCancelling
	}
	return r.Status.Word()
}

// By names what superseded a run, as "run 260314-092653-a1b2c3" or "the push of 6f2c1c0d"; "" if
// nothing did.
func (s Supersession) By() string {
	switch {
	case s.Run != "":
		return "run " + string(s.Run)
	case s.Head != "":
		return "the push of " + s.Head.Short()
	}
	return ""
}

// Word is what people read for the outcome of a check or a stage. The zero value is one that did
// not end yet.
func (s CheckStatus) Word() string {
	switch s {
	case "":
		return "waiting"
	case Pass:
		return "passed"
	case Fail:
		return "failed"
	case Skip:
		return "skipped"
	}
	return string(s)
}

// Word is what people read for the outcome of a stage, the same in comments, on pages and in the
// terminal. One in which the recipe was refused did not fail: it was not tested.
func (s StageRow) Word() string {
	if s.Refused {
		return StatusRefused.Word()
	}
	return s.Status.Word()
}

// Row is the check as lists show a stage, with its word.
func (c Check) Row() StageRow { return StageRow{Status: c.Status, Refused: c.Refused()} }

// WordNotAskedFor and WordNotReached are what people read for a stage that has no outcome: the
// comment left it out, or the run ended before it. WordNotTested is for a recipe without a verdict,
// WordStale for one whose verdict is too old to count.
const (
	WordNotAskedFor = "not asked for"
	WordNotReached  = "not reached"
	WordNotTested   = "not tested"
	WordStale       = "stale"
)

// DurationWords words a duration for people: "0.4 s", "12 s", "3 min 5 s", "2 h 4 min".
func DurationWords(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Truncate(time.Second).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}
