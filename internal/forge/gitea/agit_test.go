package gitea

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A28: who may only read makes a pull request by a push to refs/for/ (AGit). Its head lies in the
// base repository, and its name is none of a branch there.
func TestA28_AGitCountsAsAFork(t *testing.T) {
	for ref, fork := range map[string]bool{"refs/pull/1/head": true, "refs/heads/main": true, "main": false, "references": false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"number": 1, "state": "open", "head": {"ref": %q, "sha": %q, "repo_id": 5}, "base": {"ref": "main", "repo_id": 5}}`, ref, strings.Repeat("a", 40))
		}))
		defer server.Close()
		f, err := New(Options{URL: server.URL, Token: ccci.NewSecret("t")})
		if err != nil {
			t.Fatal(err)
		}
		pr, err := f.PullRequest(t.Context(), ccci.PRRef{Repo: repo, Number: 1})
		if err != nil || pr.Fork != fork {
			t.Errorf("%s: %+v, %v; want a fork: %t", ref, pr, err, fork)
		}
	}
}
