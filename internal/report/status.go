package report

import (
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// ContextWhole is the context of a whole run's commit status.
const ContextWhole = "cc-ci/testme"

// contextOf names what a run's status is about. A run with options that restrict it has
// a context of its own, which names them: its green can never stand in for the whole
// suite's where a forge protects a branch by [ContextWhole], nor can its red.
func contextOf(o ccci.Options) string {
	return strings.TrimSpace(ContextWhole + " " + o.Restriction())
}

// StatusLimit is the longest description in characters that forges accept.
const StatusLimit = 140

// Status renders the commit status of a run.
func Status(run ccci.Run, result *ccci.Result, links Links) ccci.CommitStatus {
	s := ccci.CommitStatus{Context: contextOf(run.Options), URL: links.Run, Description: run.Word()}
	switch run.Status {
	case ccci.StatusQueued, ccci.StatusRunning:
		s.State = ccci.StatePending
	case ccci.StatusPassed:
		s.State = ccci.StateSuccess
		if result != nil && !run.Options.Quick { // which has no level
			_, level := ccci.LevelWords(result.Level, stageRows(run, result))
			s.Description += ", " + level
			if result.LevelReason != "" {
				s.Description += ": " + result.LevelReason
			}
		}
	case ccci.StatusFailed:
		s.State = ccci.StateFailure
	case ccci.StatusRefused:
		s.State = ccci.StateFailure
		s.Description += ", " + ccci.WordNotTested
	case ccci.StatusInconclusive, ccci.StatusFlaky:
		s.State = ccci.StateError
	case ccci.StatusErrored:
		s.State = ccci.StateError
		s.Description += ", not the recipe's fault"
	case ccci.StatusCancelled:
		s.State = ccci.StateError
		switch {
		case !run.Superseded.IsZero():
			s.Description += " by " + run.Superseded.By() + ", not tested"
		case run.CancelledBy != "":
			s.Description += " by " + run.CancelledBy
		}
	}
	if run.Cause != "" && run.Status.Terminal() && run.Status != ccci.StatusPassed && run.Status != ccci.StatusCancelled {
		s.Description += ": " + run.Cause
	}
	if !run.Options.Whole() {
		s.Description = partOf(run.Options) + ": " + s.Description
	}
	s.Description = clipRunes(strings.TrimSpace(visible(s.Description)), StatusLimit)
	return s
}

func clipRunes(s string, limit int) string {
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return string(runes[:limit-1]) + "…"
}

// Held says that queued runs wait, why being what the machine lacks; "" when it lacks nothing.
func Held(why string) string {
	if why == "" {
		return ""
	}
	return "No run starts: " + why + ". Queued runs wait and start by themselves."
}
