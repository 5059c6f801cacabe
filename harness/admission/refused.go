package admission

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// RefusedError lists what is refused. It is an Error with CodeRefused, whose text names all of it.
type RefusedError struct {
	Refusals []Refusal // never empty
	err      *ccci.Error
}

func (e *RefusedError) Error() string { return e.err.Error() }

// Unwrap lets errors.As find the classified error.
func (e *RefusedError) Unwrap() error { return e.err }

// mostNamed bounds the rules that a summary names.
const mostNamed = 5

// Summary says in one line how much is refused and where.
func (e *RefusedError) Summary() string {
	var names []string
	for i, r := range e.Refusals {
		if i == mostNamed {
			names = append(names, fmt.Sprintf("and %d more", len(e.Refusals)-mostNamed))
			break
		}
		names = append(names, fmt.Sprintf("%s (%s)", r.Rule, place{r.File, r.Line}))
	}
	what := "a setting that cc-ci does not allow"
	if n := len(e.Refusals); n > 1 {
		what = fmt.Sprintf("%d settings that cc-ci does not allow", n)
	}
	return "the recipe asks for " + what + ": " + strings.Join(names, ", ")
}

// Findings lists the refusals, at most maxListed of them.
func (e *RefusedError) Findings() []ccci.Finding {
	var out []ccci.Finding
	for _, r := range e.Refusals[:min(len(e.Refusals), maxListed)] {
		f := ccci.Finding{Rule: r.Rule, Severity: "error", File: r.File, Line: r.Line, Message: r.What, Hint: r.Hint, Waiver: r.Waiver}
		if r.Note != "" {
			f.Message += "; " + r.Note
		}
		if never(r.Rule) {
			f.Hint = strings.TrimPrefix(f.Hint+"; "+neverHint(r.Rule), "; ")
		}
		out = append(out, f)
	}
	return out
}

// Error returns a [RefusedError] that lists all refusals, or nil for none.
func Error(refusals []Refusal) error {
	if len(refusals) == 0 {
		return nil
	}
	var lines, hints, rules []string
	waivable := false
	for i, r := range refusals {
		if i == maxListed {
			lines = append(lines, fmt.Sprintf("and %d more", len(refusals)-maxListed))
			break
		}
		lines = append(lines, r.Message())
		if r.Waiver != "" {
			waivable = true
			lines = append(lines, "  "+r.Waiver)
		}
		if never(r.Rule) && !slices.Contains(rules, r.Rule) {
			rules = append(rules, r.Rule)
		}
		if r.Hint != "" && !slices.Contains(hints, r.Hint) {
			hints = append(hints, r.Hint)
		}
	}
	message := strings.Join(lines, "\n")
	if len(refusals) > 1 {
		message = fmt.Sprintf("the recipe asks for %d things that a run does not get:\n%s", len(refusals), message)
	}
	if waivable {
		hints = append(hints, "where the recipe cannot do without it, the operator of cc-ci may add the entry below the refusal to waivers in tests/<recipe>/recipe.yml, with reason, owner and expires")
	}
	for _, rule := range rules {
		hints = append(hints, neverHint(rule))
	}
	return &RefusedError{refusals, ccci.Errorf(ccci.CodeRefused, "%s", message).WithHint("%s", strings.Join(hints, "; "))}
}

// never reports whether no waiver lifts a refusal by the rule.
func never(rule string) bool {
	doc, ok := ruleDoc(rule)
	return ok && !doc.Waivable
}

func neverHint(rule string) string { return "the rule " + rule + " cannot be waived" }
