package report

import (
	"fmt"
	"slices"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// mostFindings bounds the list of what a recipe is refused for.
const mostFindings = 20

// refusals are the findings that a comment lists.
func refusals(result *ccci.Result) []ccci.Finding {
	if result == nil || result.Cause == nil {
		return nil
	}
	return result.Cause.Findings[:min(len(result.Cause.Findings), mostFindings)]
}

// findings lists what a recipe is refused for, and what would lift it.
func findings(run ccci.Run, result *ccci.Result) string {
	listed := refusals(result)
	if len(listed) == 0 {
		return ""
	}
	var waivers []string
	out := "**What is refused:**"
	for _, f := range listed {
		out += "\n- " + finding(f)
		if f.Hint != "" {
			out += ". Hint: " + Text(clip(f.Hint, 300))
		}
		if f.Waiver != "" {
			waivers = append(waivers, f.Waiver)
		}
	}
	if more := len(result.Cause.Findings) - len(listed); more > 0 {
		out += fmt.Sprintf("\n- and %d more on the run's page", more)
	}
	out += "\n\nRemove these settings from the recipe."
	if len(waivers) > 0 {
		out += " If the app needs them, ask the operator of cc-ci to add waivers to " + Code("tests/"+run.Recipe+"/recipe.yml") + ", with reason, owner and expires:\n\n" + Block(waivers)
	}
	return out
}

// afterRefusal says what a person can do about a refusal.
func afterRefusal(result *ccci.Result) Sentences {
	if slices.ContainsFunc(refusals(result), func(f ccci.Finding) bool { return f.Waiver != "" }) {
		return say("Comment `!testme` when the recipe is changed or has its waivers.")
	}
	return say("Comment `!testme` when the recipe is changed.")
}
