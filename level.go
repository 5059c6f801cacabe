package ccci

import (
	"fmt"
	"slices"
	"strings"
)

// Rung is one step of the ladder of levels (U7).
type Rung struct {
	Level  int
	Name   string
	Proves string // what was seen of a recipe that reached it, in a sentence for people
	stages []StageName
}

// Ladder lists the levels from 0 to 5, with what each of them means.
func Ladder() []Rung {
	return []Rung{
		{0, "nothing", "The app was not seen to install: what was deployed first did not answer, or nothing was deployed.", nil},
		{1, "install", "The app deploys and answers at its address.", []StageName{StageInstall}},
		{2, "upgrade", "An earlier version with data is upgraded to the tested commit, and the data is still there.", []StageName{StageUpgrade}},
		{3, "backup and restore", "A backup holds the data, and a restore brings it back after it was changed.", []StageName{StageBackup, StageRestore}},
		{4, "checks", "The page loads in a browser, all checks of recipe.yml pass, and no secret is in the logs.", []StageName{StageChecks}},
		{5, "lint", "The linter finds no error in the recipe.", nil},
	}
}

// LevelRule is the rule of [Result.ComputeLevel], for people.
const LevelRule = "A level is reached when what it stands for was seen to work, and so was everything below it. " +
	"A recipe that has nothing to test at some step, such as one without a volume or without an earlier release, passes over that step, and the skip is shown beside the level. " +
	"What could be tested and was not keeps the level below its step: a volume without backup labels, a stage that the enrolment skips, a version that was not raised."

// ComputeLevel derives Level and LevelReason from stages and lint. It is the only place where they
// are set. A rung counts when all its stages passed. It is passed over when all of them are absent:
// there was nothing to test. Everything else ends the climb, and is the reason.
func (r *Result) ComputeLevel() {
	r.Level, r.LevelReason = 0, ""
	if r.Options.Quick {
		r.LevelReason = "a quick run reaches no level"
		return
	}
	for _, rung := range Ladder()[1:] {
		passed, absent, why := r.climb(rung)
		switch {
		case passed:
			r.Level = rung.Level
		case !absent:
			r.LevelReason = rung.Name + why
			return
		}
	}
}

// climb judges one rung. why completes a sentence that begins with the rung's name.
func (r *Result) climb(rung Rung) (passed, absent bool, why string) {
	if rung.stages == nil {
		why = r.lintFails()
		return why == "", false, why
	}
	passed, absent, why = true, true, " did not pass"
	var joint Stage
	for _, name := range rung.stages {
		s := r.Stage(name)
		passed = passed && s.Status == Pass
		absent = absent && s.Status == Skip && s.Absent
		joint.Checks = append(joint.Checks, Check{Status: s.Status, Message: s.Reason})
		if s.Status == Skip && !s.Absent {
			why = " was skipped: " + s.Reason
		}
	}
	if joint.Settle(); joint.Reason != "" && (joint.Status == Fail || joint.Status == Unverified || joint.Status == Flaky) {
		why = ": " + joint.Reason
	}
	return passed, absent, why
}

// lintFails says why the linter's rung is not reached; "" when it is.
func (r *Result) lintFails() string {
	if !r.LintRan {
		return ": the linter did not run"
	}
	for _, f := range r.Lint {
		if f.Severity == "error" {
			return fmt.Sprintf(": %s: %s%s", f.Rule, f.At(), f.Message)
		}
	}
	return ""
}

// Has reports whether the rung stands for a stage.
func (g Rung) Has(stage StageName) bool { return slices.Contains(g.stages, stage) }

// Skipped reports whether every stage of a rung was skipped, so that a level at or above it says
// nothing of it.
func (g Rung) Skipped(rows []StageRow) bool {
	skipped := Skipped(rows)
	return len(g.stages) > 0 && !slices.ContainsFunc(g.stages, func(name StageName) bool { return !slices.Contains(skipped, string(name)) })
}

// Skipped lists the stages that were skipped.
func Skipped(rows []StageRow) (stages []string) {
	for _, row := range rows {
		if row.Status == Skip {
			stages = append(stages, string(row.Name))
		}
	}
	return stages
}

// LevelWords names the level of a finished run and its skips, in short, as on a badge, and in full.
func LevelWords(level int, rows []StageRow) (short, full string) {
	short = fmt.Sprintf("level %d", level)
	skipped := Skipped(rows)
	if len(skipped) == 0 {
		return short, short
	}
	return fmt.Sprintf("%s, %d skipped", short, len(skipped)), fmt.Sprintf("%s (skipped: %s)", short, strings.Join(skipped, ", "))
}
