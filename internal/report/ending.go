package report

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// teardown is the proof that nothing was left (A19, N6), or says that there is none.
func teardown(run ccci.Run, result *ccci.Result) string {
	if result == nil {
		if run.Started.IsZero() {
			return "**Teardown:** not needed. The run never started."
		}
		return "**Teardown:** not confirmed. cc-ci removes what is left before the next run."
	}
	t := result.Teardown
	switch {
	case t == nil:
		return "**Teardown:** not needed. Nothing was created."
	case t.Clean && len(t.Leftovers) == 0 && t.Error == "":
		return fmt.Sprintf("**Teardown:** complete, nothing is left. Removed %s in %s and compared all objects of Docker before and after.",
			counts(t.Removed), Duration(t.Duration))
	}
	line := "**Teardown:** ❌ not clean."
	if t.Error != "" {
		line += " " + Text(clip(t.Error, 400)) + "."
	}
	for i, left := range t.Leftovers {
		if i == 20 {
			line += fmt.Sprintf("\n- and %d more", len(t.Leftovers)-i)
			break
		}
		line += "\n- left over: " + Code(clip(left, 200))
	}
	return line
}

// counts words removed objects in a fixed order: "2 services, 1 volume".
func counts(removed map[string]int) string {
	kinds := make([]string, 0, len(removed))
	for kind, n := range removed {
		if n > 0 {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return "nothing"
	}
	slices.Sort(kinds)
	for i, kind := range kinds {
		word := fmt.Sprintf("%d %s", removed[kind], kind)
		if removed[kind] > 1 {
			word += "s"
		}
		kinds[i] = Text(word)
	}
	return strings.Join(kinds, ", ")
}

// warnings lists what the linter found and the run noticed, but for what the comment says as the
// cause or as the reason of the level.
func warnings(run ccci.Run, result *ccci.Result) string {
	if result == nil {
		return ""
	}
	const most = 10
	cause, found := "", map[string]bool{}
	if result.Cause != nil {
		cause = result.Cause.Message
	}
	_, why, _ := strings.Cut(whyNotHigher(run, result), ": ")
	var all []string
	for _, f := range result.Lint {
		found[f.Message] = true
		if text := f.At() + f.Message; cause != text && !strings.HasSuffix(result.LevelReason, text) && !refusedLint(refusals(result), f) {
			all = append(all, finding(f))
		}
	}
	for _, w := range result.Warnings {
		if !found[w] && (why == "" || !strings.HasSuffix(w, ": "+why)) {
			all = append(all, Text(clip(w, 300)))
		}
	}
	if len(all) == 0 {
		return ""
	}
	out := "**Warnings:**"
	for i, line := range all {
		if i == most {
			return out + fmt.Sprintf("\n- and %d more on the run's page", len(all)-i)
		}
		out += "\n- " + line
	}
	return out
}

// changes says what the upgrade means for those who run the app (N8). The result has
// what they must act on first.
func changes(run ccci.Run, result *ccci.Result) string {
	if result == nil || len(result.Changes) == 0 || !run.Status.Judged() {
		return ""
	}
	const most = 12
	out := "**What changes for operators:**"
	for i, c := range result.Changes {
		if i == most {
			return out + fmt.Sprintf("\n- and %d more on the run's page", len(result.Changes)-i)
		}
		out += "\n- " + change(c)
	}
	return out
}

func artifacts(result *ccci.Result, links Links) string {
	if result == nil || links.Files == "" {
		return ""
	}
	var shown []string
	for _, a := range result.Artifacts {
		path, ok := urlPath(a.Path)
		if !ok || len(shown) == 20 || isArchive(a) { // its command names it
			continue
		}
		shown = append(shown, "["+linkText(clip(a.Title, 80), "file")+"]("+links.Files+path+")")
	}
	if len(shown) == 0 {
		return ""
	}
	return "**Files:** " + strings.Join(shown, " · ")
}

// again says what a person can do now, and how to see the same at home.
func again(run ccci.Run, result *ccci.Result, links Links) string {
	var line string
	if command := Reproduce(run, result, links); command != "" {
		line = "Reproduce it on your machine: " + Code(command)
	}
	switch run.Status {
	case ccci.StatusPassed:
		if run.PR.Number > 0 && run.Options.Whole() {
			return strings.TrimSpace("Once these files are on the default branch, this is the recipe's verdict, and its badge shows it. " + line)
		}
	case ccci.StatusFailed:
		next := "Push a fix, then comment `!testme`. "
		if result != nil && slices.ContainsFunc(result.Stages, func(s ccci.Stage) bool { return s.Status == ccci.Fail }) {
			next = "Push a fix, then comment `!testme`. To repeat the failed stages of this commit, comment `!retest`. "
		}
		return strings.TrimSpace(next + line)
	case ccci.StatusRefused:
		return strings.TrimSpace(afterRefusal(result) + line)
	case ccci.StatusErrored:
		return strings.TrimSpace("Comment `!testme` to try again, or `!retest` to repeat only what did not pass. If it ends the same way, tell the operator of cc-ci. " + line)
	case ccci.StatusInconclusive:
		return strings.TrimSpace("Comment `!testme` to try again. If it ends the same way, read what the app waits for in its log. " + line)
	case ccci.StatusFlaky:
		return strings.TrimSpace("Fix the app or make the check wait, then comment `!testme`. " + line)
	case ccci.StatusCancelled:
		if !run.Superseded.IsZero() { // which says itself what to do
			return ""
		}
		return "Comment `!testme` to test it."
	}
	return line
}

// Reproduce is the command that repeats a run elsewhere (N9); "" for a run that left no archive.
func Reproduce(run ccci.Run, result *ccci.Result, links Links) string {
	if result == nil || !slices.ContainsFunc(result.Artifacts, isArchive) {
		return ""
	}
	if links.Run != "" {
		return "cc-ci repro " + links.Run
	}
	return "cc-ci repro " + string(run.ID)
}

func isArchive(a ccci.Artifact) bool { return a.Path == ccci.ReproArchive }
