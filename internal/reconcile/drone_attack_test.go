package reconcile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/dronelimits"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// The persons of the tests below: mallory has an account at the forge and nothing else,
// ada may write to the repository of cc-ci.
const (
	stranger = "mallory"
	writer   = "ada"
)

// attacks are what a person can do to have a command run on the host. Each writes a
// file of its own name when it succeeds.
var attacks = []struct {
	name string
	do   func(*attacked, string)
}{
	{"own repository, push", func(a *attacked, name string) {
		a.push(stranger, a.own, "main", map[string]string{".drone.yml": a.pipeline(name, "push")})
	}},
	{"own repository, custom build", func(a *attacked, name string) {
		a.push(stranger, a.own, "main", map[string]string{".drone.yml": a.pipeline(name, "custom")})
		a.build(a.strangerAccount, a.own, "main")
	}},
	{"pull request from a fork", func(a *attacked, name string) {
		branch := a.push(stranger, a.fork, a.branch(), map[string]string{".drone.yml": a.pipeline(name, "pull_request")})
		a.pull(stranger, stranger+":"+branch)
	}},
	{"pull request from a branch", func(a *attacked, name string) {
		a.pull(writer, a.push(writer, a.repo, a.branch(), map[string]string{".drone.yml": a.pipeline(name, "pull_request")}))
	}},
	{"push of a branch", func(a *attacked, name string) {
		a.push(writer, a.repo, a.branch(), map[string]string{".drone.yml": a.pipeline(name, "push")})
	}},
	{"push of a tag", func(a *attacked, name string) {
		a.push(writer, a.repo, "refs/tags/"+a.branch(), map[string]string{".drone.yml": a.pipeline(name, "tag")})
	}},
	// .drone.yml stays what it is on the default branch.
	{"push of a script that the pipeline runs", func(a *attacked, name string) {
		a.push(writer, a.repo, a.branch(), map[string]string{".drone.yml": a.shipped, ".ci/run": "#!/bin/sh\n" + a.mark(name) + "\n"})
	}},
	{"custom build of a branch", func(a *attacked, name string) {
		branch := a.push(writer, a.repo, a.branch(), map[string]string{".drone.yml": a.pipeline(name, "custom")})
		a.build(a.writerAccount, a.repo, branch)
	}},
}

func attackNames() (all []string) {
	for _, a := range attacks {
		all = append(all, a.name)
	}
	return all
}

// without returns all attacks but these.
func without(names ...string) []string {
	return slices.DeleteFunc(attackNames(), func(name string) bool { return slices.Contains(names, name) })
}

// What was shipped before decision 0008: the runner of the appliance ran what was pushed.
const selfTest = `
---
kind: pipeline
type: exec
name: self-test
trigger:
  event: [push]
steps:
  - name: test
    commands: [.ci/run]
`

// attacked is a Drone with its runner in front of a forge, and who attacks it.
type attacked struct {
	t                              *testing.T
	forge                          *gitea.Server
	drone                          *dronetest.Server
	repo, own, fork                string
	strangerAccount, writerAccount *dronetest.Account
	shipped                        string // .drone.yml
	dir                            string // of the files that attacks write
	branches                       int

	mu       sync.Mutex
	answered map[string]int // webhooks that Drone has dealt with, by their event
	awaited  map[string]int
}

// watch counts the webhooks that Drone has answered.
func (a *attacked) watch(answer *http.Response) {
	if answer.Request.Method != http.MethodPost || answer.Request.URL.Path != "/hook" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered[answer.Request.Header.Get("X-Gitea-Event")]++
}

// attack starts the servers and signs both persons in, as far as they are let in. Drone
// knows cc-ci's repository name and runs the builds of cc-ci.
func attack(t *testing.T, forge *gitea.Server, name string, server map[string]string) *attacked {
	t.Helper()
	shipped, err := os.ReadFile("../../.drone.yml")
	if err != nil {
		t.Fatal(err)
	}
	a := &attacked{
		t: t, forge: forge, dir: t.TempDir(), shipped: string(shipped), repo: dronetest.User + "/" + name, own: stranger + "/evil-" + name,
		answered: map[string]int{}, awaited: map[string]int{},
	}
	programs := t.TempDir()
	// It stands for the installed cc-ci, which another test starts.
	if err := os.WriteFile(filepath.Join(programs, "cc-ci"), []byte("#!/bin/sh\n"+a.mark("$CCCI_JOB")+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	a.drone = dronetest.Start(t, forge, dronetest.Options{
		NoRunner: true, Environ: map[string]string{"PATH": programs + ":" + os.Getenv("PATH")}, Watch: a.watch, Server: server,
	})
	a.drone.AddRepository(name, a.shipped)
	forge.Collaborator(t, a.repo, writer, "write")
	a.fork = forge.Fork(t, a.repo, stranger)
	forge.CreateRepo(t, a.own, false)
	a.push(stranger, a.own, "main", map[string]string{"README.md": "mine"})
	a.strangerAccount, a.writerAccount = a.drone.SignIn(stranger), a.drone.SignIn(writer)
	a.strangerAccount.API(http.MethodPost, "/api/repos/"+a.own, nil)
	clear(a.awaited) // before a repository is active, its pushes bring no webhook
	clear(a.answered)
	return a
}

// mark is a command that leaves a file.
func (a *attacked) mark(name string) string { return fmt.Sprintf("touch \"%s/%s\"", a.dir, name) }

// pipeline is a .drone.yml whose builds of an event leave a file.
func (a *attacked) pipeline(name, event string) string {
	return fmt.Sprintf("kind: pipeline\ntype: exec\nname: evil\nclone: {disable: true}\ntrigger: {event: [%s]}\nsteps:\n  - name: evil\n    commands: ['%s']\n", event, a.mark(name))
}

func (a *attacked) branch() string {
	a.branches++
	return fmt.Sprintf("b%d", a.branches)
}

// push pushes a commit of its own as a person and returns the branch or tag.
func (a *attacked) push(user, repo, ref string, files map[string]string) string {
	a.t.Helper()
	dir := a.t.TempDir()
	git := func(args ...string) string {
		a.t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			a.t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	remote := a.forge.PushURL(repo, user)
	git("init", "--quiet", "--initial-branch=work")
	if git("ls-remote", remote, "refs/heads/main") != "" {
		git("fetch", "--quiet", "--depth=1", remote, "main")
		git("reset", "--quiet", "--hard", "FETCH_HEAD")
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			a.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			a.t.Fatal(err)
		}
	}
	git("add", "--all")
	git("-c", "user.name="+user, "-c", "user.email="+user+"@example.org", "commit", "--quiet", "--allow-empty", "--message=mine "+ref)
	if !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	git("push", "--quiet", remote, "HEAD:"+ref)
	if repo != a.fork && (repo != a.own || a.active(a.own)) {
		a.awaited["push"]++
	}
	return filepath.Base(ref)
}

// pull opens a pull request in cc-ci's repository as a person.
func (a *attacked) pull(user, head string) {
	a.t.Helper()
	a.forge.OpenPull(a.t, a.repo, user, "Mine", head, "main")
	a.awaited["pull_request"]++
}

// build starts a build as a person, or tries to.
func (a *attacked) build(account *dronetest.Account, repo, branch string) {
	a.t.Helper()
	account.API(http.MethodPost, "/api/repos/"+repo+"/builds?branch="+url.QueryEscape(branch), nil)
}

// active says whether Drone takes builds of a repository.
func (a *attacked) active(repo string) bool {
	for _, r := range a.repositories() {
		if r.Slug == repo {
			return r.Active
		}
	}
	return false
}

func (a *attacked) repositories() (all []struct {
	Slug   string
	Active bool
}) {
	a.t.Helper()
	a.read("/api/repos?per_page=100", &all)
	return all
}

func (a *attacked) read(path string, into any) {
	a.t.Helper()
	if err := json.Unmarshal(a.drone.API(http.MethodGet, path, nil), into); err != nil {
		a.t.Fatal(err)
	}
}

// until waits for what must come.
func (a *attacked) until(what string, is func() bool) {
	a.t.Helper()
	for limit := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			a.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// tryAll makes every attack, then a build of cc-ci's own, and returns the attacks that
// ran something. Drone hands builds out in their order, and the runner takes one at a
// time: when the last one has ended and none is left, nothing will come any more.
func (a *attacked) tryAll(run string) (ran []string) {
	a.t.Helper()
	for _, try := range attacks {
		try.do(a, try.name)
	}
	a.until("Drone has dealt with every webhook", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for event, n := range a.awaited {
			if a.answered[event] < n {
				return false
			}
		}
		return true
	})
	var build struct{ Number int }
	if err := json.Unmarshal(a.drone.API(http.MethodPost, "/api/repos/"+a.repo+"/builds?CCCI_JOB="+run, nil), &build); err != nil {
		a.t.Fatal(err)
	}
	own := fmt.Sprintf("/api/repos/%s/builds/%d", a.repo, build.Number)
	a.until("the build of cc-ci has ended", func() bool {
		var b struct{ Finished int }
		a.read(own, &b)
		return b.Finished > 0
	})
	a.until("no build is left", func() bool {
		var all []json.RawMessage
		a.read("/api/queue", &all)
		return len(all) == 0
	})
	if _, err := os.Stat(filepath.Join(a.dir, run)); err != nil {
		a.t.Errorf("cc-ci's own build did not run: %s", a.drone.API(http.MethodGet, own, nil))
	}
	for _, try := range attacks {
		if err := os.Remove(filepath.Join(a.dir, try.name)); err == nil {
			ran = append(ran, try.name)
		}
	}
	return ran
}

// open has every layer of the repository and the runner open, as an earlier version had.
func (a *attacked) open() {
	a.drone.API(http.MethodPatch, "/api/repos/"+a.repo, map[string]any{
		"visibility": "public", "trusted": false, "protected": false, "ignore_forks": false, "ignore_pull_requests": false,
	})
	a.drone.StopRunner()
	a.drone.SetRunner(nil)
	a.shipped += selfTest
}

// only returns one of some settings.
func only(settings map[string]string, name string) map[string]string {
	return map[string]string{name: settings[name]}
}

// Each layer is tried alone, with all others open: it stops what it is there for, and the
// rest runs, so that it is known to be this layer that stops it. Persons are signed in,
// as they may be since an earlier version.
func TestN3_DroneEachLayerAlone(t *testing.T) {
	t.Parallel()
	a := attack(t, gitea.Start(t), "cc-ci", nil)
	shipped := a.shipped
	for _, account := range []*dronetest.Account{a.strangerAccount, a.writerAccount} {
		if account.Refused != "" {
			t.Fatalf("%s may not sign in: %s", account.Name, account.Refused)
		}
	}
	owner, name, _ := strings.Cut(a.repo, "/")
	runner := dronelimits.Runner(ccci.RepoRef{Owner: owner, Name: name})
	pulls := []string{"pull request from a fork", "pull request from a branch"}
	pushed := append(slices.Clone(pulls), "push of a branch", "push of a tag", "push of a script that the pipeline runs")
	foreign := []string{"own repository, push", "own repository, custom build"}
	set := func(name string, value any) func() {
		return func() { a.drone.API(http.MethodPatch, "/api/repos/"+a.repo, map[string]any{name: value}) }
	}
	run := func(settings map[string]string) func() { return func() { a.drone.SetRunner(settings) } }
	for i, layer := range []struct {
		name  string
		close func()
		stops []string
	}{
		{"none", func() {}, nil},
		{"pull requests are ignored", set("ignore_pull_requests", true), pulls},
		{"forks are ignored", set("ignore_forks", true), pulls[:1]},
		{"protected", set("protected", true), pushed},
		{"repository", func() { a.drone.API(http.MethodPatch, "/api/repos/"+a.repo, dronelimits.Wanted()) }, pushed},
		{"runner's repositories", run(only(runner, "DRONE_LIMIT_REPOS")), foreign},
		{"runner's events", run(only(runner, "DRONE_LIMIT_EVENTS")), append(slices.Clone(pushed), foreign[0])},
		{"runner", run(runner), append(slices.Clone(pushed), foreign...)},
		{"pipeline", func() { a.shipped = shipped }, pushed[4:]},
	} {
		a.shipped = shipped
		a.open()
		layer.close()
		a.drone.StartRunner()
		ran := a.tryAll(fmt.Sprintf("job%d", i))
		if want := without(layer.stops...); !slices.Equal(ran, want) {
			t.Errorf("with the layer %q alone these ran:\n%s\nand these should have:\n%s", layer.name, strings.Join(ran, "\n"), strings.Join(want, "\n"))
		}
	}
}

// The server's settings alone keep persons out, or their repositories; cc-ci's own
// account is made and signs in all the same.
func TestN3_DroneServerAlone(t *testing.T) {
	t.Parallel()
	forge := gitea.Start(t)
	foreign := []string{"own repository, push", "own repository, custom build"}
	persons := append(slices.Clone(foreign), "custom build of a branch")
	for i, layer := range []struct {
		setting, refusal string
		stops            []string
	}{
		{"DRONE_REGISTRATION_CLOSED", "User registration is disabled", persons},
		{"DRONE_USER_FILTER", "User must be a member of an approved organization", persons},
		{"DRONE_REPOSITORY_FILTER", "", foreign},
	} {
		name := fmt.Sprintf("cc-ci-%d", i)
		settings := only(dronelimits.Server(dronetest.User, ccci.RepoRef{Owner: dronetest.User, Name: name}), layer.setting)
		a := attack(t, forge, name, settings)
		a.open()
		a.drone.StartRunner()
		ran := a.tryAll("job")
		if want := without(layer.stops...); !slices.Equal(ran, want) {
			t.Errorf("with %v alone these ran:\n%s\nand these should have:\n%s", settings, strings.Join(ran, "\n"), strings.Join(want, "\n"))
		}
		for _, account := range []*dronetest.Account{a.strangerAccount, a.writerAccount} {
			if account.Refused != layer.refusal {
				t.Errorf("with %v alone %s is refused with %q", settings, account.Name, account.Refused)
			}
		}
		a.drone.StopRunner()
		a.drone.Stop()
	}
}

// A13, N3: everything as reconcile, the Nix module and .drone.yml have it. No attack runs
// anything, and none but cc-ci's own build is started.
func TestN3_A13_DroneIsClosed(t *testing.T) {
	t.Parallel()
	repo := ccci.RepoRef{Owner: dronetest.User, Name: "cc-ci"}
	server := dronelimits.Server(dronetest.User, repo)
	env := Drone(droneOptions("http://127.0.0.1:1"))
	d, err := env.Desired(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range server {
		if line := fmt.Sprintf("%s=%q\n", name, value); !strings.Contains(d.Files[0].Content.Reveal(), line) {
			t.Errorf("reconcile does not set %s", line)
		}
	}
	a := attack(t, gitea.Start(t), repo.Name, server)
	if did := did(t, newWorld(), Drone(droneOptions(a.drone.URL))); !slices.ContainsFunc(did, func(s string) bool { return strings.HasPrefix(s, "limiting cibot/cc-ci: ") }) {
		t.Errorf("reconcile did\n%s", strings.Join(did, "\n"))
	}
	a.drone.SetRunner(dronelimits.Runner(repo))
	a.drone.StartRunner()
	if ran := a.tryAll("job"); len(ran) > 0 {
		t.Errorf("these ran:\n%s", strings.Join(ran, "\n"))
	}
	for _, r := range a.repositories() {
		if r.Active && r.Slug != a.repo {
			t.Errorf("%s is active", r.Slug)
		}
	}
	var builds []struct{ Number int }
	a.read("/api/repos/"+a.repo+"/builds", &builds)
	for _, b := range builds {
		var build struct {
			Event  string
			Stages []struct{ Status string }
		}
		a.read(fmt.Sprintf("/api/repos/%s/builds/%d", a.repo, b.Number), &build)
		for _, stage := range build.Stages {
			// Protected: what is pushed waits for somebody who approves it.
			if stage.Status != "blocked" && (build.Event != dronelimits.Event || stage.Status != "success") {
				t.Errorf("a build of event %s is %s", build.Event, stage.Status)
			}
		}
	}
}
