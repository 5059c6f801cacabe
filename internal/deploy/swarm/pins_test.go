package swarm

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// The task names the ID of the image that was pulled, so that swarm asks no registry; the service says what the
// recipe states. Another image behind the same reference is another task, the same image is not.
func TestN3_TheTaskNamesThePulledImage(t *testing.T) {
	stack := deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n  app:\n    image: nginx:1.27\n")
	one, other := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	made := func(id string) service {
		m, err := convert(stack, map[string]string{"nginx:1.27": id}, "r", false, "proxy", Ceilings{})
		if err != nil {
			t.Fatal(err)
		}
		s := m.services[0]
		if got := s.spec.TaskTemplate.ContainerSpec.Image; got != id {
			t.Errorf("the task has the image %s, want %s", got, id)
		}
		if got := s.spec.Labels[labelStackImage]; got != "nginx:1.27" || s.image != got {
			t.Errorf("the service says %q, %q", got, s.image)
		}
		return s
	}
	first := made(one)
	if again := made(one); again.hash != first.hash {
		t.Error("the same image makes another task")
	}
	if moved := made(other); moved.hash == first.hash {
		t.Error("another image makes no other task")
	}
}

// Nothing is deployed by a reference, which swarm would resolve by itself.
func TestN3_WhatWasNotPulledIsNotDeployed(t *testing.T) {
	stack := deploytest.Stack(t, "s_ci_test", "/recipe", "version: '3.12'\nservices:\n  app:\n    image: nginx:1.27\n")
	d, err := New(Options{RunID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := d.model(t.Context(), stack); ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(err.Error(), "nginx:1.27") {
		t.Errorf("%v, %v", m, err)
	}
}

func TestQualified(t *testing.T) {
	for ref, want := range map[string]string{
		"nginx":                             "docker.io/library/nginx:latest",
		"ead13143b184":                      "docker.io/library/ead13143b184:latest",
		"r.example/x:1@sha256:" + hexes:     "r.example/x@sha256:" + hexes,
		"cc-ci.local/tinyapp:1":             "cc-ci.local/tinyapp:1",
		"sha256:" + hexes:                   "",
		hexes:                               "",
		"sha256:ead13143b184":               "docker.io/library/sha256:ead13143b184",
		"docker.io/library/sha256:" + hexes: "docker.io/library/sha256:" + hexes,
		"No Reference":                      "",
	} {
		got, err := qualified(ref)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", ref, got, err, want)
		}
	}
}

var hexes = strings.Repeat("0a", 32)

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
