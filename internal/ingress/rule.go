package ingress

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// matcher decides whether a request belongs to a router.
type matcher func(r *http.Request) bool

// maxDepth bounds nesting in a rule.
const maxDepth = 50

// parseRule reads a router rule in Traefik's syntax, version 2 or 3:
//
//	Host(`a.example`, `b.example`) && (PathPrefix(`/api`) || !Method(`GET`))
//
// Known matchers are Host, HostHeader, HostRegexp, Path, PathPrefix, PathRegexp,
// Method(s), Header(s), Header(s)Regexp and Query. Others, ClientIP among them, are errors.
func parseRule(rule string) (matcher, error) {
	p := &ruleParser{rest: rule}
	m, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.rest != "" {
		return nil, fmt.Errorf("%q is left over", p.rest)
	}
	return m, nil
}

type ruleParser struct{ rest string }

func (p *ruleParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take consumes a token when it comes next.
func (p *ruleParser) take(token string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *ruleParser) or(depth int) (matcher, error) {
	left, err := p.and(depth)
	for err == nil && p.take("||") {
		a := left
		var b matcher
		b, err = p.and(depth)
		left = func(r *http.Request) bool { return a(r) || b(r) }
	}
	return left, err
}

func (p *ruleParser) and(depth int) (matcher, error) {
	left, err := p.unary(depth)
	for err == nil && p.take("&&") {
		a := left
		var b matcher
		b, err = p.unary(depth)
		left = func(r *http.Request) bool { return a(r) && b(r) }
	}
	return left, err
}

func (p *ruleParser) unary(depth int) (matcher, error) {
	if depth > maxDepth {
		return nil, errors.New("the rule is nested too deep")
	}
	if p.take("!") {
		m, err := p.unary(depth + 1)
		return func(r *http.Request) bool { return !m(r) }, err
	}
	if p.take("(") {
		m, err := p.or(depth + 1)
		if err == nil && !p.take(")") {
			err = errors.New("a closing parenthesis is missing")
		}
		return m, err
	}
	return p.call()
}

func (p *ruleParser) call() (matcher, error) {
	p.space()
	end := strings.IndexFunc(p.rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if end <= 0 {
		return nil, fmt.Errorf("a matcher such as Host(`name`) is expected before %q", p.rest)
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	if !p.take("(") {
		return nil, fmt.Errorf("an opening parenthesis is expected after %s", name)
	}
	var args []string
	for {
		arg, err := p.text()
		if err != nil {
			return nil, fmt.Errorf("in %s: %w", name, err)
		}
		args = append(args, arg)
		if p.take(")") {
			return newMatcher(name, args)
		}
		if !p.take(",") {
			return nil, fmt.Errorf("in %s: a comma or closing parenthesis is expected", name)
		}
	}
}

func (p *ruleParser) text() (string, error) {
	p.space()
	if p.rest == "" || (p.rest[0] != '`' && p.rest[0] != '"') {
		return "", errors.New("text in backticks is expected")
	}
	end := strings.IndexByte(p.rest[1:], p.rest[0])
	if end < 0 {
		return "", errors.New("text in backticks does not end")
	}
	text := p.rest[1 : end+1]
	p.rest = p.rest[end+2:]
	return text, nil
}

func newMatcher(name string, args []string) (matcher, error) {
	switch strings.ToLower(name) {
	case "host", "hostheader":
		for i := range args {
			args[i] = strings.TrimSuffix(strings.ToLower(args[i]), ".")
		}
		return func(r *http.Request) bool { return slices.Contains(args, hostname(r)) }, nil
	case "hostregexp":
		return regexps(args, "(?i)", hostname)
	case "path":
		return templates(args, "$")
	case "pathprefix":
		return templates(args, "")
	case "pathregexp":
		return regexps(args, "", func(r *http.Request) string { return r.URL.Path })
	case "method", "methods":
		return func(r *http.Request) bool {
			return slices.ContainsFunc(args, func(m string) bool { return strings.EqualFold(m, r.Method) })
		}, nil
	case "header", "headers", "headerregexp", "headersregexp":
		return headerMatcher(name, args)
	case "query":
		return queryMatcher(args)
	}
	return nil, fmt.Errorf("matcher %s is not known here", name)
}

// hostname is the request's host in lower case, without port and final dot.
func hostname(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// template finds the {name:expression} and {name} of the version 2 syntax.
var template = regexp.MustCompile(`\{[A-Za-z0-9_]+(:((?:[^{}]|\{[^{}]*\})*))?\}`)

// expression turns a version 2 pattern into a regular expression; text outside of
// the braces is literal.
func expression(pattern, any string) string {
	var b strings.Builder
	last := 0
	for _, m := range template.FindAllStringSubmatchIndex(pattern, -1) {
		b.WriteString(regexp.QuoteMeta(pattern[last:m[0]]))
		if m[4] >= 0 {
			b.WriteString("(?:" + pattern[m[4]:m[5]] + ")")
		} else {
			b.WriteString(any)
		}
		last = m[1]
	}
	return b.String() + regexp.QuoteMeta(pattern[last:])
}

// regexps matches any of the expressions; one with {name:…} in it is of the
// version 2 syntax and must match the whole text.
func regexps(args []string, flags string, of func(*http.Request) string) (matcher, error) {
	var all []*regexp.Regexp
	for _, arg := range args {
		source := arg
		if template.MatchString(arg) && strings.Contains(arg, ":") {
			source = "^" + expression(arg, `[^.]+`) + "$"
		}
		re, err := regexp.Compile(flags + source)
		if err != nil {
			return nil, fmt.Errorf("%q is not a regular expression", arg)
		}
		all = append(all, re)
	}
	return func(r *http.Request) bool {
		text := of(r)
		return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.MatchString(text) })
	}, nil
}

// templates matches paths, from their beginning.
func templates(args []string, end string) (matcher, error) {
	var all []*regexp.Regexp
	for _, arg := range args {
		if !strings.HasPrefix(arg, "/") {
			return nil, fmt.Errorf("path %q does not begin with a slash", arg)
		}
		re, err := regexp.Compile("^" + expression(arg, `[^/]+`) + end)
		if err != nil {
			return nil, fmt.Errorf("%q is not a path", arg)
		}
		all = append(all, re)
	}
	return func(r *http.Request) bool {
		return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.MatchString(r.URL.Path) })
	}, nil
}

func headerMatcher(name string, args []string) (matcher, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("%s takes a name and a value", name)
	}
	matches := func(value string) bool { return value == args[1] }
	if strings.HasSuffix(strings.ToLower(name), "regexp") {
		re, err := regexp.Compile(args[1])
		if err != nil {
			return nil, fmt.Errorf("%q is not a regular expression", args[1])
		}
		matches = re.MatchString
	}
	return func(r *http.Request) bool { return slices.ContainsFunc(r.Header.Values(args[0]), matches) }, nil
}

// queryMatcher takes `name=value`, … (version 2) or `name`, `value` (version 3).
func queryMatcher(args []string) (matcher, error) {
	if len(args) == 2 && !strings.Contains(args[0], "=") {
		args = []string{args[0] + "=" + args[1]}
	}
	return func(r *http.Request) bool {
		query := r.URL.Query()
		return !slices.ContainsFunc(args, func(arg string) bool {
			name, value, _ := strings.Cut(arg, "=")
			return !slices.Contains(query[name], value)
		})
	}, nil
}
