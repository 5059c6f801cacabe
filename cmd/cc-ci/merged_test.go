package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/forge/forgetest"
	"github.com/recipe-maintainers/cc-ci/internal/store/sqlstore"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
)

// mergeScene is a forge with the repository coop/wiki, seen from a server that polls it.
type mergeScene struct {
	*server
	t     *testing.T
	forge string // its name
	work  *forgetest.Work
	open  func(branch string) (pull int)
	merge func(pull int, style string)
	runs  int
}

// tested stores a whole run of a pull request, as one that ended with the status.
func (s *mergeScene) tested(pull int, commit ccci.Commit, status ccci.Status, level int) {
	s.t.Helper()
	s.runs++
	now := time.Now()
	run := ccci.Run{
		ID: ccci.RunID(fmt.Sprintf("%s-%06x", now.UTC().Format("060102-150405"), s.runs)), Key: fmt.Sprintf("%s/%d/0", s.forge, s.runs), Recipe: "wiki",
		PR: ccci.PRRef{Repo: ccci.RepoRef{Owner: "coop", Name: "wiki"}, Number: pull}, Commit: commit, Branch: fmt.Sprintf("update%d", pull),
		Status: ccci.StatusQueued, Attempt: 1, Created: now,
	}
	if _, _, err := s.store.ClaimRun(s.t.Context(), run); err != nil {
		s.t.Fatal(err)
	}
	run.Status, run.Level, run.Started, run.Finished = status, level, now, now
	if err := s.store.UpdateRun(s.t.Context(), run); err != nil {
		s.t.Fatal(err)
	}
	if err := s.bus.Publish(s.t.Context(), ccci.TopicRuns, string(run.ID)); err != nil {
		s.t.Fatal(err)
	}
}

// badge reads what a badge says.
func (s *mergeScene) badge(query string) string {
	s.t.Helper()
	_, body := fetch(s.t, "http://"+s.listener.Addr().String()+"/badge/wiki.svg"+query)
	_, text, _ := strings.Cut(body, "<title>cc-ci: ")
	text, _, _ = strings.Cut(text, "</title>")
	return text
}

func (s *mergeScene) says(query, want string) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("the badge %q to say %q, it says %q", query, want, s.badge(query)), func() bool { return s.badge(query) == want })
}

// run goes through the life of a badge: pull requests that are open, one that is merged, one that is
// squashed, and one that comes in with files that nobody tested.
func (s *mergeScene) run() {
	t := s.t
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.bridges.Run(ctx) }()
	defer func() { cancel(); <-done }()
	page := func() string {
		_, body := fetch(t, "http://"+s.listener.Addr().String()+"/recipes/wiki")
		return body
	}
	s.work.Commit("main", "compose.yml", "a")
	pulls, heads := map[int]int{}, map[int]ccci.Commit{}
	for i := 1; i <= 4; i++ {
		s.work.Git("checkout", "--quiet", "main")
		branch := fmt.Sprintf("update%d", i)
		heads[i] = s.work.Commit(branch, "compose.yml", branch)
		if pulls[i] = s.open(branch); pulls[i] != i {
			t.Fatalf("pull request %d has the number %d", i, pulls[i])
		}
	}
	s.says("", "not tested")
	s.tested(1, heads[1], ccci.StatusPassed, 5)
	s.tested(2, heads[2], ccci.StatusFailed, 2)
	s.says("?pr=1", "level 5")
	s.says("?branch=update1", "level 5")
	s.says("?pr=2", "failed, level 2")
	s.says("?branch=main", "not tested")
	s.says("", "not tested") // neither green nor red

	s.merge(1, "merge")
	s.says("", "level 5")
	s.says("?branch=main", "level 5")
	s.says("?pr=2", "failed, level 2")
	s.work.Git("fetch", "--quiet", s.work.Git("remote", "get-url", "origin"), "main")
	tip := s.work.Git("rev-parse", "--short=8", "FETCH_HEAD")
	if want := "The verdict is about main at " + tip + ", tested as pull request #1 at " + heads[1].Short() + ", with the same files."; !strings.Contains(page(), want) {
		t.Errorf("the page lacks %q", want)
	}
	// Red, and not merged.
	s.tested(3, heads[3], ccci.StatusFailed, 0)
	s.says("?pr=3", "failed")
	s.says("", "level 5")
	// A branch from the tip, squashed.
	s.work.Git("checkout", "--quiet", "-B", "update5", "FETCH_HEAD")
	heads[5] = s.work.Commit("update5", "compose.yml", "e")
	s.open("update5")
	s.tested(5, heads[5], ccci.StatusPassed, 3)
	s.says("", "level 5")
	s.merge(5, "squash")
	s.says("", "level 3")
	s.says("?pr=1", "level 5")
	// Behind the tip, so that the merge has files of both.
	s.work.Git("checkout", "--quiet", "main")
	heads[6] = s.work.Commit("update6", "other.yml", "f")
	s.open("update6")
	s.tested(6, heads[6], ccci.StatusFailed, 1)
	s.merge(6, "merge")
	await(t, "the merge to be known", func() bool { return strings.Contains(page(), "its files are not those that were tested") })
	s.says("", "level 3")
	s.says("?pr=6", "failed, level 1")
}

func TestA28_BadgeAcrossMergesOnTheLocalForge(t *testing.T) {
	t.Parallel()
	s := &mergeScene{t: t, forge: "local", server: halfServer(t, "forge: {poll: 100ms}\nrepos: [{repo: coop/wiki}]\n")}
	repo := ccci.RepoRef{Owner: "coop", Name: "wiki"}
	path, err := s.server.forge.CreateRepo(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	s.work = forgetest.NewWork(t, path)
	s.work.Git("remote", "add", "origin", path)
	s.open = func(branch string) int {
		pr, err := s.server.forge.OpenPullRequest(t.Context(), repo, branch, branch, "main", "ada")
		if err != nil {
			t.Fatal(err)
		}
		return pr.Ref.Number
	}
	s.merge = func(pull int, style string) {
		s.work.Git("fetch", "--quiet", "origin", "main")
		s.work.Git("checkout", "--quiet", "--detach", "FETCH_HEAD")
		branch := fmt.Sprintf("update%d", pull)
		if style == "squash" {
			s.work.Git("merge", "--quiet", "--squash", branch)
			s.work.Git("commit", "--quiet", "--message", "Squashed")
		} else {
			s.work.Git("merge", "--quiet", "--no-ff", "--message", "Merge", branch)
		}
		s.work.Git("push", "--quiet", "origin", "HEAD:main")
	}
	s.run()
}

func TestA28_BadgeAcrossMergesOnGitea(t *testing.T) {
	t.Parallel()
	g := gitea.Start(t)
	push := g.CreateRepo(t, "coop/wiki", false)
	g.AddMember(t, "coop", "cibot")
	g.Collaborator(t, "coop/wiki", "cibot", "write")
	g.Collaborator(t, "coop/wiki", "ada", "write")
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, g.Token(t, "cibot", "write:issue", "write:repository", "read:organization", "read:user"))
	s := &mergeScene{t: t, forge: "gitea", work: forgetest.NewWork(t, push),
		server: halfServer(t, fmt.Sprintf("forges: [{kind: gitea, name: gitea, url: %s, org: coop, token_file: %s, repositories: [{repo: coop/wiki}], poll: 250ms}]\n", g.URL, token))}
	s.work.Git("remote", "add", "origin", push)
	s.open = func(branch string) int { return g.OpenPull(t, "coop/wiki", "ada", branch, branch, "main") }
	s.merge = func(pull int, style string) { g.MergePull(t, "coop/wiki", pull, style) }
	s.run()
}

// U18: results are pruned, but not that of the run that speaks for its recipe.
func TestU18_ThePrunerKeepsWhatSpeaks(t *testing.T) {
	dir := t.TempDir()
	store, err := sqlstore.Open(t.Context(), filepath.Join(dir, "cc-ci.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	blobs, err := dirblob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 5 {
		run := ccci.Run{ID: ccci.RunID(fmt.Sprintf("260301-12000%d-aaaaaa", i)), Key: fmt.Sprintf("local/%d/0", i), Recipe: "wiki", Status: ccci.StatusPassed, Created: start.Add(time.Duration(i) * time.Second)}
		if run.PR.Number = i; i == 1 {
			run.PR, run.Trigger = ccci.PRRef{}, ccci.TriggerSweep
		}
		if _, _, err := store.ClaimRun(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		if _, err := blobs.Put(t.Context(), ccci.ResultKey(run.ID), strings.NewReader("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(t.Context(), store, blobs, 2); err != nil {
		t.Fatal(err)
	}
	var left []string
	for i := range 5 {
		infos, err := blobs.List(t.Context(), ccci.ArtifactKey(ccci.RunID(fmt.Sprintf("260301-12000%d-aaaaaa", i)), ""))
		if err != nil {
			t.Fatal(err)
		}
		if len(infos) > 0 {
			left = append(left, fmt.Sprint(i))
		}
	}
	if got := strings.Join(left, " "); got != "1 3 4" {
		t.Errorf("the results of %s are left, want 1 3 4", got)
	}
}
