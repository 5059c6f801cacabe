package swarm

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// N3: the same before an installation. Nobody is told that the janitor removes the operator's.
func TestN3_NewNamesWhatTheOperatorMade(t *testing.T) {
	d := stub(func(r *http.Request) (int, string) {
		if strings.HasSuffix(r.URL.Path, "/volumes") {
			return http.StatusOK, `{"Volumes": [{"Name": "media", "Driver": "local"}]}`
		}
		return http.StatusOK, "[]"
	}).deployer(t, Options{RunID: "260102-030405-abcdef"})
	s := deploytest.Stack(t, "s_ci_test", t.TempDir(), "version: '3.8'\nservices: {app: {image: x, volumes: ['media:/m']}}\nvolumes: {media: {name: media}}\n")
	err := d.New(t.Context(), s, nil)
	if ccci.CodeOf(err) != ccci.CodeRecipe || !strings.Contains(err.Error(), "volume media exists") || strings.Contains(ccci.HintOf(err), "janitor") {
		t.Errorf("New: %v, hint %q", err, ccci.HintOf(err))
	}
}

// N3: a name that a stack gives to an object of its own may be that of something which the operator made. Nothing is
// deployed then: the app would use it, and what the app made is removed with it. An upgrade meets no check of New.
func TestN3_WhatSomebodyElseMadeIsNotTheStacksOwn(t *testing.T) {
	const run, stack = "260102-030405-abcdef", "s_ci_test"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for kind, compose := range map[string]string{
		kindVolume:  "    volumes: ['media:/m']\nvolumes: {media: {name: media}}",
		kindNetwork: "    networks: [media]\nnetworks: {media: {name: media}}",
		kindConfig:  "    configs: [media]\nconfigs: {media: {name: media, file: ./file}}",
		kindSecret:  "    secrets: [media]\nsecrets: {media: {name: media, file: ./file}}",
	} {
		for name, c := range map[string]struct {
			labels string
			want   ccci.Code
		}{
			"the operator's": {"{}", ccci.CodeRecipe},
			"another stack":  {`{"com.docker.stack.namespace": "other"}`, ccci.CodeRecipe},
			"another run":    {`{"cc-ci.run": "260102-030405-000000", "com.docker.stack.namespace": "other"}`, ccci.CodeConflict},
			"this stack":     {`{"cc-ci.run": "` + run + `", "com.docker.stack.namespace": "` + stack + `"}`, ""},
		} {
			for _, external := range []bool{false, true} {
				made := false
				d := stub(func(r *http.Request) (int, string) {
					made = made || r.Method != http.MethodGet
					spec := `[{"ID": "1", "Spec": {"Name": "media", "Labels": ` + c.labels + `, "Data": "eA=="}}]`
					path := strings.TrimPrefix(r.URL.Path, "/v1.41")
					switch {
					case kind == kindVolume && path == "/volumes/media":
						return http.StatusOK, `{"Name": "media", "Labels": ` + c.labels + `}`
					case kind == kindNetwork && path == "/networks":
						return http.StatusOK, `[{"Id": "1", "Name": "media", "Scope": "swarm", "Labels": ` + c.labels + `}, {"Id": "2", "Name": "s_ci_test_default", "Scope": "swarm", "Labels": {"com.docker.stack.namespace": "s_ci_test"}}]`
					case path == "/networks":
						return http.StatusOK, `[{"Id": "2", "Name": "s_ci_test_default", "Scope": "swarm", "Labels": {"com.docker.stack.namespace": "s_ci_test"}}]`
					case kind == kindConfig && path == "/configs", kind == kindSecret && path == "/secrets":
						return http.StatusOK, spec
					}
					return http.StatusOK, "[]"
				}).deployer(t, Options{RunID: run})
				text, want := compose, c.want
				if external { // the operator's is used as such, as far as admission lets a recipe
					text, want = strings.NewReplacer("name: media", "name: media, external: true", ", file: ./file", "").Replace(compose), ""
				}
				s := deploytest.Stack(t, stack, dir, "version: '3.8'\nservices:\n  app:\n    image: x\n"+text+"\n")
				m, err := convert(s, nil, run, false, "proxy", Ceilings{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = d.prepare(t.Context(), s, m)
				if got := ccci.CodeOf(err); err == nil && want != "" || err != nil && got != want {
					t.Errorf("%s of %s, external %v: %v, want code %q", kind, name, external, err, want)
				}
				if want != "" && (made || !strings.Contains(err.Error(), kind+" media exists") || ccci.HintOf(err) == "") {
					t.Errorf("%s of %s: %v, hint %q, something is made: %v", kind, name, err, ccci.HintOf(err), made)
				}
			}
		}
	}
}
