package admission

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var ownHosts = []string{testDomain, testSandbox}

func TestN3_RouterRules(t *testing.T) {
	quote := regexp.QuoteMeta(testDomain)
	for rule, want := range map[string]string{
		"Host(`" + testDomain + "`)":                                                     "",
		"Host(\"" + testDomain + "\")":                                                   "",
		"host(`" + strings.ToUpper(testDomain) + "`)":                                    "",
		"Host(`" + testDomain + "`, `" + testSandbox + "`)":                              "",
		"HostHeader(`" + testDomain + "`)":                                               "",
		"HostSNI(`" + testDomain + "`)":                                                  "",
		"Host(`" + testDomain + "`) && PathPrefix(`/a`)":                                 "",
		"Host(`" + testDomain + "`) && !PathPrefix(`/a`)":                                "",
		"(Host(`" + testDomain + "`)) || (Host(`" + testSandbox + "`) && Method(`GET`))": "",
		"!!Host(`" + testDomain + "`)":                                                   "",
		"!(!Host(`" + testDomain + "`) || Path(`/x`))":                                   "",
		"Host(`" + testDomain + "`) && (Path(`/a`) || Header(`A`, `b`))":                 "",
		"HostRegexp(`^" + quote + "$`)":                                                  "",
		"HostRegexp(`^(sandbox-)?" + quote + "$`)":                                       "",
		"HostRegexp(`^" + quote + "$|^sandbox-" + quote + "$`)":                          "",
		"HostRegexp(`(?i)^" + quote + "$`)":                                              "",
		"HostRegexp(`{h:(demo-0a1b2c|sandbox-demo-0a1b2c)}.ci.example.org`)":             "",
		"Host(`www." + testDomain + "`)":                                                 "",
		"Host(`a.b." + testDomain + "`)":                                                 "",
		"HostSNI(`ssh." + testDomain + "`)":                                              "",
		"HostRegexp(`{sub:[a-z]+}." + testDomain + "`)":                                  "",
		"HostRegexp(`{sub:\\w+}." + testDomain + "`)":                                    "",
		"HostRegexp(`^.+\\." + quote + "$`)":                                             "",
		"HostRegexp(`^(.+\\.)?" + quote + "$`)":                                          "",
		"HostRegexp(`^([a-z]+\\.)*" + quote + "$`)":                                      "",
		"HostRegexp(`^(.+)?" + quote + "$`)":                                             "matches more than",
		"HostRegexp(`(.+\\.)?" + quote + "$`)":                                           "matches more than",
		"HostRegexp(`^(a|b+)\\." + quote + "$|^" + quote + "$`)":                         "matches more than",

		"":                                         "does not parse",
		"Host:" + testDomain:                       "does not parse",
		"Host(`" + testDomain + "`) &&":            "does not parse",
		"Host()":                                   "also matches other hosts",
		"Host(`a.org`)":                            `"a.org" is not a host of this run`,
		"Host(`" + testDomain + "`,`a.org`)":       `"a.org" is not a host of this run`,
		"Host(`" + testDomain + ",a.org`)":         "is not a host of this run",
		"Host(`" + testDomain + ".evil.org`)":      "is not a host of this run",
		"Host('" + testDomain + "')":               "does not parse",
		"Host(`" + testDomain + "` + `x`)":         "not a plain text",
		"Host(1)":                                  "not a plain text",
		"Host":                                     "no matcher",
		"x.Host(`" + testDomain + "`)":             "no matcher",
		"Host(`" + testDomain + "`) | Path(1)":     "no matcher",
		"Path(`/`)":                                "also matches other hosts",
		"!Host(`" + testDomain + "`)":              "also matches other hosts",
		"Host(`" + testDomain + "`) || Path(`/x`)": "also matches other hosts",
		"Path(`/x`) || Path(`/y`) && Host(`" + testDomain + "`)":                "also matches other hosts",
		"!(Host(`" + testDomain + "`) && Path(`/x`))":                           "also matches other hosts",
		"Host(`" + testDomain + "`) && Host(`a.org`)":                           `"a.org" is not`,
		"Host(`" + testDomain + "`) && !Host(`a.org`)":                          `"a.org" is not`,
		"Host(`-." + testDomain + "`)":                                          "is not a host of this run",
		"Host(`.." + testDomain + "`)":                                          "is not a host of this run",
		"Host(`x" + testDomain + "`)":                                           "is not a host of this run",
		"Host(`" + strings.Repeat("a.", 130) + testDomain + "`)":                "is not a host of this run",
		"HostRegexp(`(?m)^.+\\." + quote + "$`)":                                "matches more than",
		"HostRegexp(`^.+\\." + quote + "`)":                                     "matches more than",
		"HostRegexp(`^.+\\." + quote + "$|^evil$`)":                             "matches more than",
		"HostRegexp(`^.+" + quote + "$`)":                                       "matches more than",
		"HostSNI(`*`)":                                                          `"*" is not`,
		"HostRegexp(`.*`)":                                                      "matches more than",
		"HostRegexp(`" + testDomain + "`)":                                      "matches more than",
		"HostRegexp(`^" + testDomain + "$`)":                                    "", // a recipe cannot escape the dots of ${DOMAIN}
		"HostRegexp(`^[a-z]+\\." + testDomain + "$`)":                           "",
		"HostRegexp(`^[a-z]+." + testDomain + "$`)":                             "matches more than",
		"HostRegexp(`^" + quote + "`)":                                          "matches more than",
		"HostRegexp(`(?m)^" + quote + "$`)":                                     "matches more than",
		"HostRegexp(`^" + quote + "$|evil`)":                                    "matches more than",
		"HostRegexp(`^(a|b)\\.org$`)":                                           `matches "a.org"`,
		"HostRegexp(`{h:[a-z]+}.ci.example.org`)":                               "matches more than",
		"HostRegexp(`{h:a|evil}`)":                                              "cannot be proven", // version 3 reads a branch without braces
		"HostRegexp(`{h:a|" + testDomain + "|b}`)":                              "cannot be proven",
		"HostRegexp(`{h:demo-0a1b2c}.ci.example.org|evil`)":                     "cannot be proven",
		"HostRegexp(`{h:(demo-0a1b2c)}.ci.example.org`) || HostRegexp(`{x:.}`)": "matches more than",
		"HostRegexp(`{`)":                                                       "cannot be proven",
		"Foo(`x`)":                                                              "the matcher Foo is not known",
		strings.Repeat("(", 3000) + strings.Repeat(")", 3000):                   "more than 4096",
	} {
		_, err := proveRule(rule, ownHosts)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", rule, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
}

// Version 3 reads this as three branches, and the one in the middle serves
// every host that has d2 in it.
func TestN3_HostTemplateOfVersion2IsReadAsVersion3Too(t *testing.T) {
	hosts := []string{"d1.example.org", "d2.example.org", "d3.example.org"}
	if _, err := proveRule("HostRegexp(`{h:d1|d2|d3}.example.org`)", hosts); err == nil {
		t.Error("admitted")
	}
	if _, err := proveRule("HostRegexp(`{h:(d1|d2|d3)}.example.org`)", hosts); err != nil {
		t.Error(err)
	}
}

// FuzzRule holds proveRule against a second opinion: a rule that it admits
// must not match any other host, whatever path, method or header comes along.
func FuzzRule(f *testing.F) {
	for _, rule := range []string{
		"Host(`" + testDomain + "`) && (PathPrefix(`/a`) || !Method(`GET`))",
		"!(!Host(`" + testDomain + "`) || Path(`/x`))",
		"HostRegexp(`^(sandbox-)?" + regexp.QuoteMeta(testDomain) + "$`)",
		"HostRegexp(`{h:(demo-0a1b2c|sandbox-demo-0a1b2c)}.ci.example.org`)",
		"HostSNI(`*`) || Host(`a.org`)",
		"HostRegexp(`{sub:[a-z]+}." + testDomain + "`)",
		"HostRegexp(`^(.+\\.)?" + regexp.QuoteMeta(testDomain) + "$`)",
		"HostRegexp(`^.+\\." + regexp.QuoteMeta(testDomain) + "$`) || Host(`www." + testDomain + "`)",
	} {
		f.Add(rule)
	}
	hosts := []string{
		"", "evil.org", "x" + testDomain, testDomain + ".evil.org", strings.ReplaceAll(testDomain, ".", "x"),
		"demo-0a1b2cxci.example.org", "ci.example.org", "sandbox-.ci.example.org", "demo-0a1b2c", "evil",
	}
	f.Fuzz(func(t *testing.T, rule string) {
		if _, err := proveRule(rule, ownHosts); err != nil {
			return
		}
		expr, err := parser.ParseExpr(rule)
		if err != nil {
			t.Fatalf("admitted what does not parse: %q", rule)
		}
		others := append(slices.Clone(hosts), hostLike.FindAllString(rule, -1)...)
		for _, host := range others {
			if slices.ContainsFunc(ownHosts, func(own string) bool {
				low := strings.ToLower(host)
				return low == own || strings.HasSuffix(low, "."+own)
			}) {
				continue
			}
			for _, v2 := range []bool{true, false} {
				if canMatch(expr, host, v2, false) {
					t.Fatalf("%q is admitted and matches %q (version 2: %v)", rule, host, v2)
				}
			}
		}
	})
}

var hostLike = regexp.MustCompile(`[A-Za-z0-9.-]+`)

// canMatch evaluates a rule for a host, with whatever else decides in its favour.
func canMatch(e ast.Expr, host string, v2, negated bool) bool {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return canMatch(e.X, host, v2, negated)
	case *ast.UnaryExpr:
		return canMatch(e.X, host, v2, !negated)
	case *ast.BinaryExpr:
		x, y := canMatch(e.X, host, v2, negated), canMatch(e.Y, host, v2, negated)
		if (e.Op == token.LAND) != negated {
			return x && y
		}
		return x || y
	case *ast.CallExpr:
		name := strings.ToLower(fmt.Sprint(e.Fun))
		if !strings.HasPrefix(name, "host") {
			return true
		}
		matches := false
		for _, arg := range e.Args {
			text, _ := strconv.Unquote(arg.(*ast.BasicLit).Value)
			if strings.Contains(name, "regexp") {
				if re, err := asTraefik(text, v2); err == nil && re.MatchString(host) {
					matches = true
				}
			} else if strings.EqualFold(strings.TrimSuffix(text, "."), host) {
				matches = true
			}
		}
		return matches != negated
	}
	return true
}

var v2Group = regexp.MustCompile(`\{[A-Za-z_]+:([^}]*)\}`)

// asTraefik compiles a host pattern the way either version does.
func asTraefik(pattern string, v2 bool) (*regexp.Regexp, error) {
	if !v2 {
		return regexp.Compile(pattern)
	}
	var b strings.Builder
	rest := pattern
	for _, m := range v2Group.FindAllStringSubmatchIndex(pattern, -1) {
		b.WriteString(regexp.QuoteMeta(pattern[len(pattern)-len(rest):m[0]]) + "(?:" + pattern[m[2]:m[3]] + ")")
		rest = pattern[m[1]:]
	}
	return regexp.Compile("^" + b.String() + regexp.QuoteMeta(rest) + "$")
}
