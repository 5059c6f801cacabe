package traefik

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestN3_RulesAreReadAsTraefikDoes(t *testing.T) {
	call := func(name string, args ...string) *Rule { return &Rule{Name: name, Args: args} }
	for text, want := range map[string]*Rule{
		"Host(`a`, \"b\")":                        call("Host", "a", "b"),
		" Host(`a`) ":                             call("Host", "a"),
		"Host(`a`) || Host(`b`) && Path(`/x`)":    {Op: Or, X: call("Host", "a"), Y: &Rule{Op: And, X: call("Host", "b"), Y: call("Path", "/x")}},
		"(Host(`a`) || Host(`b`)) && !Path(`/x`)": {Op: And, X: &Rule{Op: Or, X: call("Host", "a"), Y: call("Host", "b")}, Y: &Rule{Op: Not, X: call("Path", "/x")}},
		"HostRegexp(`^a\\.b$`)":                   call("HostRegexp", `^a\.b$`),
		"Header(`X`, `// \" /* \\`)":              call("Header", "X", `// " /* \`),
		"Header(\"`\", \"//\")":                   call("Header", "`", "//"),
		"Host()":                                  call("Host"),
		"Foo(`a`)":                                call("Foo", "a"),
	} {
		if got, err := ParseRule(text); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v\n%s", text, err, cmp.Diff(want, got))
		}
	}
	for text, want := range map[string]string{
		"Host(`demo`) && Header(`X`, \"(a\\\") || HostRegexp(`.+`) || Header(`y)`, \") //\")": "backslash",
		"Host(\"a\\x41\")":                    "backslash",
		"Host(`a`) // || Host(`b`)":           "comment",
		"Host(`a`) /* || Host(`b`) */":        "comment",
		"Host(/**/`a`)":                       "comment",
		"Host(`a`)\n//":                       "comment",
		"":                                    "does not parse",
		"Host(`a`":                            "does not parse",
		"Host(`a":                             "does not parse",
		"Host(`a`)\n&& Host(`b`)":             "does not parse",
		"Host(`a`); Host(`b`)":                "does not parse",
		"Host(\"a\nb\")":                      "does not parse",
		"Host(`a\x00`)":                       "does not parse",
		"Host":                                "no matcher",
		"`a`":                                 "no matcher",
		"a.Host(`a`)":                         "no matcher",
		"Host(`a`)(`b`)":                      "no matcher",
		"Host[int](`a`)":                      "no matcher",
		"Host(`a`...)":                        "no matcher",
		"-Host(`a`)":                          "no matcher",
		"Host(`a`) == Host(`b`)":              "no matcher",
		"func() bool { return Host(`a`) }()":  "no matcher",
		"Host(`a` + `b`)":                     "not a plain text",
		"Host('x')":                           "not a plain text",
		"Host(1)":                             "not a plain text",
		"Host(Host(`a`))":                     "not a plain text",
		strings.Repeat("!", 60) + "Host(`a`)": "nested too deep",
		strings.Repeat("(", 60) + "Host(`a`)" + strings.Repeat(")", 60): "nested too deep",
		"Host(`" + strings.Repeat("a", MaxRule) + "`)":                  "more than 4096",
	} {
		if _, err := ParseRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.90q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParseRule looks for rules that end the process, which serves and judges all runs.
func FuzzParseRule(f *testing.F) {
	for _, rule := range []string{"Host(`a`, `b`) && (PathPrefix(`/x`) || !Method(`GET`))", "!!(((", "Header(`X`, \"(a\\\") || HostRegexp(`.+`) || Header(`y)`, \") //\")", "Host[a](`b`...)"} {
		f.Add(rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		r, err := ParseRule(rule)
		if (err == nil) == (r == nil) {
			t.Errorf("%v, %v", r, err)
		}
	})
}
