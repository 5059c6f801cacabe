package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// N3, whole chain: the pages of a pull request try to take the browser of its run to a service
// on this machine. Nothing arrives; a page that goes there itself turns its check red with the
// address, one that embeds it is judged without, and a warning names it.
func TestN3_PagesOfAPullRequestReachNoServiceOfTheMachine(t *testing.T) {
	together(t)
	for name, c := range map[string]struct {
		markup string
		leaves bool
	}{
		"goes there": {`<script>location = "http://" + [127, 0, 0, 1].join(".") + ":%s/"</script>`, true},
		"embeds it":  {`<iframe id=f></iframe><img id=i><script>const to = "http://" + [127, 0, 0, 1].join(".") + ":%s/"; f.src = to; i.src = to; fetch(to, {mode: "no-cors", method: "POST", body: "x"}).catch(() => {})</script>`, false},
	} {
		t.Run(name, func(t *testing.T) {
			var hits atomic.Int32
			canary := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				hits.Add(1)
				fmt.Fprint(w, "CANARY")
			}))
			defer canary.Close()
			_, port, _ := net.SplitHostPort(canary.Listener.Addr().String())
			dir, config := workspace(t, "")
			repo, branch := example(t, dir, "canary-good")
			addMarkup(t, repo, branch, fmt.Sprintf(c.markup, port))
			code, r, log := harnessRun(t, config, filepath.Join(dir, "out"), repo, "--head", branch, "--stages", "upgrade,checks")
			warned := slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "127.0.0.1:"+port) })
			if !warned {
				t.Errorf("no warning names the address: %q", r.Warnings)
			}
			if c.leaves && (code != exitFailed || r.Cause == nil || r.Cause.Check != "checks/page" || r.Cause.Code != ccci.CodeRecipe || !strings.Contains(r.Cause.Message, "127.0.0.1:"+port)) {
				t.Errorf("exit code %d, cause %+v\n%s", code, r.Cause, log)
			}
			if !c.leaves && code != 0 {
				t.Errorf("exit code %d, cause %+v\n%s", code, r.Cause, log)
			}
			_, err := os.Stat(filepath.Join(dir, "out", "screenshot-final.png"))
			if pictured := err == nil; pictured == c.leaves {
				t.Errorf("a picture was taken: %t", pictured)
			}
			if n := hits.Load(); n != 0 {
				t.Errorf("%d requests arrived", n)
			}
			nothingLeftOf(t, r.RunID)
		})
	}
}

// addMarkup makes the page of the head misbehave.
func addMarkup(t *testing.T, repo, branch, markup string) {
	t.Helper()
	gitIn(t, repo, "checkout", "-q", branch)
	compose := filepath.Join(repo, "compose.yml")
	text, err := os.ReadFile(compose)
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(text), "      - DOMAIN\n")
	if !found {
		t.Fatalf("no environment in\n%s", text)
	}
	text = []byte(before + "      - DOMAIN\n      - '" + "TINYAPP_MARKUP=" + markup + "'\n" + after)
	if err := os.WriteFile(compose, text, 0o644); err != nil {
		t.Fatal(err)
	}
	gitIn(t, repo, "commit", "-qam", "a page that misbehaves")
}
