package main

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/redis"
)

// A27, C11: what the bridge's process does is on an open page of the dashboard's
// at once, though the two share nothing but Redis and a folder that one only reads.
func TestA27_TheDashboardApartIsLive(t *testing.T) {
	server := redis.Start(t)
	address := filepath.Join(t.TempDir(), "redis")
	writeFile(t, address, server.URL)
	s := halfServer(t, `
processes: apart
bus: {kind: redis, redis: {url_file: `+address+`}}
bridge: {listen: "127.0.0.1:0"}
forge: {poll: 30s}
repos: [{repo: coop/wiki}]
`)
	r, err := newReading(t.Context(), s.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	r.endpoint.run(ctx, &group)
	group.Go(func() error { return s.bridges.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
	if code, _ := fetch(t, r.cfg.URL+"/hook/local"); code != 404 {
		t.Errorf("/hook at the dashboard: %d", code)
	}
	if code, _ := fetch(t, "http://"+s.ops.Addr().String()+"/runs"); code != 404 {
		t.Errorf("pages at the bridge: %d", code)
	}

	pr := wikiPull(t, s)
	before := changes(t, r.cfg.URL)
	<-before // each stream begins with one
	if _, err := s.forge.AddComment(t.Context(), pr, "you", "!testme"); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(30 * time.Second)
	for {
		select {
		case <-before: // hints wake the page, which polls nothing here
		case <-deadline:
			t.Fatal("the page was told nothing of the run")
		}
		if _, page := fetch(t, r.cfg.URL+"/runs"); strings.Contains(page, "on #1<") {
			break
		}
	}
	runs, err := s.store.FindRuns(t.Context(), ccci.RunFilter{})
	if err != nil || len(runs) != 1 {
		t.Fatalf("%+v, %v", runs, err)
	}
	if code, page := fetch(t, r.cfg.URL+"/runs/"+string(runs[0].ID)); code != 200 || !strings.Contains(page, "queued") {
		t.Errorf("the run's own page: %d", code)
	}
	if code, _ := fetch(t, r.cfg.URL+"/badge/wiki.svg"); code != 200 {
		t.Errorf("the badge: %d", code)
	}
}

// changes returns what the dashboard's open pages are told.
func changes(t *testing.T, url string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	go func() {
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			if lines.Text() == "event: changed" {
				told <- lines.Text()
			}
		}
	}()
	return told
}

// wikiPull opens a pull request on the local forge.
func wikiPull(t *testing.T, s *server) ccci.PRRef {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "README.md"), "wiki")
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-qm", "wiki"}, {"checkout", "-qb", "change"}, {"commit", "-q", "--allow-empty", "-m", "change"},
	} {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=you", "-c", "user.email=you@example.org"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	repo := ccci.RepoRef{Owner: "coop", Name: "wiki"}
	if _, err := s.forge.ImportRepo(t.Context(), repo, dir); err != nil {
		t.Fatal(err)
	}
	pr, err := s.forge.OpenPullRequest(t.Context(), repo, "change", "change", "main", "you")
	if err != nil {
		t.Fatal(err)
	}
	return pr.Ref
}

// The dashboard's process leaves the data folder as it is, and needs a bridge's.
func TestA27_TheDashboardApartOnlyReads(t *testing.T) {
	address := filepath.Join(t.TempDir(), "redis")
	writeFile(t, address, "redis://127.0.0.1:1")
	s := halfServer(t, "processes: apart\nbus: {kind: redis, redis: {url_file: "+address+"}}\nbridge: {listen: '127.0.0.1:0'}\n")
	list := func() string {
		out, err := exec.Command("find", s.cfg.Data, "-printf", "%p %s\n").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := list()
	r, err := newReading(t.Context(), s.cfg, slog.New(slog.DiscardHandler)) // Redis is away, too
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if after := list(); after != before {
		t.Errorf("the data folder was\n%s\nand is\n%s", before, after)
	}
	empty := s.cfg
	empty.Data = t.TempDir()
	if _, err := newReading(t.Context(), empty, s.log); ccci.CodeOf(err) != ccci.CodeInfra || !strings.Contains(ccci.HintOf(err), "cc-ci bridge") {
		t.Errorf("without a bridge: %v", err)
	}
}
