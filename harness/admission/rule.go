package admission

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/traefik"
)

// proveRule returns no error when every request that rule matches is for one of
// hosts or of names below them, in Traefik's syntax of version 2 and of version 3 alike,
// and else an error that says which part of it does not hold. below is one of the
// matched names or patterns that lie below a host, "" when there is none.
//
// [traefik.ParseRule] reads the rule, for whoever serves it too.
func proveRule(rule string, hosts []string) (below string, err error) {
	read, err := traefik.ParseRule(rule)
	if err != nil {
		return "", err
	}
	p := &prover{hosts: hosts}
	bounded := p.bounded(read, false)
	if p.err != nil {
		return "", p.err
	}
	if wrong := cheap(p.patterns...); wrong != "" {
		return "", fmt.Errorf("one of its patterns, or all together, %s", wrong)
	}
	if !bounded {
		return "", fmt.Errorf("it also matches other hosts")
	}
	return p.below, nil
}

type prover struct {
	hosts    []string
	below    string
	patterns []string
	err      error
}

func (p *prover) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// bounded reports whether r, negated or not, matches the run's hosts only.
func (p *prover) bounded(r *traefik.Rule, negated bool) bool {
	switch r.Op {
	case traefik.Not:
		return p.bounded(r.X, !negated)
	case traefik.And, traefik.Or:
		x, y := p.bounded(r.X, negated), p.bounded(r.Y, negated)
		if (r.Op == traefik.And) != negated {
			return x || y // both must hold, so one bound is enough
		}
		return x && y
	}
	return p.matcher(r) && !negated
}

// narrowing are matchers that say nothing about the host.
var narrowing = []string{
	"path", "pathprefix", "pathregexp", "method", "header", "headers", "headerregexp", "headersregexp",
	"query", "queryregexp", "clientip", "alpn",
}

// matcher reports whether a matcher bounds the host. A host that is named
// must be the run's own even where it has no effect: Traefik asks for
// certificates for every host that a rule names.
func (p *prover) matcher(r *traefik.Rule) bool {
	for _, text := range r.Args {
		if isPattern(text) {
			p.patterns = append(p.patterns, text)
		}
		if strings.Contains(text, `\Q`) {
			p.fail("the pattern %q is none", text)
			return false
		}
	}
	switch fn := strings.ToLower(r.Name); {
	case fn == "host" || fn == "hostsni" || fn == "hostheader":
		for _, host := range r.Args {
			if !p.own(host) {
				p.fail("%q is not a host of this run", host)
			}
		}
		return len(r.Args) > 0
	case fn == "hostregexp" || fn == "hostsniregexp":
		for _, pattern := range r.Args {
			p.pattern(pattern)
		}
		return len(r.Args) > 0
	case slices.Contains(narrowing, fn):
		return false
	}
	p.fail("the matcher %s is not known", r.Name)
	return false
}

// own reports whether a host is one of the run's, or a name below one.
func (p *prover) own(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return slices.ContainsFunc(p.hosts, func(own string) bool {
		own = strings.ToLower(own)
		if host == own {
			return true
		}
		if len(host) > 253 || !ccci.HostWithin(host, own) {
			return false
		}
		p.below = host
		return true
	})
}

// pattern proves that a host pattern names a finite set of the run's hosts.
func (p *prover) pattern(pattern string) {
	expr := pattern
	if strings.Contains(pattern, "{") {
		v2, ok := fromV2(pattern)
		if !ok {
			p.fail("the host pattern %q cannot be proven", pattern)
			return
		}
		expr = v2
	}
	// A recipe cannot escape the dots of ${DOMAIN}. What such a dot matches besides is no name of the
	// proxy's: it has the run's own random part in it.
	for _, own := range p.hosts {
		expr = strings.ReplaceAll(expr, own, regexp.QuoteMeta(own))
	}
	words, ok := language(expr)
	if !ok && p.endsOwn(expr) {
		p.below = pattern
		return
	}
	if !ok {
		p.fail("the host pattern %q matches more than the hosts of this run", pattern)
		return
	}
	for _, host := range words {
		if !p.own(host) {
			p.fail("the host pattern %q matches %q, which is not a host of this run", pattern, host)
			return
		}
	}
}

var v2Outside = regexp.MustCompile(`^[A-Za-z0-9.-]*$`)

// fromV2 turns a host template of version 2, literals with {name:expression},
// into the expression it stands for. It refuses those that version 3 would read
// as an expression with a branch free of braces: every host of such a branch
// would be served, while a host can never hold a brace.
func fromV2(pattern string) (string, bool) {
	var b strings.Builder
	b.WriteByte('^')
	for rest := pattern; rest != ""; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			open = len(rest)
		}
		if !v2Outside.MatchString(rest[:open]) {
			return "", false
		}
		b.WriteString(regexp.QuoteMeta(rest[:open]))
		if rest = rest[open:]; rest == "" {
			break
		}
		end := strings.IndexByte(rest, '}') // nested braces are repeats: refused below, they do not parse
		if end < 0 {
			return "", false
		}
		name, expr, ok := strings.Cut(rest[1:end], ":")
		if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" || expr == "" {
			return "", false
		}
		if _, err := syntax.Parse(expr, syntax.Perl); err != nil || topLevelBar(expr) {
			return "", false
		}
		b.WriteString("(?:" + expr + ")")
		rest = rest[end+1:]
	}
	b.WriteByte('$')
	return b.String(), true
}

// topLevelBar reports whether a | stands outside parentheses. A parser may
// have folded it away (a|b becomes [ab]), so the text is looked at.
func topLevelBar(expr string) bool {
	depth := 0
	for _, r := range expr {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case '|':
			if depth <= 0 {
				return true
			}
		case '\\', '[':
			return strings.Contains(expr, "|") // escapes could hide parentheses; do not guess
		}
	}
	return false
}

// endsOwn reports whether every text that expr matches ends in a dot and one of the
// run's hosts, whatever stands before.
func (p *prover) endsOwn(expr string) bool {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return false
	}
	var ends func(re *syntax.Regexp) bool
	ends = func(re *syntax.Regexp) bool {
		switch re.Op {
		case syntax.OpCapture:
			return ends(re.Sub[0])
		case syntax.OpAlternate:
			return len(re.Sub) > 0 && !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !ends(sub) })
		case syntax.OpConcat:
			n := len(re.Sub)
			if n < 2 || re.Sub[n-1].Op != syntax.OpEndText || re.Sub[n-2].Op != syntax.OpLiteral {
				return false
			}
			text := strings.ToLower(string(re.Sub[n-2].Rune))
			optional := n == 4 && re.Sub[0].Op == syntax.OpBeginText && optionalLabels(re.Sub[1])
			return slices.ContainsFunc(p.hosts, func(own string) bool {
				own = strings.ToLower(own)
				return strings.HasSuffix(text, "."+own) || optional && text == own
			})
		}
		return false
	}
	return ends(re)
}

// optionalLabels reports whether an expression matches nothing or a text that ends in a dot.
func optionalLabels(re *syntax.Regexp) bool {
	if re.Op == syntax.OpCapture {
		return optionalLabels(re.Sub[0])
	}
	if re.Op != syntax.OpQuest && re.Op != syntax.OpStar {
		return false
	}
	inner := re.Sub[0]
	for inner.Op == syntax.OpCapture {
		inner = inner.Sub[0]
	}
	if inner.Op != syntax.OpConcat {
		return false
	}
	last := inner.Sub[len(inner.Sub)-1]
	return last.Op == syntax.OpLiteral && strings.HasSuffix(string(last.Rune), ".")
}

const maxLanguage = 64

// Marks for the ends of the text within words of a language.
const (
	textBegin = "\x02"
	textEnd   = "\x03"
)

// language lists every text that expr matches as a whole, when those are few
// and expr is anchored at both ends.
func language(expr string) ([]string, bool) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, false
	}
	words, ok := enumerate(re.Simplify())
	if !ok {
		return nil, false
	}
	for i, w := range words {
		inner, ok := strings.CutPrefix(w, textBegin)
		if !ok {
			return nil, false
		}
		if inner, ok = strings.CutSuffix(inner, textEnd); !ok || strings.ContainsAny(inner, textBegin+textEnd) {
			return nil, false
		}
		words[i] = inner
	}
	return words, len(words) > 0
}

func enumerate(re *syntax.Regexp) ([]string, bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return []string{""}, true
	case syntax.OpBeginText:
		return []string{textBegin}, true
	case syntax.OpEndText:
		return []string{textEnd}, true
	case syntax.OpLiteral:
		return []string{string(re.Rune)}, true
	case syntax.OpCapture:
		return enumerate(re.Sub[0])
	case syntax.OpQuest:
		words, ok := enumerate(re.Sub[0])
		return append(words, ""), ok
	case syntax.OpCharClass:
		var words []string
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if words = append(words, string(r)); len(words) > maxLanguage {
					return nil, false
				}
			}
		}
		return words, true
	case syntax.OpAlternate:
		var words []string
		for _, sub := range re.Sub {
			w, ok := enumerate(sub)
			if !ok || len(words)+len(w) > maxLanguage {
				return nil, false
			}
			words = append(words, w...)
		}
		return words, true
	case syntax.OpConcat:
		words := []string{""}
		for _, sub := range re.Sub {
			tails, ok := enumerate(sub)
			if !ok || len(words)*len(tails) > maxLanguage {
				return nil, false
			}
			var longer []string
			for _, w := range words {
				for _, tail := range tails {
					longer = append(longer, w+tail)
				}
			}
			words = longer
		}
		return words, true
	}
	return nil, false
}
