package report

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// flakes names the checks that were flaky in this run or in runs before it, each with its rate (N14).
func flakes(run ccci.Run, result *ccci.Result) string {
	if result == nil {
		return ""
	}
	const most = 10
	var lines []string
	add := func(check, line string) {
		rate := ""
		for _, f := range run.Flakes {
			if f.Check == check {
				rate = ": " + f.String()
			}
		}
		if rate == "" && result.Cause != nil && result.Cause.Check == check {
			return // the cause says it
		}
		line += rate
		lines = append(lines, "- "+Code(clip(check, 100))+" "+line)
	}
	flaky := result.Flaky()
	for _, c := range flaky[:min(len(flaky), most)] {
		add(c.Name, "flaky")
	}
	if len(flaky) > most {
		lines = append(lines, fmt.Sprintf("- and %d more on the run's page", len(flaky)-most))
	}
	for _, f := range run.Flakes {
		if !slices.ContainsFunc(flaky, func(c ccci.Check) bool { return c.Name == f.Check }) {
			add(f.Check, "failed here; flaky")
		}
	}
	if len(lines) == 0 {
		return ""
	}
	out := "**Flaky checks:**\n" + strings.Join(lines, "\n")
	return out
}
