package ccci_test

import (
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// N7: two failures are one when the same check says the same of them, whatever each deployment is called.
func TestN7_TheSameFailure(t *testing.T) {
	const said = "deploying app: service app: its task failed 3 times in the same way: exit code 1; service app said last: "
	for name, c := range map[string]struct {
		a, b string
		want bool
	}{
		"the same":           {said + "no such key", said + "no such key", true},
		"a number of tries":  {said + "no such key", "deploying app: service app: its task failed 4 times in the same way: exit code 1; service app said last: no such key", true},
		"a time":             {said + "2026-11-30T12:00:01.531Z no such key", said + "2026-11-30T12:01:44.2Z no such key", true},
		"a time of day":      {said + "[12:00:01] no such key", said + "[12:01:44] no such key", true},
		"a digest":           {"image app@sha256:4f9d4f9d4f9d4f9d is gone", "image app@sha256:91be91be91be91be is gone", true},
		"a task of swarm":    {"task 8xk2m0q1z9v7c5b3n1l0p4r6t ended", "task 1a2b3c4d5e6f7g8h9i0jklmno ended", true},
		"a stack":            {"network cana-001778_default is gone", "network cana-3f9a1c_default is gone", true},
		"a request":          {said + "request 0b9c1a52-7f6d-4b1e-9a55-02f5d3b6a001 failed", said + "request 6d0f9d7c-1111-4b1e-9a55-02f5d3b6a0ff failed", true},
		"an exit code":       {"service app: exit code 1", "service app: exit code 137", false},
		"another version":    {"image app:1.0.0 is unknown", "image app:1.1.0 is unknown", false},
		"another answer":     {"the app answered 502", "the app answered 404", false},
		"another reason":     {said + "no such key", "service app: exec /new-entrypoint.sh: no such file or directory", false},
		"a word of six":      {"service app-server is gone", "service app-worker is gone", false},
		"a word that is hex": {"no key facade", "no key decade", false},
	} {
		a, b := ccci.Cause{Check: "install/converged", Message: c.a}, ccci.Cause{Check: "install/converged", Message: c.b}
		if a.Same(b) != c.want || b.Same(a) != c.want {
			t.Errorf("%s: the same is %v", name, !c.want)
		}
		r := ccci.Result{Cause: &a, BrokenBases: []ccci.BrokenBase{{Version: "0.0.9+1.0.0"}, {Version: "0.1.0+1.0.0", Cause: b}}}
		if like := r.LikeBase(); (like != nil) != c.want || like != nil && like.Version != "0.1.0+1.0.0" {
			t.Errorf("%s: fails like %+v", name, like)
		}
		if b.Check = "install/serves"; a.Same(b) {
			t.Errorf("%s: it is another check", name)
		}
	}
}
