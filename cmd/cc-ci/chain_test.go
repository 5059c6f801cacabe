package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// chain is cc-ci as users have it: Gitea in front, Drone with its exec runner
// behind, the swarm below.
type chain struct {
	t      *testing.T
	gitea  *gitea.Server
	drone  *drone.Server
	repo   string // of the recipe, on Gitea
	fork   string // of it, bob's
	clone  string // of it, where branches are pushed from
	dir    string
	config string
	tests  string // folder of enrolments
	limit  string // of a run, as engine.deadline; "" for the default
	serve  *started
	url    string
}

const (
	chainBot    = "cc-ci-bot"
	chainSecret = "between-gitea-and-cc-ci"
	chainPoll   = 3 * time.Second
)

// idleGap is for how long a build lay in Drone's queue until the runner asked for
// work: from the answer to who made the build to the one that hands it out.
type idleGap struct {
	mu          sync.Mutex
	made, taken time.Time
}

func (g *idleGap) watch(answer *http.Response) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch asked := answer.Request; {
	case asked.Method != http.MethodPost || answer.StatusCode != http.StatusOK: // 204: no work
	case strings.HasPrefix(asked.URL.Path, "/api/repos/") && strings.HasSuffix(asked.URL.Path, "/builds"):
		g.made = time.Now()
	case asked.URL.Path == "/rpc/v2/stage":
		g.taken = time.Now()
	}
}

// last is the gap of the newest build. It is 0 for a build that the runner has
// before its maker hears of it.
func (g *idleGap) last() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, g.taken.Sub(g.made))
}

// startChain starts all of it but cc-ci itself, with one repository whose
// upgrade is pull request 1, from a branch, and 2, from bob's fork. Unless nil, watch
// is shown Drone's answers.
func startChain(t *testing.T, recipe string, watch func(*http.Response)) *chain {
	t.Helper()
	program := binary(t)
	c := &chain{t: t, gitea: gitea.Start(t), repo: "coop/" + recipe}
	c.dir, c.config = workspace(t, "")
	pipeline, err := os.ReadFile("../../.drone.yml")
	if err == nil {
		c.tests, err = filepath.Abs("../../tests")
	}
	if err != nil {
		t.Fatal(err)
	}
	environ := map[string]string{
		"CC_CI_CONFIG": c.config, "HOME": os.Getenv("HOME"), "PATH": filepath.Dir(program) + ":" + os.Getenv("PATH"),
	}
	c.drone = closedDrone(t, c.gitea, drone.Options{Pipeline: string(pipeline), Environ: environ, Watch: watch})

	c.gitea.CreateRepo(t, c.repo, false)
	repo, branch := example(t, c.dir, recipe)
	c.clone = repo
	c.git(repo, "push", "--quiet", c.gitea.PushURL(c.repo, gitea.Admin), "main", branch, "--tags")
	for _, user := range []string{"ada", "bob", "eve", chainBot} {
		c.gitea.User(t, user)
	}
	c.gitea.AddMember(t, "coop", "ada")
	c.gitea.AddMember(t, "coop", chainBot)
	c.gitea.Collaborator(t, c.repo, chainBot, "write")
	c.gitea.OpenPull(t, c.repo, gitea.Admin, "Upgrade", branch, "main")
	c.fork = c.gitea.Fork(t, c.repo, "bob")
	c.git(repo, "checkout", "--quiet", branch)
	c.git(repo, "-c", "user.name=bob", "-c", "user.email=bob@example.org", "commit", "--quiet", "--allow-empty", "--message=Mine")
	c.git(repo, "push", "--quiet", c.gitea.PushURL(c.fork, "bob"), "HEAD:refs/heads/mine")
	c.gitea.OpenPull(t, c.repo, "bob", "Upgrade, from a fork", "bob:mine", "main")

	for name, secret := range map[string]string{
		"forge-token": c.gitea.Token(t, chainBot, "write:issue", "write:repository", "read:organization", "read:user"),
		"drone-token": c.drone.Token.Reveal(), "hook-secret": chainSecret,
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.configure(c.gitea.URL, c.drone.URL)
	return c
}

// freshPull opens another pull request, with a commit of its own.
func (c *chain) freshPull(branch string) (pull int) {
	c.t.Helper()
	c.git(c.clone, "-c", "user.name=ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--allow-empty", "--message="+branch)
	c.git(c.clone, "push", "--quiet", c.gitea.PushURL(c.repo, gitea.Admin), "HEAD:refs/heads/"+branch)
	return c.gitea.OpenPull(c.t, c.repo, gitea.Admin, branch, branch, "main")
}

// forkPull opens another pull request from bob's fork, whose compose file is changed.
func (c *chain) forkPull(branch, old, new string) (pull int) {
	c.t.Helper()
	c.git(c.clone, "checkout", "--quiet", "-b", branch)
	defer c.git(c.clone, "checkout", "--quiet", "-")
	c.edit(old, new)
	c.git(c.clone, "-c", "user.name=bob", "-c", "user.email=bob@example.org", "commit", "--quiet", "--all", "--message="+branch)
	c.git(c.clone, "push", "--quiet", c.gitea.PushURL(c.fork, "bob"), "HEAD:refs/heads/"+branch)
	return c.gitea.OpenPull(c.t, c.repo, "bob", branch, "bob:"+branch, "main")
}

// edit replaces texts of the compose file that is checked out, each of which is there once.
func (c *chain) edit(pairs ...string) {
	c.t.Helper()
	path := filepath.Join(c.clone, "compose.yml")
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(string(text), pairs[i]) != 1 {
			c.t.Fatalf("%q is not there once", pairs[i])
		}
		text = []byte(strings.Replace(string(text), pairs[i], pairs[i+1], 1))
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// judged has a member test a pull request, and returns the comment with the verdict, which must have the word, what
// the run found, and the description of the commit's status, which must be a state.
func (c *chain) judged(pull int, word, state string) (comment string, r ccci.Result, description string) {
	c.t.Helper()
	before, commit := len(c.ours(pull)), c.head(pull)
	c.gitea.Comment(c.t, c.repo, pull, "ada", "!testme")
	c.until("the verdict "+word, 4*time.Minute, func() bool {
		bodies := c.ours(pull)
		if len(bodies) <= before {
			return false
		}
		comment = bodies[len(bodies)-1]
		headline, _, _ := strings.Cut(comment, "\n")
		return !strings.Contains(headline, " queued: ") && !strings.Contains(headline, " running: ")
	})
	if headline, _, _ := strings.Cut(comment, "\n"); !strings.Contains(headline, " "+word+": ") {
		c.t.Fatalf("the verdict is not %s:\n%s", word, comment)
	}
	c.until("the status on the commit", 20*time.Second, func() bool {
		s := c.status(commit)
		description = s.Description
		return s.Status == state && strings.HasPrefix(description, word)
	})
	return comment, c.result(pull), description
}

// redOnGitea is judged for a pull request that cannot pass.
func (c *chain) redOnGitea(pull int, word string) (comment string, r ccci.Result) {
	c.t.Helper()
	comment, r, _ = c.judged(pull, word, "failure")
	return comment, r
}

// configure names the addresses by which cc-ci reaches Gitea and Drone.
func (c *chain) configure(giteaURL, droneURL string) {
	c.t.Helper()
	text := fmt.Sprintf(`data: data
tests: %s
listen: 127.0.0.1:0
forges:
  - kind: gitea
    name: gitea
    url: %s
    org: coop
    token_file: forge-token
    hook_secret_files: [hook-secret]
    poll: %s
    repositories:
      - repo: %s
engine:
  kind: drone
  capacity: 8 # the machine's: other chains are at work
  drone:
    url: %s
    token_file: drone-token
    repo: %s
`, c.tests, giteaURL, chainPoll, c.repo, droneURL, c.drone.Repo)
	if c.limit != "" {
		text += "  deadline: " + c.limit + "\n"
	}
	if err := os.WriteFile(c.config, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// start starts cc-ci.
func (c *chain) start() {
	c.t.Helper()
	c.serve = start(c.t, "--config", c.config, "serve")
	c.url = c.serve.awaitLine(c.t, `serving (http://\S+)`, 2*time.Minute)
}

func (c *chain) git(dir string, args ...string) string {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// ours lists the bot's comments on a pull request.
func (c *chain) ours(pull int) (bodies []string) {
	c.t.Helper()
	var all []struct {
		Body string
		User struct{ Login string }
	}
	if _, err := c.gitea.Do("", "GET", fmt.Sprintf("/repos/%s/issues/%d/comments", c.repo, pull), nil, &all); err != nil {
		return nil // Gitea may be away on purpose
	}
	for _, comment := range all {
		if comment.User.Login == chainBot {
			bodies = append(bodies, comment.Body)
		}
	}
	return bodies
}

// head is the commit of a pull request.
func (c *chain) head(pull int) string {
	c.t.Helper()
	var pr struct{ Head struct{ SHA string } }
	if _, err := c.gitea.Do("", "GET", fmt.Sprintf("/repos/%s/pulls/%d", c.repo, pull), nil, &pr); err != nil {
		c.t.Fatal(err)
	}
	return pr.Head.SHA
}

// chainStatus is a status of a commit, as Gitea gives it.
type chainStatus struct{ Context, Status, Description string }

// status is what cc-ci says of a commit; empty while it says nothing.
func (c *chain) status(commit string) chainStatus {
	var all []chainStatus
	if _, err := c.gitea.Do("", "GET", "/repos/"+c.repo+"/commits/"+commit+"/statuses?sort=recentupdate", nil, &all); err != nil {
		return chainStatus{}
	}
	for _, s := range all {
		if s.Context == "cc-ci/testme" {
			return s
		}
	}
	return chainStatus{}
}

func (c *chain) state(commit string) string { return c.status(commit).Status }

// until asks again and again whether something has come to be; often for a second,
// since every question costs Gitea time.
func (c *chain) until(what string, limit time.Duration, is func() bool) time.Time {
	c.t.Helper()
	pause, begun := 20*time.Millisecond, time.Now()
	for ; ; time.Sleep(pause) {
		if is() {
			return time.Now()
		}
		if time.Since(begun) > time.Second {
			pause = 150 * time.Millisecond
		}
		if time.Since(begun) > limit {
			c.t.Fatalf("%s: not within %s\n%s", what, limit, strings.Join(append(c.ours(1), c.ours(2)...), "\n---\n"))
		}
	}
}

// runs lists Drone's builds that are runs, newest first.
func (c *chain) runs() (all []struct {
	Number                     int
	Event, Status              string
	Created, Started, Finished int64
}) {
	c.t.Helper()
	if err := json.Unmarshal(c.drone.API("GET", "/api/repos/"+c.drone.Repo.String()+"/builds", nil), &all); err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for _, b := range all {
		if b.Event == "custom" {
			all[n] = b
			n++
		}
	}
	return all[:n]
}

// result is what the newest run of a pull request found.
func (c *chain) result(pull int) (r ccci.Result) {
	c.t.Helper()
	bodies := c.ours(pull)
	id := regexp.MustCompile(`[0-9]{6}-[0-9]{6}-[0-9a-f]{6}`).FindString(bodies[len(bodies)-1])
	if err := json.Unmarshal([]byte(get(c.t, c.url+"/runs/"+id+"/files/result.json")), &r); err != nil {
		c.t.Fatalf("the result of run %q: %v", id, err)
	}
	return r
}

// testme asks for a test, waits for the verdict, and says what the chain took
// besides the app's own life.
func (c *chain) testme(pull int) (run ccci.RunID, overhead time.Duration) {
	c.t.Helper()
	before, commit := len(c.ours(pull)), c.head(pull)
	ended := func() int { return strings.Count(c.serve.out.String(), `msg="run ended"`) }
	others := ended()
	asked := time.Now()
	c.gitea.Comment(c.t, c.repo, pull, "ada", "!testme")
	c.until("the end of the run", 4*time.Minute, func() bool { return ended() > others })
	end := c.until("the status on the commit", 20*time.Second, func() bool {
		s := c.state(commit)
		return s == "success" || s == "failure" || s == "error"
	})
	c.until("the verdict in the comment", 20*time.Second, func() bool {
		bodies := c.ours(pull)
		return len(bodies) > before && strings.Contains(bodies[len(bodies)-1], " passed: ")
	})
	if got := c.state(commit); got != "success" {
		c.t.Errorf("the commit's status is %q", got)
	}
	verdict := c.ours(pull)
	for _, want := range []string{"**Code and privileges that this commit changes**, compared with `main` at `", "This run was approved for commit `" + commit[:8] + "` only", "service app changed its image: `"} { // P2
		if last := verdict[len(verdict)-1]; !strings.Contains(last, want) {
			c.t.Errorf("the comment lacks %q:\n%s", want, last)
		}
	}
	if n := len(c.ours(pull)) - before; n != 1 {
		c.t.Errorf("%d comments about one run", n)
	}
	r := c.result(pull)
	if r.Status != ccci.StatusPassed || r.Level != 5 || string(r.Commit) != commit || r.Teardown == nil || !r.Teardown.Clean {
		c.t.Errorf("%s, level %d, of %s instead of %s, teardown %+v", r.Status, r.Level, r.Commit, commit, r.Teardown)
	}
	c.t.Logf("%s from the comment to the harness, %s from its end to the status", r.Started.Sub(asked).Round(time.Millisecond), end.Sub(r.Finished).Round(time.Millisecond))
	return r.RunID, end.Sub(asked) - r.Duration
}

// A4, A5, A6, A8, A10, A11, U13: a member's comment on a real Gitea starts a Drone build,
// whose runner tests the recipe on the swarm; the verdict comes back as an edited
// comment and a status on the tested commit, from a branch and from a fork.
func TestA11_GiteaDroneSwarm(t *testing.T) {
	together(t)
	var gap idleGap
	c := startChain(t, "miniflux", gap.watch)
	c.start()

	// What the chain takes besides the app's life and the runner's idle gap.
	testme := func(how string, pull int) (ccci.RunID, time.Duration) {
		run, overhead := c.testme(pull)
		idle := gap.last()
		t.Logf("with %s the chain took %s, and the runner's idle gap %s", how, (overhead - idle).Round(time.Millisecond), idle.Round(time.Millisecond))
		return run, overhead - idle
	}
	first, _ := testme(fmt.Sprintf("polling every %s", chainPoll), 1)
	c.gitea.Webhook(t, c.repo, c.url+"/hook/gitea", chainSecret, "pull_request_comment")
	second, overhead := testme("the webhook", 2)
	// Under a second on a machine that does nothing else. One on which other tests run needs more of them.
	const most = 5 * time.Second
	comments := 2
	for ; overhead > most && comments < 4; comments++ {
		_, again := testme("the webhook", 2)
		overhead = min(overhead, again)
	}
	if overhead > most {
		t.Errorf("%s is too much on any machine", overhead)
	}

	// Nothing of this is a command of somebody who may.
	if n := len(c.runs()); n != comments {
		t.Errorf("%d builds for %d comments", n, comments)
	}
	c.gitea.Comment(t, c.repo, 1, "eve", "!testme")
	edited := c.gitea.Comment(t, c.repo, 1, "ada", "looks good")
	written := time.Now().Unix()
	c.until("the end of the second that Gitea has for the comment", 2*time.Second, func() bool { return time.Now().Unix() > written })
	c.gitea.EditComment(t, c.repo, edited, "ada", "!testme")
	c.gitea.Comment(t, c.repo, 1, chainBot, "!testme")
	c.gitea.Comment(t, c.repo, 1, "ada", "write\n```\n!testme\n```\nor `!testme`")
	issue := c.gitea.OpenIssue(t, c.repo, "ada", "not a pull request")
	c.gitea.Comment(t, c.repo, issue, "ada", "!testme")
	c.gitea.ClosePull(t, c.repo, 2)
	c.gitea.Comment(t, c.repo, 2, "ada", "!testme")
	// A command that is answered comes after all of them.
	said := len(c.ours(1))
	c.gitea.Comment(t, c.repo, 1, "ada", "!help")
	c.until("the answer to !help", time.Minute, func() bool { return len(c.ours(1)) > said })
	for _, reason := range []string{"author=eve", "edited comments are never commands", "the pull request is closed"} {
		c.until("the log says "+reason, 20*time.Second, func() bool { return strings.Contains(c.serve.out.String(), reason) })
	}
	if n := len(c.runs()); n != comments {
		t.Errorf("%d builds were started for what is no command\n%s", n-comments, c.serve.out)
	}

	// N3, N7: what bob's fork asks for is refused before anything is created, and he is told what and where.
	const at = "  db:\n    image: cc-ci.local/postgres:15\n"
	hostile := c.forkPull("hostile", at, "  cc-ci_socket-proxy:\n    image: cc-ci.local/miniflux:2.2.3\n    hostname: drone\n    pid: host\n    networks: [proxy]\n"+
		"    volumes: [/var/run/docker.sock:/var/run/docker.sock]\n\n"+at)
	comment, refused := c.redOnGitea(hostile, "refused")
	for _, want := range []string{"`pid`", "cc-ci\\_socket-proxy", "docker.sock", "compose.yml:"} {
		if !strings.Contains(comment, want) {
			t.Errorf("the comment lacks %q:\n%s", want, comment)
		}
	}
	if refused.Status != ccci.StatusRefused || refused.Deployments != 0 || refused.Level != 0 || !refused.Teardown.Clean {
		t.Errorf("%s, %d deployments, level %d, teardown %+v", refused.Status, refused.Deployments, refused.Level, refused.Teardown)
	}

	// N7: a program that does not exist is the recipe's. The base was installed, and is gone.
	missing := c.forkPull("missing", "image: cc-ci.local/miniflux:2.2.3", "image: cc-ci.local/miniflux:2.2.3\n    entrypoint: [no-such-program]")
	comment, red := c.redOnGitea(missing, "failed")
	for _, want := range []string{"The recipe has to change", "no-such-program", "upgrade/converged"} {
		if !strings.Contains(comment, want) {
			t.Errorf("the comment lacks %q:\n%s", want, comment)
		}
	}
	if red.Status != ccci.StatusFailed || red.Level != 1 || red.Cause == nil || red.Cause.Code != ccci.CodeRecipe || !red.Teardown.Clean {
		t.Errorf("%s, level %d, cause %+v, teardown %+v", red.Status, red.Level, red.Cause, red.Teardown)
	}

	c.serve.cmd.Process.Signal(os.Interrupt)
	c.serve.wait(t, time.Minute)
	for _, run := range []ccci.RunID{first, second, refused.RunID, red.RunID} {
		nothingLeftOf(t, run)
	}
}
