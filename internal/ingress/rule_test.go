package ingress

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRuleMatches(t *testing.T) {
	for _, tc := range []struct {
		rule string
		url  string
		want bool
	}{
		{"Host(`a.ci.test`)", "https://a.ci.test/", true},
		{"Host(`a.ci.test`)", "https://A.CI.test:8443/x", true},
		{"Host(`A.ci.test`)", "https://a.ci.test./", true},
		{"Host(`a.ci.test`)", "https://b.ci.test/", false},
		{"Host(`a.ci.test`, `www.a.ci.test`)", "https://www.a.ci.test/", true},
		{"Host(`a.ci.test`,\"b.ci.test\")", "https://b.ci.test/", true},
		{"Host(`a.ci.test`) || Host(`b.ci.test`)", "https://b.ci.test/", true},
		{"Host(`a.ci.test`) && PathPrefix(`/api`)", "https://a.ci.test/apix", true},
		{"Host(`a.ci.test`) && PathPrefix(`/api`)", "https://a.ci.test/", false},
		{"Host(`a.ci.test`) && !PathPrefix(`/api`)", "https://a.ci.test/api/x", false},
		{"Host(`a`) || Host(`b`) && Path(`/x`)", "https://a/y", true}, // && binds closer
		{"(Host(`a`) || Host(`b`)) && Path(`/x`)", "https://a/y", false},
		{"Path(`/x`)", "https://a/x", true},
		{"Path(`/x`)", "https://a/x/", false},
		{"Path(`/users/{id:[0-9]+}`)", "https://a/users/12", true},
		{"Path(`/users/{id:[0-9]+}`)", "https://a/users/x", false},
		{"Path(`/users/{id}/mail`)", "https://a/users/x/mail", true},
		{"PathRegexp(`^/v[0-9]+/`)", "https://a/v12/", true},
		{"HostRegexp(`{sub:[a-z]+}.ci.test`)", "https://abc.ci.test/", true},
		{"HostRegexp(`{sub:[a-z]+}.ci.test`)", "https://abc.ci.test.evil/", false},
		{"HostRegexp(`{sub:[a-z]+}.ci.test`)", "https://abcxci.test/", false},
		{"HostRegexp(`^.+\\.ci\\.test$`)", "https://abc.ci.test/", true},
		{"Method(`POST`)", "https://a/", false},
		{"Methods(`POST`, `GET`)", "https://a/", true},
		{"Headers(`X-Test`, `one`)", "https://a/", true},
		{"HeaderRegexp(`X-Test`, `^o`)", "https://a/", true},
		{"Header(`X-Test`, `two`)", "https://a/", false},
		{"Query(`a=1`, `b=2`)", "https://a/?b=2&a=1", true},
		{"Query(`a`, `1`)", "https://a/?a=2", false},
	} {
		match, err := parseRule(tc.rule)
		if err != nil {
			t.Errorf("%s: %v", tc.rule, err)
			continue
		}
		r := httptest.NewRequest("GET", tc.url, nil)
		r.Header.Set("X-Test", "one")
		if got := match(r); got != tc.want {
			t.Errorf("%s on %s = %t, want %t", tc.rule, tc.url, got, tc.want)
		}
	}
}

func TestRuleRefuses(t *testing.T) {
	for _, rule := range []string{
		"", "Host", "Host(", "Host()", "Host(a)", "Host(`a`", "Host(`a", "Host(`a`) Host(`b`)", "Host(`a`) &&",
		"(Host(`a`)", "Host(`a`))", "ClientIP(`10.0.0.0/8`)", "HostSNI(`*`)", "HostRegexp(`(`)", "Path(`x`)",
		"Headers(`a`)", "HeaderRegexp(`a`, `(`)", "Host(`a`) & Host(`b`)", strings.Repeat("(", 1000) + "Host(`a`)",
		strings.Repeat("!", 100_000) + "Host(`a`)",
	} {
		if _, err := parseRule(rule); err == nil {
			t.Errorf("%.60s was accepted", rule)
		}
	}
}

func FuzzRule(f *testing.F) {
	for _, seed := range []string{
		"Host(`a`, `b`) && (PathPrefix(`/x`) || !Method(`GET`))", "HostRegexp(`{sub:[a-z]{1,3}}.x`)", "Query(`a=b`)", "!!(((",
	} {
		f.Add(seed, "https://a.test/x?y=z")
	}
	f.Fuzz(func(t *testing.T, rule, url string) {
		match, err := parseRule(rule)
		if err != nil {
			return
		}
		r := httptest.NewRequest("GET", "https://a.test/x?a=b", nil)
		r.Host = url
		if match(r) != match(r) {
			t.Error("the same request matches once and once not")
		}
	})
}
