package swarm

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// registry answers as a registry of images does, for a repository by what its name says.
func registry(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("Content-Type", "application/json")
	say := func(status int, code, message string) {
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
		}
	}
	switch name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/"); name {
	case "":
		w.Write([]byte("{}"))
	case "unknown":
		say(404, "NAME_UNKNOWN", "repository name not known to registry")
	case "old":
		say(404, "MANIFEST_UNKNOWN", "manifest unknown")
	case "private":
		say(403, "DENIED", "requested access to the resource is denied")
	case "limited":
		say(429, "TOOMANYREQUESTS", "you have reached your limit")
	case "down":
		say(503, "UNAVAILABLE", "not found")
	}
}

// U19, N7: Docker's own words for each answer of a registry tell whose fault it is.
func TestU19_WhatARegistryAnswersDecides(t *testing.T) {
	cli := docker(t)
	server := httptest.NewServer(http.HandlerFunc(registry))
	defer server.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nothing := closed.Addr().String()
	closed.Close()
	here := server.Listener.Addr().String()
	for ref, want := range map[string]ccci.Code{
		here + "/unknown/x:1": ccci.CodeRecipe,
		here + "/old/x:9.9":   ccci.CodeRecipe,
		here + "/private/x:1": ccci.CodeRecipe,
		here + "/limited/x:1": ccci.CodeInfra,
		here + "/down/x:1":    ccci.CodeInfra,
		nothing + "/x/y:1":    ccci.CodeInfra,
	} {
		t.Run(ref, func(t *testing.T) {
			d := newDeployer(t, cli, "010203-040506-abcdef")
			stack := deploytest.Stack(t, "pulls", t.TempDir(), "services:\n  app:\n    image: "+ref+"\n")
			_, err := d.Pull(t.Context(), stack)
			if err == nil || ccci.CodeOf(err) != want || ccci.HintOf(err) == "" || !strings.Contains(err.Error(), ref) {
				t.Errorf("%v: %s, want %s, hint %q", err, ccci.CodeOf(err), want, ccci.HintOf(err))
			}
		})
	}
}
