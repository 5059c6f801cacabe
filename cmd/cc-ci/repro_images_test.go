package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// N9: each image is the one of then where it can be had, and named where it cannot.
func TestN9_ImagesAreThoseOfThen(t *testing.T) {
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	here := map[string]string{"kept@" + digest("a"): digest("1"), "made:1": digest("2"), "remade:1": digest("3")}
	registry := map[string]bool{"pullable@" + digest("a"): true, "gone@" + digest("a"): false}
	// The daemon's answers, as its API describes them.
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path[strings.Index(r.URL.Path[1:], "/")+1:]
		name, inspects := strings.CutPrefix(strings.TrimSuffix(path, "/json"), "/images/")
		asked, asks := strings.CutPrefix(name, "/distribution/")
		answer := func(code int, body any) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(body)
		}
		switch there, known := registry[strings.TrimPrefix(asked, "docker.io/library/")]; {
		case inspects && here[name] != "":
			answer(http.StatusOK, map[string]any{"Id": here[name]})
		case inspects:
			answer(http.StatusNotFound, map[string]string{"message": "No such image: " + name})
		case asks && there:
			answer(http.StatusOK, map[string]any{"Descriptor": map[string]any{}, "Platforms": []any{}})
		case asks && known:
			answer(http.StatusNotFound, map[string]string{"message": "manifest unknown"})
		case asks:
			answer(http.StatusInternalServerError, map[string]string{"message": "no route to host"})
		default:
			answer(http.StatusNotFound, map[string]string{"message": "page not found"})
		}
	}))
	defer daemon.Close()
	docker, err := client.NewClientWithOpts(client.WithHost("tcp://"+daemon.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	p := &platform{docker: docker}
	var then []ccci.Image
	for _, image := range [][2]string{{"kept:1", "kept@" + digest("a")}, {"pullable:1", "pullable@" + digest("a")}, {"gone:1", "gone@" + digest("a")},
		{"away:1", "away@" + digest("a")}, {"swapped:1", "other@" + digest("a")}, {"made:1", ""}, {"remade:1", ""}, {"absent:1", ""}} {
		then = append(then, ccci.Image{Service: "app", Reference: image[0], Digest: digest("2"), RepoDigest: image[1], Stage: "base"})
		then = append(then, ccci.Image{Service: "app", Reference: image[0], Digest: digest("2"), RepoDigest: image[1], Stage: "head"})
	}
	pins, deviations := p.pin(t.Context(), then)
	want := map[string]string{"kept:1": "kept@" + digest("a"), "pullable:1": "pullable@" + digest("a"), "away:1": "away@" + digest("a")}
	if !maps.Equal(pins, want) {
		t.Errorf("pins %v", pins)
	}
	for ref, what := range map[string]string{
		"gone:1": "the registry no longer has", "away:1": "is not known", "swapped:1": "another image's name",
		"remade:1": "here it is " + digest("3"), "absent:1": "is not on this machine",
	} {
		if n := len(slices.DeleteFunc(slices.Clone(deviations), func(d string) bool {
			return !strings.HasPrefix(d, "image "+ref+" of service app: ") || !strings.Contains(d, what)
		})); n != 1 {
			t.Errorf("%s is named %d times: %q", ref, n, deviations)
		}
	}
	if len(deviations) != 5 {
		t.Errorf("%q", deviations)
	}
}

// N3: a result may be anybody's. The daemon asks no registry that is named by an address or has no
// public name, before admission has judged anything.
func TestN3_ReproAsksNoInnerRegistry(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(r.URL.Path, "/distribution/") {
			asked = append(asked, r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": "No such image"})
	}))
	defer daemon.Close()
	docker, err := client.NewClientWithOpts(client.WithHost("tcp://"+daemon.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	var then []ccci.Image
	for _, name := range []string{"127.0.0.1:5000/a", "169.254.169.254/a", "localhost/a", "registry:5000/a", "gitea.internal/a", "[::1]:5000/a", recipe.LocalRegistry + "/a"} {
		then = append(then, ccci.Image{Service: "app", Reference: name + ":1", RepoDigest: name + "@sha256:" + strings.Repeat("a", 64)})
	}
	_, deviations := (&platform{docker: docker}).pin(t.Context(), then)
	mu.Lock()
	defer mu.Unlock()
	if len(asked) > 0 || len(deviations) != len(then) {
		t.Errorf("the daemon asks %q; deviations %q", asked, deviations)
	}
}
