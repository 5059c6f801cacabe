package swarm

import (
	"strings"
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// N9: a pin takes the place of what a recipe states, in the task alone; the stack stays as it was judged.
func TestN9_PinsNameTheImage(t *testing.T) {
	const compose = "version: '3.12'\nservices:\n  app:\n    image: nginx:1.27\n  db:\n    image: postgres:17\n"
	pinned := "nginx@sha256:" + strings.Repeat("a", 64)
	d := &Deployer{o: Options{Pins: map[string]string{"nginx:1.27": pinned}}}
	stack := deploytest.Stack(t, "s_ci_test", "/recipe", compose)
	m, err := convert(d.pinned(stack), "r", false, "proxy", Ceilings{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range m.services {
		got[s.key] = s.spec.TaskTemplate.ContainerSpec.Image
	}
	if got["app"] != pinned || got["db"] != "postgres:17" {
		t.Errorf("%v", got)
	}
	for _, s := range stack.Config.Services {
		if strings.Contains(s.Image, "@") {
			t.Errorf("the stack states %s", s.Image)
		}
	}
}

func TestRepoDigest(t *testing.T) {
	a, b := "nginx@sha256:"+strings.Repeat("a", 64), "mirror.example.org/nginx@sha256:"+strings.Repeat("a", 64)
	for _, c := range []struct {
		ref     string
		digests []string
		want    string
	}{
		{"nginx:1.27", []string{b, a}, a},
		{"docker.io/library/nginx", []string{a}, a},
		{"mirror.example.org/nginx:1", []string{a, b}, b},
		{a, []string{a}, a},
		{"cc-ci.local/tinyapp:1", nil, ""},
		{"nginx:1.27", []string{b}, ""},
		{"not a reference", []string{a}, ""},
	} {
		if got := repoDigest(c.ref, c.digests); got != c.want {
			t.Errorf("%s: %q", c.ref, got)
		}
	}
}
