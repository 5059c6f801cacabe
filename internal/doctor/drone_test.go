package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

const customPipeline = "kind: pipeline\ntype: exec\nname: recipe-ci\ntrigger: {event: [custom]}\nsteps: [{name: x, commands: [\"true\"]}]\n"

// N3: what a real Drone says is read as it is meant. One that was open is named layer by
// layer, with whoever and whatever came in meanwhile, until each is mended.
func TestN3_DroneReal(t *testing.T) {
	forge := gitea.Start(t)
	d := dronetest.Start(t, forge, dronetest.Options{NoRunner: true, Pipeline: customPipeline})
	look := func(token string, repo ccci.RepoRef) string {
		return said(t, Drone(d.URL, ccci.NewSecret(token), repo, nil))
	}
	well := func() string { return look(d.Token.Reveal(), d.Repo) }
	expect(t, "reachable", said(t, Reach("drone", d.URL+"/healthz", nil)), "ok       drone: reachable: ")
	expect(t, "open", well(), "ok       drone: account: cc-ci acts as "+dronetest.User, "ok       drone: repository: "+d.Repo.String()+" is active, with a time-out of 60 min",
		"problem  drone: limits of the repository: cibot/cc-ci is open to pushes, pull requests or readers; it needs visibility private, protected true, ignore_forks true, ignore_pull_requests true",
		"ok       drone: accounts: cibot is the only one", "ok       drone: other repositories: cibot/cc-ci is the only active one")

	forge.User(t, "mallory")
	forge.CreateRepo(t, "mallory/evil", false)
	for i := range 30 { // more than Drone has on a page
		forge.CreateRepo(t, fmt.Sprintf("mallory/a%02d", i), false)
	}
	mallory := d.SignIn("mallory")
	d.SignIn("ada")
	d.API(http.MethodPatch, "/api/users/ada", map[string]bool{"admin": true})
	if status, answer := mallory.API(http.MethodPost, "/api/repos/mallory/evil", nil); status != http.StatusOK {
		t.Fatalf("mallory's repository is not activated: %d %s", status, answer)
	}
	path := "/api/repos/" + d.Repo.String()
	d.API(http.MethodPost, path+"/cron", map[string]string{"name": "nightly", "expr": "@daily", "branch": "main"})
	d.API(http.MethodPost, path+"/secrets", map[string]string{"name": "password", "data": "geheim"})
	expect(t, "taken", well(), "problem  drone: accounts: Drone lets in ada (administrator), mallory besides cibot",
		"problem  drone: other repositories: Drone takes builds of mallory/evil besides cibot/cc-ci",
		"warning  drone: cron jobs: cibot/cc-ci has nightly", "warning  drone: secrets: cibot/cc-ci has password")

	d.API(http.MethodDelete, "/api/repos/mallory/evil", nil)
	d.API(http.MethodPatch, "/api/users/ada", map[string]bool{"active": false})
	d.API(http.MethodDelete, "/api/users/mallory", nil)
	d.API(http.MethodDelete, path+"/cron/nightly", nil)
	d.API(http.MethodDelete, path+"/secrets/password", nil)
	d.API(http.MethodPatch, path, dronelimits.Wanted())
	if got := well(); strings.Contains(got, "problem") || strings.Contains(got, "warning") {
		t.Errorf("with everything mended:\n%s", got)
	}

	expect(t, "another token", look("0000", d.Repo), "problem  drone: account: Drone does not take the token")
	expect(t, "another repository", look(d.Token.Reveal(), ccci.RepoRef{Owner: "nobody", Name: "nothing"}), "problem  drone: repository: Drone shows "+dronetest.User+" no repository")
	d.API(http.MethodDelete, "/api/repos/"+d.Repo.String(), nil)
	expect(t, "switched off", well(), "problem  drone: repository: "+d.Repo.String()+" is not active")
}

// N3: the settings of real processes, as they were started.
func TestN3_DroneSettings(t *testing.T) {
	forge := gitea.Start(t)
	for _, closed := range []bool{false, true} {
		o := dronetest.Options{NoRunner: true, Pipeline: customPipeline}
		repo := ccci.RepoRef{Owner: dronetest.User, Name: "cc-ci"}
		if closed {
			o.Pipeline, o.Server, o.Runner = "", dronelimits.Server(dronetest.User, repo), dronelimits.Runner(repo)
		}
		d := dronetest.Start(t, forge, o)
		look := func() string {
			return said(t, DroneSettings(strings.TrimPrefix(d.URL, "http://"), dronetest.User, repo))
		}
		expect(t, "no runner yet", look(), "warning  drone: settings of the runner: no runner of Drone at ", "DRONE_LIMIT_EVENTS=custom DRONE_LIMIT_REPOS=cibot/cc-ci")
		d.StartRunner()
		if closed {
			expect(t, "closed", look(), "ok       drone: settings of the server: process ", "ok       drone: settings of the runner: process ")
			continue
		}
		expect(t, "open", look(), " lets strangers in: it was started without DRONE_REGISTRATION_CLOSED=true DRONE_REPOSITORY_FILTER=cibot DRONE_USER_FILTER=cibot",
			" takes builds that cc-ci did not start: it was started without DRONE_LIMIT_EVENTS=custom DRONE_LIMIT_REPOS=cibot/cc-ci")
	}
}

// The server that reconcile makes reads its settings from a file, and what is in its
// environment counts before the file.
func TestDroneSettings_file(t *testing.T) {
	repo := ccci.RepoRef{Owner: "coop", Name: "cc-ci"}
	const host = "drone.settings-of-a-file.example.org"
	file := filepath.Join(t.TempDir(), "drone.env")
	if err := os.WriteFile(file, []byte("# settings\nDRONE_SERVER_HOST=\""+host+"\"\nDRONE_REGISTRATION_CLOSED='true'\nexport DRONE_USER_FILTER=\"cibot\"\nDRONE_REPOSITORY_FILTER=coop   # its owner\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	look := func(environ ...string) string {
		// A process that waits until its input ends.
		cmd := exec.Command("sh")
		cmd.Args = []string{"drone-server", "-c", "read line", "--env-file=" + file}
		cmd.Env = environ
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer input.Close()
		return said(t, DroneSettings(host, "cibot", repo))
	}
	expect(t, "closed", look(), "ok       drone: settings of the server: process ")
	expect(t, "opened", look("DRONE_USER_FILTER=coop"), "it was started without DRONE_USER_FILTER=cibot")
}

func TestDronePipeline(t *testing.T) {
	repo := ccci.RepoRef{Owner: "coop", Name: "cc-ci"}
	expect(t, "default branch", said(t, DronePipeline(repo, "", "")), "warning  drone: pipeline: whoever may push to the default branch of coop/cc-ci decides", "engine.drone.commit")
	expect(t, "a branch", said(t, DronePipeline(repo, "live", "")), "push to live of coop/cc-ci")
	expect(t, "a commit", said(t, DronePipeline(repo, "", "0123")), "ok       drone: pipeline: .drone.yml is that of commit 0123")
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
	expect(t, "no administrator of Drone", look(), "problem  drone: accounts: Drone answers cibot with 404", "DRONE_USER_CREATE=username:cibot")
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
