package report

import (
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A result holds some things in several places, each for those who read that place alone. Comments
// and pages show all places, and say each thing once. What is left out is here.

// CauseWords are the message and the hint of a result's cause without its findings, which are listed
// apart, and without what [Blame] and [Next] say. Either may be "".
func CauseWords(run ccci.Run, result *ccci.Result) (message, hint string) {
	c := result.Cause
	message, hint = c.Message, c.Hint
	if len(c.Findings) > 0 {
		message, _, _ = strings.Cut(message, ": "+c.Findings[0].Rule+" (")
	}
	if b := brokenStart(run, result); b != nil {
		hint = "" // the command is what Next says
		if !c.Same(b.Cause) {
			message = "" // it says that the base does not install
		}
	}
	return message, hint
}

// BrokenBases are those of a result, but for the one of which [Blame] and the cause say everything.
func BrokenBases(run ccci.Run, result *ccci.Result) []ccci.BrokenBase {
	if result == nil {
		return nil
	}
	told := brokenStart(run, result)
	if told == nil && run.Status == ccci.StatusFailed && result.Cause != nil && onlyBroken(result) {
		told = result.LikeBase()
	}
	if told == nil || !result.Cause.Same(told.Cause) {
		return result.BrokenBases
	}
	return slices.DeleteFunc(slices.Clone(result.BrokenBases), func(b ccci.BrokenBase) bool { return b.Version == told.Version && b.What == told.What })
}

// Remarks are what the linter found and the run noticed, but for what is said as the cause, as the
// reason of the level or as refused.
func Remarks(run ccci.Run, result *ccci.Result) (lint []ccci.Finding, warnings []string) {
	cause, found := "", map[string]bool{}
	if result.Cause != nil {
		cause = result.Cause.Message
	}
	_, why, _ := strings.Cut(whyNotHigher(run, result), ": ")
	for _, f := range result.Lint {
		found[f.Message] = true
		text := f.At() + f.Message
		ofStage := slices.ContainsFunc(result.Stages, func(s ccci.Stage) bool { return s.Status != ccci.Pass && s.Reason == text })
		if cause != text && !ofStage && !strings.HasSuffix(result.LevelReason, text) && !refusedLint(refusals(result), f) {
			lint = append(lint, f)
		}
	}
	for _, w := range result.Warnings {
		if !found[w] && (why == "" || !strings.HasSuffix(w, ": "+why)) {
			warnings = append(warnings, w)
		}
	}
	return lint, warnings
}

// Reviewed are the changes of a result's review, but for those that the page lists as refused, and
// whether there are such.
func Reviewed(result *ccci.Result) (changes []ccci.Change, refused bool) {
	if result == nil || result.Review == nil {
		return nil, false
	}
	var listed []ccci.Finding
	if result.Cause != nil {
		listed = result.Cause.Findings
	}
	changes = unrefused(listed, result.Review.Changes)
	return changes, len(changes) < len(result.Review.Changes)
}

// unrefused are the changes that bring nothing of what is listed as refused.
func unrefused(listed []ccci.Finding, changes []ccci.Change) []ccci.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c ccci.Change) bool {
		setting, ok := strings.CutPrefix(c.What, "changed ")
		return ok && refuses(listed, c.Subject, setting)
	})
}

// refusedLint reports whether a remark of the linter is about what is listed as refused: "service
// app: pid has no effect on a swarm".
func refusedLint(listed []ccci.Finding, f ccci.Finding) bool {
	subject, what, ok := strings.Cut(f.Message, ": ")
	setting, _, _ := strings.Cut(what, " ")
	return ok && refuses(listed, subject, setting)
}

// refuses reports whether one of the findings is about a setting of a service, "service app" and
// "cap_add". Rules are named by the settings.
func refuses(listed []ccci.Finding, subject, setting string) bool {
	return slices.ContainsFunc(listed, func(f ccci.Finding) bool {
		return f.Rule == strings.ReplaceAll(setting, "_", "-") && strings.HasPrefix(f.Message, subject+" ")
	})
}
