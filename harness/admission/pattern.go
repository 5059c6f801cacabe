package admission

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// The proxy of all runs matches the patterns of labels with each request, and nothing ends a
// match that has begun. A pattern of a few KiB can be a million steps for each character, and a
// replacement a thousand times as long as what it replaces.
const (
	maxSteps  = 2000 // of one label's patterns together, as their programs have
	maxGroups = 16   // that a replacement refers to
	maxGrowth = 128  // bytes that a replacement writes for each byte that its pattern has to match
)

// cheap returns what is wrong with patterns that are matched one after the other, or "".
func cheap(patterns ...string) string {
	steps := 0
	for _, pattern := range patterns {
		re, err := syntax.Parse(pattern, syntax.Perl)
		if err != nil {
			return "is no regular expression"
		}
		prog, err := syntax.Compile(re.Simplify())
		if err != nil {
			return "is no regular expression"
		}
		if steps += len(prog.Inst); steps > maxSteps {
			return fmt.Sprintf("is a pattern with more than %d steps", maxSteps)
		}
	}
	return ""
}

func pattern(_ *traefikLabels, value string) string { return cheap(value) }

// patterns is a list, which Traefik divides at each comma.
func patterns(_ *traefikLabels, value string) string {
	list := strings.Split(value, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return cheap(list...)
}

// isPattern reports whether an argument of a rule's matcher is a pattern that may not be cheap. In
// version 2 paths and headers may hold {name:expression}.
func isPattern(arg string) bool { return strings.ContainsAny(arg, "{[(") }

// replacement is what a middleware replaces, and by what.
type replacement struct{ label, regex, by string }

// replaces notes the parts of a replacement, which stand in two labels.
func (t *traefikLabels) replaces(key, middleware, option, value string) {
	kind, part, _ := strings.Cut(option, ".")
	if kind != "redirectregex" && kind != "replacepathregex" {
		return
	}
	id := middleware + "." + kind
	r := t.replaced[id]
	switch part {
	case "regex":
		r.regex = value
	case "replacement":
		r.label, r.by = key, value
	}
	t.replaced[id] = r
}

var groupReference = regexp.MustCompile(`\$(\{[^}]*\}|[A-Za-z0-9_]+)`)

// growth returns what is wrong with a replacement, or "".
func (r replacement) growth() string {
	if n := len(groupReference.FindAllString(r.by, -1)); n > maxGroups {
		return fmt.Sprintf("refers to %d groups, and may refer to %d", n, maxGroups)
	}
	re, err := syntax.Parse(r.regex, syntax.Perl)
	if err != nil {
		return "" // said of the pattern
	}
	text := len(groupReference.ReplaceAllString(r.by, ""))
	if least, once := shortest(re); !once && text > maxGrowth*max(least, 1) {
		return fmt.Sprintf("can become more than %d times as long as the address; begin the pattern with ^", maxGrowth)
	}
	return ""
}

// shortest is how long a match is at least, in bytes, and whether there is one at most.
func shortest(re *syntax.Regexp) (least int, once bool) {
	switch re.Op {
	case syntax.OpBeginText:
		return 0, true
	case syntax.OpLiteral:
		return len(string(re.Rune)), false
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1, false
	case syntax.OpCapture, syntax.OpPlus:
		return shortest(re.Sub[0])
	case syntax.OpRepeat:
		least, once = shortest(re.Sub[0])
		return least * re.Min, once && re.Min > 0
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			n, o := shortest(sub)
			least, once = least+n, once || o
		}
		return least, once
	case syntax.OpAlternate:
		least, once = shortest(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			n, o := shortest(sub)
			least, once = min(least, n), once && o
		}
		return least, once
	}
	return 0, false
}
