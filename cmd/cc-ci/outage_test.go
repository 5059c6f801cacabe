package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// Gitea in front and Drone behind, and Gitea dies under a run: the run ends
// meanwhile, and afterwards its one comment and the status say so. The pipeline only
// sleeps and the test takes the harness's slot, so that the verdict is that nothing was found;
// of a configuration that is wrong, it says, so that it is not tried again.
func TestU14_A11_GiteaDiesUnderARun(t *testing.T) {
	t.Parallel()
	g := gitea.Start(t)
	d := dronetest.Start(t, g, dronetest.Options{Pipeline: "kind: pipeline\ntype: exec\nname: recipe-ci\nclone: {disable: true}\ntrigger: {event: [custom]}\nsteps: [{name: recipe, commands: [sleep 8, exit 2]}]\n"})
	push := g.CreateRepo(t, "coop/wiki", false)
	for _, member := range []string{dronetest.User, "ada"} {
		g.AddMember(t, "coop", member)
		g.Collaborator(t, "coop/wiki", member, "write")
	}
	work := forgetest.NewWork(t, push)
	work.Commit("main", "compose.yml", "a")
	head := work.Commit("update", "compose.yml", "b")
	pull := g.OpenPull(t, "coop/wiki", "ada", "Update", "update", "main")

	dir := t.TempDir()
	token, droneToken := filepath.Join(dir, "token"), filepath.Join(dir, "drone")
	writeFile(t, token, g.Token(t, dronetest.User, "write:issue", "write:repository", "read:organization", "read:user"))
	writeFile(t, droneToken, d.Token.Reveal())
	s := halfServer(t, fmt.Sprintf(`
forges: [{kind: gitea, name: gitea, url: %q, org: coop, token_file: %q, repositories: [{repo: coop/wiki}], poll: 1s}]
engine: {kind: drone, drone: {url: %q, token_file: %q, repo: %s}}
`, g.URL, token, d.URL, droneToken, d.Repo))
	s.platform = &platform{lockDir: t.TempDir(), log: s.log} // which has nothing to undo
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { _ = s.bridges.Run(ctx); done <- struct{}{} }()
	go func() { _ = s.engine.Run(ctx); done <- struct{}{} }()
	defer func() { cancel(); <-done; <-done }()

	runs := func() []ccci.Run {
		runs, err := s.store.FindRuns(t.Context(), ccci.RunFilter{})
		if err != nil {
			t.Fatal(err)
		}
		return runs
	}
	g.Comment(t, "coop/wiki", pull, "ada", "!testme")
	await(t, "the run", func() bool { return len(runs()) == 1 })
	slot, err := harness.LockSlot(t.Context(), s.platform.slotDir(), runs()[0].ID, 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Release()
	await(t, "the run to run", func() bool { return runs()[0].Status == ccci.StatusRunning })
	bots := func() (bodies []string) {
		var thread []struct {
			Body string
			User struct{ Login string }
		}
		if _, err := g.Do("", "GET", fmt.Sprintf("/repos/coop/wiki/issues/%d/comments", pull), nil, &thread); err != nil {
			t.Fatal(err)
		}
		for _, c := range thread {
			if c.User.Login == dronetest.User {
				bodies = append(bodies, c.Body)
			}
		}
		return bodies
	}
	await(t, "the comment", func() bool { b := bots(); return len(b) == 1 && strings.Contains(b[0], "running") })
	g.Kill()
	slot.Release()
	await(t, "the end of the run", func() bool { return runs()[0].Status.Terminal() })
	await(t, "the outage to be noticed", func() bool { return !s.bridges.Health()[0].Reachable })
	if run := runs()[0]; run.Status != ccci.StatusErrored || !strings.Contains(run.Cause, "left no result") || run.Commit != head {
		t.Errorf("the run is %+v", run)
	}
	if code, body := fetch(t, "http://"+s.listener.Addr().String()+"/healthz"); code != 200 || !strings.Contains(body, "cannot be reached") {
		t.Errorf("health: %d %s", code, body)
	}
	g.Restart(t)
	await(t, "the verdict", func() bool { b := bots(); return len(b) == 1 && strings.Contains(b[0], "left no result") })
	await(t, "the status", func() bool {
		var statuses []struct{ Status, Context string }
		_, err := g.Do("", "GET", "/repos/coop/wiki/commits/"+string(head)+"/statuses", nil, &statuses)
		return err == nil && len(statuses) > 0 && statuses[0].Status == "error" && statuses[0].Context == "cc-ci/testme"
	})
	await(t, "the outage to be over", func() bool { h := s.bridges.Health()[0]; return h.Reachable && h.Error == "" })
	if b := bots(); len(b) != 1 || len(runs()) != 1 {
		t.Errorf("%d comments, %d runs", len(b), len(runs()))
	}
}
