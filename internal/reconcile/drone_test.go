package reconcile

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

func droneOptions(url string) DroneOptions {
	return DroneOptions{
		Image: "drone:1", Host: "drone.ci.example.org", URL: url, Forge: "https://git.example.org", Admin: dronetest.User,
		Repo: ccci.RepoRef{Owner: dronetest.User, Name: "cc-ci"}, Timeout: time.Hour,
		Secrets: func() (DroneSecrets, error) {
			return DroneSecrets{ClientID: ccciSecret("id"), ClientSecret: ccciSecret("a \"quoted\" secret"), RPC: ccciSecret("rpc"), Token: ccciSecret("0123456789abcdef0123456789abcdef")}, nil
		},
	}
}

func onSwarm(units ...Unit) []Unit {
	return append([]Unit{Swarm(SwarmOptions{Subnet: "10.10.0.0/16"})}, units...)
}

// did returns what units did that stand on the swarm.
func did(t *testing.T, w *world, units ...Unit) []string {
	t.Helper()
	reports, err := (&Runner{Daemon: w, Poll: time.Millisecond}).Run(t.Context(), onSwarm(units...)...)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range reports[1:] {
		all = append(all, texts(r.Actions)...)
	}
	return all
}

// A13, A16: on a real Drone in front of a real Gitea: what its API lacks is done
// once, a limit that somebody changed is set again, and then there is nothing to do.
func TestA16_RealDroneIsSetUp(t *testing.T) {
	t.Parallel()
	forge := gitea.Start(t)
	server := dronetest.Start(t, forge, dronetest.Options{NoRunner: true})
	repo := dronetest.User + "/cc-ci"
	forge.CreateRepo(t, repo, false)
	w := newWorld()
	o := droneOptions(server.URL)
	first := did(t, w, Drone(o))
	if want := []string{
		"asking the forge for the repositories of cibot",
		"limiting cibot/cc-ci: visibility private, config_path .drone.yml, protected true, ignore_forks true, ignore_pull_requests true",
		"activating cibot/cc-ci", "setting the time limit of cibot/cc-ci to 60 minutes",
	}; len(first) != 6 || !slices.Equal(first[2:], want) {
		t.Errorf("did\n%s", strings.Join(first, "\n"))
	}
	for range 2 {
		if again := did(t, w, Drone(o)); len(again) > 0 {
			t.Errorf("then did\n%s", strings.Join(again, "\n"))
		}
	}
	var seen droneRepo
	look := func() {
		t.Helper()
		if err := json.Unmarshal(server.API(http.MethodGet, "/api/repos/"+repo, nil), &seen); err != nil || !seen.Active || seen.Timeout != 60 || seen.Repository != dronelimits.Wanted() {
			t.Errorf("Drone says %+v, %v", seen, err)
		}
	}
	look()
	// N3: each limit that somebody opened is closed again.
	for setting, open := range map[string]any{
		"visibility": "public", "config_path": "evil.yml", "trusted": true, "protected": false, "ignore_forks": false, "ignore_pull_requests": false,
	} {
		server.API(http.MethodPatch, "/api/repos/"+repo, map[string]any{setting: open})
		if again := did(t, w, Drone(o)); len(again) != 1 || !strings.HasPrefix(again[0], "limiting cibot/cc-ci: "+setting+" ") {
			t.Errorf("with %s %v did %v", setting, open, again)
		}
		look()
	}
	server.API(http.MethodPatch, "/api/repos/"+repo, map[string]int{"timeout": 600})
	reports, err := (&Runner{Daemon: w, DryRun: true}).Run(t.Context(), onSwarm(Drone(o))...)
	if err != nil || !slices.Equal(texts(reports[1].Actions), []string{"setting the time limit of cibot/cc-ci to 60 minutes"}) {
		t.Errorf("a dry run plans %v, %v", reports, err)
	}
	if again := did(t, w, Drone(o)); !slices.Equal(again, []string{"setting the time limit of cibot/cc-ci to 60 minutes"}) {
		t.Errorf("after an edit did %v", again)
	}

	o.Secrets = func() (DroneSecrets, error) { return DroneSecrets{Token: ccciSecret("another")}, nil }
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = (&Runner{Daemon: w, Poll: time.Millisecond}).Run(ctx, onSwarm(Drone(o))...)
	if err == nil || !strings.Contains(err.Error(), "telling Drone the token of cibot: Drone does not know the token") {
		t.Errorf("with a token that it cannot be told: %v", err)
	}
	if len(introductions(w)) > 0 {
		t.Errorf("left are %v", introductions(w))
	}
}

// introductions are the objects by which Drone is told a token.
func introductions(w *world) (names []string) {
	for _, s := range w.Services {
		if strings.Contains(s.Spec.Name, "introduction") {
			names = append(names, s.Spec.Name)
		}
	}
	for _, f := range w.Files {
		if strings.Contains(f.Name, "introduction") {
			names = append(names, f.Name)
		}
	}
	return names
}

// A29, A31: Drone logs every token that it takes from its settings. It is told by a second server without
// a log, which goes again; a new token likewise, and the server that stays is not touched.
func TestA29_DroneIsToldTheTokenInSilence(t *testing.T) {
	w := newWorld()
	var known string // of the token
	token := "first-token-0123456789abcdef"
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for _, s := range w.Services {
			if s.Spec.Name != Prefix+"drone-introduction" {
				continue
			}
			if driver := s.Spec.TaskTemplate.LogDriver; driver == nil || driver.Name != "none" {
				t.Errorf("it logs to %+v", driver)
			}
			known = "Bearer " + token
		}
		switch {
		case r.Header.Get("Authorization") != known:
			rw.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/user":
			io.WriteString(rw, `{"login":"cibot","admin":true}`)
		default:
			repo := droneRepo{Active: true, Timeout: 60, Repository: dronelimits.Wanted()}
			json.NewEncoder(rw).Encode(repo)
		}
	}))
	defer server.Close()
	o := droneOptions(server.URL)
	o.Secrets = func() (DroneSecrets, error) { return DroneSecrets{Token: ccciSecret(token)}, nil }
	want := []string{
		"creating secret drone_introduction_", "creating service cc-ci_drone-introduction", "removing service cc-ci_drone-introduction",
		"removing secret drone_introduction_", "telling Drone the token of cibot",
	}
	for round, skip := range []int{2, 0} { // the first makes the server that stays
		got := did(t, w, Drone(o))
		ok := len(got) == skip+len(want)
		for i := 0; ok && i < len(want); i++ {
			ok = strings.HasPrefix(got[skip+i], want[i])
		}
		if !ok {
			t.Errorf("round %d did\n%s", round, strings.Join(got, "\n"))
		}
		if again := did(t, w, Drone(o)); len(again) > 0 || len(introductions(w)) > 0 {
			t.Errorf("round %d: then did %v, left are %v", round, again, introductions(w))
		}
		token = "second-token-0123456789abcdef"
	}
}

// A13: the service as it is to be, without a secret in what whoever may look at services reads.
func TestA13_DroneService(t *testing.T) {
	d, err := Drone(droneOptions("http://127.0.0.1:1")).Desired(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	env := d.Files[0].Content.Reveal()
	for _, line := range []string{
		`DRONE_GITEA_SERVER="https://git.example.org"`, `DRONE_GITEA_CLIENT_SECRET="a \"quoted\" secret"`, `DRONE_RPC_SECRET="rpc"`,
		`DRONE_SERVER_HOST="drone.ci.example.org"`, `DRONE_SERVER_PROTO="https"`,
		`DRONE_REGISTRATION_CLOSED="true"`, `DRONE_USER_FILTER="cibot"`, `DRONE_REPOSITORY_FILTER="cibot"`,
	} {
		if !strings.Contains(env, line+"\n") {
			t.Errorf("%s is not in\n%s", line, env)
		}
	}
	if strings.Contains(env, "0123456789abcdef") {
		t.Errorf("the server is told the token, and would log it:\n%s", env)
	}
	spec, err := json.Marshal(d.Services[0].Spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"rpc", "0123456789abcdef", "quoted"} {
		if strings.Contains(string(spec), secret) {
			t.Errorf("%q is in the specification", secret)
		}
	}
	if rule := d.Services[0].Spec.Labels["traefik.http.routers.cc-ci-drone.rule"]; rule != "Host(`drone.ci.example.org`)" {
		t.Errorf("the rule is %s", rule)
	}
	// A new secret is a new version, and an update of the service that has it.
	w := newWorld()
	up := func(rpc string) []string {
		o := droneOptions("")
		o.Secrets = func() (DroneSecrets, error) { return DroneSecrets{RPC: ccciSecret(rpc)}, nil }
		u := Drone(o)
		u.Steps, u.Check = nil, nil
		return did(t, w, u)
	}
	up("one")
	if again := up("one"); len(again) > 0 {
		t.Errorf("the same again did %v", again)
	}
	if changed := up("two"); len(changed) != 3 || !strings.HasPrefix(changed[0], "creating secret drone_env_") ||
		!strings.HasPrefix(changed[1], "updating service cc-ci_drone") || !strings.HasPrefix(changed[2], "removing secret drone_env_") {
		t.Errorf("a new secret did\n%s", strings.Join(changed, "\n"))
	}
}

// What cannot work is refused before anything is changed.
func TestA13_DroneRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*DroneOptions){
		"no image": func(o *DroneOptions) { o.Image = "" },
		"no forge": func(o *DroneOptions) { o.Forge = "" },
		"no secrets": func(o *DroneOptions) {
			o.Secrets = func() (DroneSecrets, error) { return DroneSecrets{}, ccci.Errorf(ccci.CodeInvalid, "no file") }
		},
	} {
		o := droneOptions("")
		spoil(&o)
		if _, err := Drone(o).Desired(t.Context()); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
