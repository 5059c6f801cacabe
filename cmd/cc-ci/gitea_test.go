package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/doctor"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// A real Gitea in front: its webhook brings the comment, the answer and the status come
// back, and the doctor finds nothing to complain about. No run is executed here.
func TestA5_U13_GiteaInFront(t *testing.T) {
	t.Parallel()
	g := gitea.Start(t)
	push := g.CreateRepo(t, "coop/wiki", false)
	g.CreateRepo(t, "coop/blog", false)
	for _, member := range []string{"cibot", "ada"} {
		g.AddMember(t, "coop", member)
	}
	for _, repo := range []string{"coop/wiki", "coop/blog"} {
		g.Collaborator(t, repo, "cibot", "write")
		g.Collaborator(t, repo, "ada", "write")
	}
	work := forgetest.NewWork(t, push)
	work.Commit("main", "compose.yml", "a")
	head := work.Commit("update", "compose.yml", "b")
	pull := g.OpenPull(t, "coop/wiki", "ada", "Update", "update", "main")

	dir := t.TempDir()
	token, secret := filepath.Join(dir, "token"), filepath.Join(dir, "secret")
	writeFile(t, token, g.Token(t, "cibot", "write:issue", "write:repository", "read:organization", "read:user"))
	writeFile(t, secret, "geheim")
	// Polling is as slow as it may be, so that what is quick is the webhook's doing.
	s := halfServer(t, fmt.Sprintf(`
forges:
  - kind: gitea
    name: gitea
    url: %s
    org: coop
    token_file: %s
    hook_secret_files: [%s]
    discover: org
    repositories: [{repo: coop/wiki}]
    poll: 30s
`, g.URL, token, secret))
	base := "http://" + s.listener.Addr().String()
	hook := map[string]any{"type": "gitea", "active": true, "events": []string{"pull_request_comment"},
		"config": map[string]string{"url": base + "/hook/gitea", "content_type": "json", "secret": "geheim"}}
	if _, err := g.Do("", "POST", "/repos/coop/wiki/hooks", hook, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.bridges.Run(ctx) }()
	defer func() { cancel(); <-done }()
	await(t, "a first look, and the repository that nobody enrolled", func() bool {
		h := s.bridges.Health()[0]
		return !h.Reached.IsZero() && h.Repositories == 2
	})

	written := time.Now()
	g.Comment(t, "coop/wiki", pull, "ada", "!testme")
	var thread []struct {
		Body string
		User struct{ Login string }
	}
	await(t, "the answer", func() bool {
		thread = nil
		if _, err := g.Do("", "GET", fmt.Sprintf("/repos/coop/wiki/issues/%d/comments", pull), nil, &thread); err != nil {
			t.Fatal(err)
		}
		return len(thread) == 2
	})
	took := time.Since(written)
	t.Logf("from comment to answer through the webhook: %s", took.Round(time.Millisecond))
	if took > 5*time.Second || thread[1].User.Login != "cibot" || !strings.Contains(thread[1].Body, "queued") || !strings.Contains(thread[1].Body, string(head)[:8]) {
		t.Errorf("after %s: %+v", took, thread)
	}
	await(t, "the status on the tested commit", func() bool {
		var statuses []struct{ Status, Context string }
		_, err := g.Do("", "GET", "/repos/coop/wiki/commits/"+string(head)+"/statuses", nil, &statuses)
		return err == nil && len(statuses) == 1 && statuses[0].Status == "pending" && statuses[0].Context == "cc-ci/testme"
	})
	_, figures := fetch(t, base+"/metrics")
	for _, want := range []string{`cc_ci_hook_requests_total\{forge="gitea",outcome="accepted"\} [1-9]`, `cc_ci_forge_reachable\{forge="gitea"\} 1`, `cc_ci_objective_events_total\{forge="gitea",objective="answer"\} 1`} {
		if !regexp.MustCompile(want).MatchString(figures) {
			t.Errorf("the figures lack %s", want)
		}
	}

	a := &app{ctx: t.Context(), stderr: t.Output()}
	all := doctor.Run(t.Context(), forgeChecks(a, s.cfg, s.cfg.Forges[0], &found{}))
	var text strings.Builder
	if err := doctor.WriteText(&text, all); err != nil {
		t.Fatal(err)
	}
	if problems, warnings := doctor.Count(all); problems != 0 || warnings != 0 {
		t.Errorf("the doctor complains:\n%s", &text)
	}
	for _, want := range []string{"ok       gitea: reachable: ", "ok       gitea: clock: ", "ok       gitea: membership: cibot is a member of coop", "ok       gitea: repositories: 1 of 1 can be seen, and written to", "ok       gitea: webhooks unseen: ", "ok       gitea: rights: the token has the scopes it needs", "ok       gitea: version: ", "ok       gitea: discovery: org finds 2 repositories"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the doctor does not say %q:\n%s", want, &text)
		}
	}
	// Without its membership the account cannot tell who is a member.
	g.RemoveMember(t, "coop", "cibot")
	all = doctor.Run(t.Context(), forgeChecks(a, s.cfg, s.cfg.Forges[0], &found{}))
	text.Reset()
	if err := doctor.WriteText(&text, all); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "problem  gitea: membership: ") {
		t.Errorf("the doctor is content with no membership:\n%s", &text)
	}
	t.Logf("\n%s", &text)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
