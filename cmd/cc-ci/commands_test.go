package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// N2, N5, P4, U4: what people write on a real Gitea and what they are answered, with the
// releases read from its git. No run is executed: what is accepted stays in the queue.
func TestN5_CommandsOnGitea(t *testing.T) {
	t.Parallel()
	g := gitea.Start(t)
	push := g.CreateRepo(t, "coop/wiki", false)
	for _, member := range []string{"cibot", "ada"} {
		g.AddMember(t, "coop", member)
		g.Collaborator(t, "coop/wiki", member, "write")
	}
	compose := func(version string) string {
		return "services:\n  app:\n    image: nginx:1.27\n    deploy:\n      labels:\n        - \"coop-cloud.${STACK_NAME}.version=" + version + "\"\n"
	}
	work := forgetest.NewWork(t, push)
	work.Commit("main", ".env.sample", "TYPE=wiki\nDOMAIN=wiki.example.com\n")
	for _, version := range []string{"1.0.0+1.26", "1.1.0+1.27"} {
		work.Commit("main", "compose.yml", compose(version))
		work.Git("tag", "--annotate", "--message", version, version)
	}
	work.Git("push", "--quiet", push, "--tags")
	head := work.Commit("update", "compose.yml", compose("1.2.0+1.28"))
	pull := g.OpenPull(t, "coop/wiki", "ada", "Update", "update", "main")

	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, g.Token(t, "cibot", "write:issue", "write:repository", "read:organization", "read:user"))
	s := halfServer(t, fmt.Sprintf("forges: [{kind: gitea, name: gitea, url: %s, org: coop, token_file: %s, repositories: [{repo: coop/wiki}], poll: 1s}]\n", g.URL, token))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.bridges.Run(ctx) }()
	defer func() { cancel(); <-done }()

	said := func() (ours []string) {
		var thread []struct {
			Body string
			User struct{ Login string }
		}
		if _, err := g.Do("", "GET", fmt.Sprintf("/repos/coop/wiki/issues/%d/comments", pull), nil, &thread); err != nil {
			t.Fatal(err)
		}
		for _, c := range thread {
			if c.User.Login == "cibot" {
				ours = append(ours, c.Body)
			}
		}
		return ours
	}
	contexts := func(commit ccci.Commit) (all []string) {
		var statuses []struct{ Status, Context string }
		if _, err := g.Do("", "GET", "/repos/coop/wiki/commits/"+string(commit)+"/statuses", nil, &statuses); err != nil {
			t.Fatal(err)
		}
		for _, s := range statuses {
			all = append(all, s.Context+": "+s.Status)
		}
		return all
	}
	answers := 0
	// answered waits for the next answer and returns it.
	answered := func(author, body string) string {
		t.Helper()
		g.Comment(t, "coop/wiki", pull, author, body)
		answers++
		await(t, "the answer to "+body, func() bool { return len(said()) == answers })
		return said()[answers-1]
	}
	holds := func(text string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("it lacks %q:\n%s", want, text)
			}
		}
	}

	holds(answered("ada", "!testme from=9.9.9"), "`wiki` has no release `9.9.9`. Nothing was started. An upgrade can start from `1.1.0+1.27` or `1.0.0+1.26`. For `1.1.0+1.27`, comment:", "\n!testme from=1.1.0+1.27 "+string(head)+"\n")
	holds(answered("ada", "!testme from=1.0.0"), "An upgrade can start from `1.1.0+1.27` or `1.0.0+1.26`. For `1.0.0+1.26`, comment:", "\n!testme from=1.0.0+1.26 "+string(head)+"\n")
	holds(answered("ada", "!testme stages=instal"), "Did you mean `install`?")
	holds(answered("ada", "!testme --quick"), "There is no canonical of `wiki` yet", "\n!testme "+string(head)+"\n")
	g.Comment(t, "coop/wiki", pull, "eve", "please !testme") // talk of a person who may not
	holds(answered("ada", "!Testme"), "`!testme` starts a run only in small letters", "\n!testme\n")
	holds(answered("ada", "!testme\n\nthanks!"), "A command has to be the whole comment", "\n!testme\n")
	holds(answered("ada", "please !testme"), "A command has to be the whole comment")
	holds(answered("ada", "!satus"), "The nearest one is `!status`.")
	if got := contexts(head); len(got) != 0 {
		t.Errorf("before any run the statuses are %q", got)
	}

	holds(answered("ada", "!testme from=1.0.0+1.26"), "⏳ queued", "upgrade from 1.0.0+1.26")
	first := answers - 1
	await(t, "its status", func() bool {
		return slices.Equal(contexts(head), []string{"cc-ci/testme from=1.0.0+1.26: pending"})
	})
	holds(answered("ada", "!testme from=1.0.0+1.26"), "it was not queued a second time")
	holds(answered("ada", "!testme"), "⏳ queued")
	second := answers - 1
	await(t, "the older comment to say what took its place", func() bool {
		return strings.Contains(said()[first], "A newer command on this pull request took its place")
	})
	moved := work.Commit("update", "compose.yml", compose("1.2.1+1.28"))
	await(t, "the comment to say that the pull request was pushed to", func() bool { return strings.Contains(said()[second], "was pushed while the run waited") })
	holds(said()[second], "🚫 superseded", "\n!testme "+string(moved)+"\n")
	holds(answered("ada", "!testme "+string(moved)), "⏳ queued", moved.Short())
	runs, err := s.store.FindRuns(t.Context(), ccci.RunFilter{})
	if err != nil || len(runs) != 3 {
		t.Errorf("%d runs, %v", len(runs), err)
	}
	await(t, "the status of the new head", func() bool { return slices.Equal(contexts(moved), []string{"cc-ci/testme: pending"}) })
}
