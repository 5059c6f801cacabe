package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// What a real Drone says is read as it is meant.
func TestDrone_real(t *testing.T) {
	d := dronetest.Start(t, gitea.Start(t), dronetest.Options{NoRunner: true, Pipeline: "kind: pipeline\ntype: exec\nname: recipe-ci\nsteps: [{name: x, commands: [\"true\"]}]\n"})
	look := func(token string, repo ccci.RepoRef) string {
		return said(t, Drone(d.URL, ccci.NewSecret(token), repo, nil))
	}
	expect(t, "reachable", said(t, Reach("drone", d.URL+"/healthz", nil)), "ok       drone: reachable: ")
	expect(t, "well", look(d.Token.Reveal(), d.Repo), "ok       drone: account: cc-ci acts as "+dronetest.User, "ok       drone: repository: "+d.Repo.String()+" is active, with a time-out of 60 min")
	expect(t, "another token", look("0000", d.Repo), "problem  drone: account: Drone does not take the token")
	expect(t, "another repository", look(d.Token.Reveal(), ccci.RepoRef{Owner: "nobody", Name: "nothing"}), "problem  drone: repository: Drone shows "+dronetest.User+" no repository")
	d.API(http.MethodDelete, "/api/repos/"+d.Repo.String(), nil)
	expect(t, "switched off", look(d.Token.Reveal(), d.Repo), "problem  drone: repository: "+d.Repo.String()+" is not active")
}

func TestDrone(t *testing.T) {
	repo := `{"active":true,"timeout":60,"permissions":{"read":true,"write":true,"admin":true}}`
	user := `{"login":"cibot"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer geheim" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer := map[string]string{"/api/user": user, "/api/repos/coop/cc-ci": repo}[r.URL.Path]
		if answer == "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	ref := ccci.RepoRef{Owner: "coop", Name: "cc-ci"}
	look := func() string {
		got := said(t, Drone(server.URL, ccci.NewSecret("geheim"), ref, nil))
		if strings.Contains(got, "geheim") {
			t.Error("the token is shown")
		}
		return got
	}
	expect(t, "well", look(), "ok       drone: account: cc-ci acts as cibot", "ok       drone: repository: coop/cc-ci is active, with a time-out of 60 min")
	repo = `{"active":true,"timeout":20,"permissions":{"write":true}}`
	expect(t, "no admin", look(), "warning  drone: repository: cibot may not set the time-out", "20 min")
	repo = `{"active":true,"permissions":{"read":true}}`
	expect(t, "no right to write", look(), "problem  drone: repository: cibot may not start builds", "press Sync")
	repo = `{"active":false}`
	expect(t, "not active", look(), "problem  drone: repository: coop/cc-ci is not active", server.URL+"/coop/cc-ci/settings")
	repo = ""
	expect(t, "not seen", look(), "problem  drone: repository: Drone shows cibot no repository")
	user = ""
	expect(t, "something else answers", look(), "problem  drone: account: Drone answers 404")
	user = "<html>"
	expect(t, "HTML", look(), "problem  drone: account: reading the answer")
	expect(t, "token", said(t, Drone(server.URL, ccci.NewSecret("old"), ref, nil)), "problem  drone: account: Drone does not take the token", server.URL+"/account")
	server.Close()
	expect(t, "away", look(), "problem  drone: account: ", "connection refused")
}
