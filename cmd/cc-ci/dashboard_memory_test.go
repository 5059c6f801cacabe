package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/reconcile"
)

// TestN3_LargeResultsFitTheDashboard has 60 visitors ask at a time for each page of a dashboard
// whose recipes all have the longest result and the longest log. The process stays within the
// memory of its service, and serves each page.
func TestN3_LargeResultsFitTheDashboard(t *testing.T) {
	address := filepath.Join(t.TempDir(), "redis")
	writeFile(t, address, "redis://127.0.0.1:1") // is away
	settings := "processes: apart\nbus: {kind: redis, redis: {url_file: " + address + "}}\nbridge: {listen: '127.0.0.1:0'}\n"
	s := halfServer(t, settings)
	config := filepath.Join(t.TempDir(), "cc-ci.yml")
	writeFile(t, config, "data: "+s.cfg.Data+"\nlisten: 127.0.0.1:0\n"+settings)

	const recipes = 12
	var last ccci.Run
	for i := range recipes {
		last = keepLargeRun(t, s, i)
	}
	url, pid := startDashboard(t, config)
	run := "/runs/" + string(last.ID)
	pages := []string{"/", "/?q=recipe", "/recipes/" + last.Recipe, "/runs", run, run + "?live=1", "/badge/" + last.Recipe + ".svg", "/feed.json", "/queue", run + "/files/result.json", run + "/log"}
	var everyRun []string
	for i := range recipes {
		everyRun = append(everyRun, fmt.Sprintf("/runs/%s?live=1", largeID(i)))
	}
	for _, page := range pages {
		if served := visit(t, url, pid, 60, page); served == 0 {
			t.Errorf("%s was served to none of 60", page)
		}
	}
	if served := visit(t, url, pid, 60/recipes, everyRun...); served == 0 {
		t.Error("no run was served to any of 60")
	}
	visit(t, url, pid, 60, pages...)

	limit := reconcile.DashboardMemory
	if peak := peakMemory(t, pid); peak > limit {
		t.Errorf("the dashboard took %d MiB at its highest; its service has %d MiB", peak>>20, limit>>20)
	}
}

func largeID(i int) ccci.RunID { return ccci.RunID(fmt.Sprintf("260314-120000-%06x", i)) }

// keepLargeRun keeps a run as the bridge does, with a result of the size that its readers take,
// which is twice what the harness writes. Its texts become five times as long in HTML.
func keepLargeRun(t *testing.T, s *server, i int) ccci.Run {
	t.Helper()
	at := time.Now().Add(-time.Hour).UTC()
	run := ccci.Run{ID: largeID(i), Key: fmt.Sprintf("local/%d/0", i), Recipe: fmt.Sprintf("recipe-%d", i), Commit: ccci.Commit(strings.Repeat("0123456789", 4)),
		Status: ccci.StatusQueued, Attempt: 1, Created: at}
	if _, fresh, err := s.store.ClaimRun(t.Context(), run); err != nil || !fresh {
		t.Fatalf("claiming: %v %v", fresh, err)
	}
	text := strings.Repeat("'", 16<<10)
	r := ccci.Result{Schema: ccci.ResultSchema, RunID: run.ID, Recipe: run.Recipe, Commit: run.Commit, Version: text, Status: ccci.StatusFailed,
		Cause: &ccci.Cause{Check: "install/health", Code: ccci.CodeRecipe, Message: text}, LintRan: true,
		Artifacts: []ccci.Artifact{{Path: "screenshot-install.png", Title: "After the install", Kind: "screenshot"}}}
	for _, stage := range ccci.StageNames {
		r.Stages = append(r.Stages, ccci.Stage{Name: stage, Status: ccci.Fail, Reason: text, Checks: []ccci.Check{{Name: string(stage) + "/x", Status: ccci.Fail, Message: text, Detail: []string{text}}}})
	}
	for size := 20 * len(text); size < ccci.ResultLimit-2*len(text); size += len(text) + 100 {
		r.Lint = append(r.Lint, ccci.Finding{Rule: "C010", Severity: "warning", Message: text})
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) < ccci.ResultLimit*9/10 || len(body) > ccci.ResultLimit {
		t.Fatalf("the result has %d bytes", len(body))
	}
	log := bytes.Repeat([]byte(text[:1<<10]+"\n"), 12<<10)
	for key, content := range map[string][]byte{ccci.ResultKey(run.ID): body, ccci.ArtifactKey(run.ID, "run.log"): log} {
		if _, err := s.blobs.Put(t.Context(), key, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	run.Status, run.Started, run.Finished = r.Status, at, at.Add(time.Minute)
	run.Take(&r)
	if err := s.store.UpdateRun(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	return run
}

// startDashboard starts cc-ci dashboard as a process of its own.
func startDashboard(t *testing.T, config string) (url string, pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--config", config, "dashboard", "--proxies", "127.0.0.0/8")
	cmd.Args[0] = "cc-ci" // what TestMain takes it for
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("the dashboard: %v", err)
		}
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait() // its code says that it was interrupted
		if t.Failed() {
			t.Logf("it said: %.3000s", said.String())
		}
	})
	line := make([]byte, 1<<10)
	n, err := out.Read(line)
	_, url, found := strings.Cut(string(line[:n]), "the dashboard is at ")
	if !found {
		t.Fatalf("it said %q, %v", line[:n], err)
	}
	url, _, _ = strings.Cut(url, " ")
	return url, cmd.Process.Pid
}

// visit has so many visitors ask for each path at once, and returns how many were served. Others
// may find no place; none may meet an error.
func visit(t *testing.T, url string, pid, visitors int, paths ...string) (served int) {
	t.Helper()
	began := time.Now()
	var mu sync.Mutex
	seen := map[int]int{}
	var group sync.WaitGroup
	for _, path := range paths {
		for i := range visitors {
			group.Go(func() {
				code := ask(t, url+path, fmt.Sprintf("2001:db8:0:%x::1", i))
				if code != http.StatusOK && code != http.StatusServiceUnavailable {
					t.Errorf("%s: %d", path, code)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[code]++
			})
		}
	}
	group.Wait()
	t.Logf("%d paths (%s): %v, %s, peak so far %d MiB", len(paths), paths[0], seen, time.Since(began).Round(time.Millisecond), peakMemory(t, pid)>>20)
	return seen[http.StatusOK]
}

func ask(t *testing.T, url, from string) int {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("X-Forwarded-For", from)
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return res.StatusCode
}

// peakMemory is the most that a process ever held, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kib, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
