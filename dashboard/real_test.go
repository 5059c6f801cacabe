package dashboard_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/dashboard"
	"github.com/recipe-maintainers/cc-ci/internal/engine/localengine"
	"github.com/recipe-maintainers/cc-ci/internal/forge/localforge"
)

// named lets the built-in forge, which takes names, stand behind the pages.
type named struct{ *localforge.Forge }

func (f named) AddComment(ctx context.Context, pr ccci.PRRef, author ccci.User, body string) (ccci.CommentID, error) {
	return f.Forge.AddComment(ctx, pr, author.Name, body)
}

// The pages over the forge that is shipped: a comment written in the form is a
// comment on the forge, and wakes the bridge.
func TestPullPagesOfTheRealForge(t *testing.T) {
	forge, err := localforge.Open(t.Context(), localforge.Options{Dir: t.TempDir(), Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = forge.Close() })
	repo := ccci.RepoRef{Owner: "recipes", Name: "pocketbase"}
	if _, err := forge.ImportRepo(t.Context(), repo, gitRepo(t)); err != nil {
		t.Fatal(err)
	}
	pr, err := forge.OpenPullRequest(t.Context(), repo, "Upgrade <b>PocketBase</b>", "upgrade", "main", "grace")
	if err != nil {
		t.Fatal(err)
	}
	ada, err := forge.User(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *dashboard.Config) { c.Forge, c.User = named{forge}, ada })
	woken, err := w.bus.Subscribe(t.Context(), ccci.TopicForge)
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, w.page("/pulls"), "Upgrade &lt;b&gt;PocketBase&lt;/b&gt;", "/pulls/recipes/pocketbase/1", "grace")
	path := "/pulls/recipes/pocketbase/1"
	body := w.page(path)
	wantAll(t, body, pr.Head.Short(), "No comments yet", "None for this head")
	token := regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(body)[1]
	res, err := w.client.PostForm(w.server.URL+path+"/comments", url.Values{"token": {token}, "body": {"!testme"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := <-woken; got != "recipes/pocketbase" {
		t.Errorf("the hint is %q", got)
	}
	comments, _, err := forge.Comments(t.Context(), repo, "")
	if err != nil || len(comments) != 1 || comments[0].Body != "!testme" || comments[0].Author != ada {
		t.Errorf("on the forge: %+v %v", comments, err)
	}
	if err := forge.SetStatus(t.Context(), repo, pr.Head, ccci.CommitStatus{Context: "cc-ci/testme", State: ccci.StatePending, Description: "running"}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, w.page(path), "<p>!testme</p>", "pending", "running")
	if res, _ := w.get("/pulls/recipes/pocketbase/2"); res.StatusCode != 404 {
		t.Errorf("an unknown pull request: %s", res.Status)
	}
}

// The live log over the engine that is shipped: a real process writes it.
func TestLogStreamOfTheRealEngine(t *testing.T) {
	script := filepath.Join(t.TempDir(), "harness")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho '##[stage install begin]'\necho working\necho '##[stage install end pass 0.100s]'\necho done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	engine, err := localengine.New(localengine.Options{Dir: t.TempDir(), Capacity: 1,
		Command: func(ccci.Job, string) (string, []string, []string) { return script, nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *dashboard.Config) { c.Engine = engine })
	run := w.add("miniflux", 0, ccci.StatusRunning, nil)
	if run.Build, err = engine.Start(t.Context(), ccci.Job{RunID: run.ID, Recipe: run.Recipe}); err != nil {
		t.Fatal(err)
	}
	w.update(run)
	next, _ := w.listen("/runs/" + string(run.ID) + "/events")

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	var got []string
	for !slices.Contains(got, "done") {
		e := next()
		if e.name == "" {
			t.Fatalf("the stream ended after %q", got)
		}
		if e.name == "log" {
			got = append(got, linesOf(t, e)...)
		}
	}
	if text := strings.Join(got, "|"); text != "<install|working|install>|done" {
		t.Errorf("the log is %q", text)
	}
	run.Status, run.Finished = ccci.StatusPassed, noon
	w.update(run)
	for e := next(); e.name != "end"; e = next() {
		if e.name == "" {
			t.Fatal("the stream ended without a word")
		}
	}
	wantAll(t, w.page("/runs/"+string(run.ID)), "working", "100 ms", "Teardown and result")
}

// gitRepo makes a repository with branches main and upgrade.
func gitRepo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"commit", "-q", "--allow-empty", "-m", "one"},
		{"checkout", "-q", "-b", "upgrade"}, {"commit", "-q", "--allow-empty", "-m", "two"}, {"checkout", "-q", "main"}} {
		cmd := exec.Command("git", append([]string{"-c", "user.name=ada", "-c", "user.email=ada@example.org"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}
