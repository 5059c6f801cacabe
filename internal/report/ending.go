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
// cause or as the reason of the level or of a stage.
func warnings(run ccci.Run, result *ccci.Result) string {
	if result == nil {
		return ""
	}
	const most = 10
	var all []string
	lint, noticed := Remarks(run, result)
	for _, f := range lint {
		all = append(all, finding(f))
	}
	for _, w := range noticed {
		all = append(all, Text(clip(w, 300)))
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
