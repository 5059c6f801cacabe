package report

import (
	"fmt"
	"slices"
	"strings"

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

// withoutFindings is the message of a cause without its findings, which the comment lists.
func withoutFindings(c ccci.Cause) string {
	if len(c.Findings) == 0 {
		return c.Message
	}
	message, _, _ := strings.Cut(c.Message, ": "+c.Findings[0].Rule+" (")
	return message
}

// refuses reports whether one of the findings is about a setting of a service, "service app" and
// "cap_add". Rules are named by the settings.
func refuses(listed []ccci.Finding, subject, setting string) bool {
	return slices.ContainsFunc(listed, func(f ccci.Finding) bool {
		return f.Rule == strings.ReplaceAll(setting, "_", "-") && strings.HasPrefix(f.Message, subject+" ")
	})
}

// refusedChange reports whether a change brings what the comment lists as refused.
func refusedChange(listed []ccci.Finding, c ccci.Change) bool {
	setting, ok := strings.CutPrefix(c.What, "changed ")
	return ok && refuses(listed, c.Subject, setting)
}

// refusedLint reports whether a remark of the linter is about what the comment lists as refused:
// "service app: pid has no effect on a swarm".
func refusedLint(listed []ccci.Finding, f ccci.Finding) bool {
	subject, what, ok := strings.Cut(f.Message, ": ")
	setting, _, _ := strings.Cut(what, " ")
	return ok && refuses(listed, subject, setting)
}

// afterRefusal says what a person can do about a refusal.
func afterRefusal(result *ccci.Result) Sentences {
	if slices.ContainsFunc(refusals(result), func(f ccci.Finding) bool { return f.Waiver != "" }) {
		return say("Comment `!testme` when the recipe is changed or has its waivers.")
	}
	return say("Comment `!testme` when the recipe is changed.")
}
