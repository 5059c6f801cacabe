package ingress

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/traefik"
)

// matcher decides whether a request belongs to a router.
type matcher func(r *http.Request) bool

// parseRule makes a matcher of a router rule, which [traefik.ParseRule] reads, for admission too.
//
// Known matchers are Host, HostHeader, HostRegexp, Path, PathPrefix, PathRegexp,
// Method(s), Header(s), Header(s)Regexp and Query. Others, ClientIP among them, are errors.
func parseRule(rule string) (matcher, error) {
	read, err := traefik.ParseRule(rule)
	if err != nil {
		return nil, err
	}
	return compileRule(read)
}

func compileRule(r *traefik.Rule) (matcher, error) {
	if r.Op == traefik.Matcher {
		return newMatcher(r.Name, r.Args)
	}
	x, err := compileRule(r.X)
	if err != nil {
		return nil, err
	}
	if r.Op == traefik.Not {
		return func(r *http.Request) bool { return !x(r) }, nil
	}
	y, err := compileRule(r.Y)
	if err != nil {
		return nil, err
	}
	if r.Op == traefik.And {
		return func(r *http.Request) bool { return x(r) && y(r) }, nil
	}
	return func(r *http.Request) bool { return x(r) || y(r) }, nil
}

// matcher decides whether a request is for this router: its host has to be the run's own, whatever
// the rule says, so that no rule leads to what others have.
func (r Router) matcher() (matcher, error) {
	match, err := parseRule(r.Rule)
	if err != nil {
		return nil, err
	}
	return func(req *http.Request) bool { return recipe.OwnHost(hostname(req), r.Domain) && match(req) }, nil
}

func newMatcher(name string, args []string) (matcher, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("matcher %s has no argument", name)
	}
	switch strings.ToLower(name) {
	case "host", "hostheader":
		args = slices.Clone(args)
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
