package enrol

import (
	"errors"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// Mistakes are those that an error of [Parse], or of another reader of recipe.yml, lists, as
// findings in file; none for nil.
func Mistakes(file string, err error) (all []ccci.Finding) {
	if err == nil {
		return nil
	}
	finding := ccci.Finding{Rule: "settings", Severity: "error", File: file}
	var problems settings.Problems
	if !errors.As(err, &problems) {
		finding.Message, finding.Hint = err.Error(), ccci.HintOf(err)
		return []ccci.Finding{finding}
	}
	for _, p := range problems {
		finding.Line, finding.Message, finding.Hint = p.Line, p.Message, p.Hint
		if p.Key != "" {
			finding.Message = p.Key + ": " + p.Message
		}
		all = append(all, finding)
	}
	return all
}
