package ccci_test

import (
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestHostWithin(t *testing.T) {
	const own = "wiki-1.ci.example.org"
	for host, want := range map[string]bool{
		own: true, "www." + own: true, "a.b-c_d." + own: true,
		"x" + own: false, "." + own: false, "a.." + own: false, "-." + own: false, "a-." + own: false, "a*." + own: false,
		own + ".": false, "ci.example.org": false, "": false, own + ".evil.example": false,
	} {
		if got := ccci.HostWithin(host, own); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}
