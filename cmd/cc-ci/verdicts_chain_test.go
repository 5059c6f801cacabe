package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

// enrol writes how the recipe of the chain is enrolled: as shipped, but for how long the app is waited for, and with
// more settings.
func (c *chain) enrol(healthy, more string) {
	c.t.Helper()
	const name, shipped = "canary-good", "  healthy: 30s\n"
	text, err := os.ReadFile(filepath.Join("../../tests", name, "recipe.yml"))
	if err != nil || strings.Count(string(text), shipped) != 1 {
		c.t.Fatalf("the enrolment has not %q once: %v", shipped, err)
	}
	c.tests = filepath.Join(c.dir, "enrolments")
	c.write(filepath.Join(c.tests, name, "recipe.yml"), strings.Replace(string(text), shipped, "  healthy: "+healthy+"\n", 1)+more)
}

func (c *chain) write(path, text string) {
	c.t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// commit commits what was changed in the clone to a branch, and pushes that.
func (c *chain) commit(branch string) {
	c.t.Helper()
	c.git(c.clone, "add", "--all")
	c.git(c.clone, "-c", "user.name=ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--message="+branch)
	c.push("HEAD:refs/heads/" + branch)
}

func (c *chain) push(refs ...string) {
	c.t.Helper()
	c.git(c.clone, append([]string{"push", "--quiet", c.gitea.PushURL(c.repo, "ada")}, refs...)...)
}

// propose opens a pull request that replaces texts in the compose file of the upgrade.
func (c *chain) propose(branch, upgrade string, pairs ...string) (pull int) {
	c.t.Helper()
	c.git(c.clone, "checkout", "--quiet", "-b", branch, upgrade)
	c.edit(pairs...)
	c.commit(branch)
	return c.gitea.OpenPull(c.t, c.repo, "ada", branch, branch, "main")
}

// holds checks that a comment has all of the texts.
func holds(t *testing.T, comment string, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if !strings.Contains(comment, want) {
			t.Errorf("the comment lacks %q:\n%s", want, comment)
		}
	}
}

// U4, U7, A16, N7, N9, N12, P20: what people of a recipe read on a real Gitea when it is not plainly green or red, each
// from a run on the swarm. The app is installed without a base where that is not the question.
func TestN7_VerdictsOnGitea(t *testing.T) {
	together(t)
	c := startChain(t, "canary-good", nil)
	c.gitea.Collaborator(t, c.repo, "ada", "write")
	upgrade := c.git(c.clone, "branch", "--show-current")
	const headOnly = "skip:\n  - {stage: upgrade, reason: it is not asked here}\n"
	restart := func(limit string) {
		t.Helper()
		if c.serve != nil {
			c.serve.cmd.Process.Signal(os.Interrupt)
			c.serve.wait(t, time.Minute)
		}
		c.limit = limit
		c.configure(c.gitea.URL, c.drone.URL)
		c.start()
	}
	var runs []ccci.RunID
	judged := func(pull int, word, state string) (string, ccci.Result, string) {
		t.Helper()
		comment, r, description := c.judged(pull, word, state)
		if r.Teardown == nil || !r.Teardown.Clean {
			t.Errorf("teardown %+v", r.Teardown)
		}
		runs = append(runs, r.RunID)
		return comment, r, description
	}

	// The time of the run is up while the app is waited for: nobody is blamed, and what was waited for is named, whether
	// the run or the engine was the first to notice.
	const healthcheck = "    healthcheck:\n      test: [\"CMD\", \"tinyapp\", \"health\"]\n      interval: 1s\n      timeout: 3s\n      retries: 3\n"
	hung := c.propose("hung", upgrade, healthcheck, "", "      - DOMAIN\n", "      - DOMAIN\n      - TINYAPP_HEALTH=never\n")
	c.enrol("5m", headOnly)
	restart("1m")
	comment, r, description := judged(hung, "inconclusive", "error")
	holds(t, comment, "Either the app hangs or the machine is slow: cc-ci cannot tell which.", "`install/serves`", "not finished when the run ", "answered 503, expected 200", "Comment `!testme` to try again.")
	if r.Cause == nil || r.Cause.Check != "install/serves" || !strings.HasPrefix(description, "inconclusive: ") {
		t.Errorf("cause %+v, status %q", r.Cause, description)
	}

	// The recipe's own limit is the recipe's.
	c.enrol("2s", headOnly)
	restart("")
	comment, r, description = judged(hung, "failed", "failure")
	holds(t, comment, "The recipe has to change.", "`install/serves` failed twice: ", "the app did not become healthy within 2", "timeouts.healthy in recipe.yml is the limit")
	if r.Status != ccci.StatusFailed || r.Level != 0 || r.Cause == nil || r.Cause.Code != ccci.CodeRecipe || !strings.HasPrefix(description, "failed: install/serves: ") {
		t.Errorf("%s, level %d, cause %+v, status %q", r.Status, r.Level, r.Cause, description)
	}

	// An app that the proxy does not route is told at once, and what to write.
	unrouted := c.propose("unrouted", upgrade, "        - \"traefik.http.routers.${STACK_NAME}.tls.certresolver=${LETS_ENCRYPT_ENV}\"\n", "")
	c.enrol("5m", headOnly)
	noRouter, red, _ := judged(unrouted, "failed", "failure")
	holds(t, noRouter, "The recipe has to change.", "no router of the proxy matches https://", "it has no tls label, so it does not serve HTTPS", "**Hint:** `set the label traefik.http.routers.${STACK_NAME}.tls.certresolver or ")
	if asked := red.Check("install/serves"); asked == nil || asked.Status != ccci.Fail || asked.Duration > 15*time.Second {
		t.Errorf("%+v", asked)
	}

	// The last release does not install, and the pull request repairs that: the upgrade starts from the release before.
	// The same pull request takes the backup labels away and proposes settings.
	c.git(c.clone, "checkout", "--quiet", "main")
	c.edit("    image: cc-ci.local/tinyapp:1.0.0\n", "    image: cc-ci.local/tinyapp:1.0.0\n    entrypoint: [no-such-program]\n", ".version=0.1.0+1.0.0", ".version=0.1.1+1.0.0")
	c.commit("main")
	c.git(c.clone, "-c", "user.name=ada", "-c", "user.email=ada@example.org", "tag", "--annotate", "--message=broken", "0.1.1+1.0.0")
	c.push("refs/tags/0.1.1+1.0.0")
	c.git(c.clone, "checkout", "--quiet", "-b", "repair")
	c.git(c.clone, "checkout", "--quiet", upgrade, "--", ".")
	c.edit(`        - "backupbot.backup=true"
        - "backupbot.backup.volumes.data.path=dump/value"
        - "backupbot.backup.pre-hook=tinyapp dump /data/dump/value"
        - "backupbot.restore.post-hook=tinyapp load /data/dump/value"
`, "        - \"backupbot.backup.path=/data\"\n")
	c.write(filepath.Join(c.clone, "tests/canary-good/recipe.yml"),
		"helth: {path: /}\nwaivers:\n  - {rule: bind-mounts, service: app, reason: it needs the clock, owner: ada, expires: 2099-12-31}\n")
	c.commit("repair")
	repair := c.gitea.OpenPull(t, c.repo, "ada", "Repair", "repair", "main")
	c.enrol("5m", "")
	comment, r, description = judged(repair, "passed", "success")
	holds(t, comment, "**Install of `0.1.1+1.0.0`, the last release, failed**", "no-such-program",
		"The upgrade started from `0.1.0+1.0.0` instead. This pull request did not cause the failure of the release.", "**upgrade** to `0.2.0+1.1.0` passed")
	if r.Base == nil || r.Base.Version != "0.1.0+1.0.0" || len(r.BrokenBases) != 1 || r.Stage(ccci.StageUpgrade).Status != ccci.Pass {
		t.Errorf("base %+v, broken %+v, upgrade %+v", r.Base, r.BrokenBases, r.Stage(ccci.StageUpgrade))
	}
	const unsaved = "volume data is not backed up: no service has the deploy label backupbot.backup=true; add it under deploy: labels: of service app"
	holds(t, comment, "**Level 2 of 5.** Why not higher: backup and restore: compose.yml:", unsaved, "**Not tested:** backup, restore.")
	if r.Level != 2 || !strings.HasPrefix(description, "passed, level 2: backup and restore: compose.yml:") {
		t.Errorf("level %d (%s), status %q", r.Level, r.LevelReason, description)
	}
	holds(t, comment, "**Settings that this commit proposes** in `tests/canary-good/recipe.yml` (they do not count in this run):",
		"`tests/canary-good/recipe.yml:1` `settings` helth: there is no such setting. Hint: did you mean \"health\"?",
		"`tests/canary-good/recipe.yml:3` `settings` ", "there is no rule \"bind-mounts\". Hint: did you mean \"bind-mount\"?",
		"`C010` service app has the label backupbot.backup.path", "waiver bind-mounts is asked for, for service app until 2099-12-31", "no longer has the backup label backupbot.backup")

	// Without the release before there is no start, and the upgrade is unverified.
	c.push(":refs/tags/0.1.0+1.0.0")
	comment, r, description = judged(repair, "passed", "success")
	holds(t, comment, "**Level 1 of 5.** Why not higher: upgrade: the base is broken: 0.1.1+1.0.0 does not install.", "**Install of `0.1.1+1.0.0`, the last release, failed**",
		"This commit was installed without the release, and the upgrade to it was not tested. This pull request did not cause that.", "**upgrade** unverified", "**checks** passed")
	if r.Base != nil || r.Level != 1 || r.Stage(ccci.StageUpgrade).Status != ccci.Unverified || description != "passed, level 1: upgrade: the base is broken: 0.1.1+1.0.0 does not install" {
		t.Errorf("base %+v, level %d, upgrade %+v, status %q", r.Base, r.Level, r.Stage(ccci.StageUpgrade), description)
	}

	// The command in the comment gives the same verdict when neither forge nor engine is there, in a folder without
	// recipe and enrolment.
	c.gitea.Kill()
	c.drone.StopRunner()
	c.drone.Stop()
	command := regexp.MustCompile("`cc-ci repro (\\S+)`").FindStringSubmatch(noRouter)
	if command == nil {
		t.Fatalf("the comment has no command:\n%s", noRouter)
	}
	code, again, log := reproOf(t, t.TempDir(), command[1])
	if code != exitFailed || !strings.Contains(log, "same verdict: recipe failed, level 0") || len(repro.Differences(&red, &again)) > 0 {
		t.Errorf("exit code %d, differences %q\n%s", code, repro.Differences(&red, &again), log)
	}
	if again.RunID == red.RunID || again.Commit != red.Commit || again.Cause == nil || again.Cause.Hint != red.Cause.Hint {
		t.Errorf("run %s of %s, cause %+v", again.RunID, again.Commit, again.Cause)
	}

	c.serve.cmd.Process.Signal(os.Interrupt)
	c.serve.wait(t, time.Minute)
	for _, run := range append(runs, again.RunID) {
		nothingLeftOf(t, run)
	}
}
