package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/health"
)

// halfServer is a server without a platform: everything but runs.
func halfServer(t *testing.T, text string) *server {
	t.Helper()
	dir := t.TempDir()
	cfg, err := config.Parse(filepath.Join(dir, "cc-ci.yml"), []byte("data: data\nlisten: 127.0.0.1:0\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	apart := cfg.Processes == config.Apart
	s := &server{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { s.Close(context.Background()) })
	if !apart {
		if err := s.listen(); err != nil {
			t.Fatal(err)
		}
	}
	if cfg.Bridge.Listen != "" {
		if s.ops, err = listen(cfg.Bridge.Listen, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.openStores(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.assemble(t.Context(), serverOptions{Apart: apart}, nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range s.http {
		go func() { _ = h.Serve(h.on) }()
		t.Cleanup(func() { h.Close() })
	}
	return s
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestOpsBesideTheDashboard(t *testing.T) {
	s := halfServer(t, "repos: [{repo: coop/wiki}]\n")
	base := "http://" + s.listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.bridges.Run(ctx) }()
	defer func() { cancel(); <-done }()
	// The bridge notices that its one repository is not there.
	deadline := time.After(30 * time.Second)
	var report health.Report
	for report.Status != "degraded" || !strings.Contains(report.Reasons[0].Problem, "coop/wiki is not there") {
		select {
		case <-deadline:
			t.Fatalf("healthz says %+v", report)
		case <-time.After(20 * time.Millisecond):
		}
		code, body := fetch(t, base+"/healthz")
		report = health.Report{}
		if err := json.Unmarshal([]byte(body), &report); err != nil || code != 200 {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		if len(report.Reasons) == 0 {
			report.Status = ""
		}
	}
	if code, body := fetch(t, base+"/metrics"); code != 200 || !strings.Contains(body, `cc_ci_polls_total{forge="local",outcome="missing"}`) {
		t.Errorf("metrics: %d %.300s", code, body)
	}
	if code, _ := fetch(t, base+"/hook/local"); code != 404 { // it needs no webhooks
		t.Errorf("hook: %d", code)
	}
	if code, body := fetch(t, base+"/"); code != 200 || !strings.Contains(body, "<html") {
		t.Errorf("the dashboard: %d", code)
	}
}

func TestOpsAtAnAddressOfTheirOwn(t *testing.T) {
	s := halfServer(t, "bridge: {listen: \"127.0.0.1:0\"}\n")
	ops, pages := "http://"+s.ops.Addr().String(), "http://"+s.listener.Addr().String()
	if code, _ := fetch(t, ops+"/metrics"); code != 200 {
		t.Errorf("metrics: %d", code)
	}
	if code, _ := fetch(t, ops+"/runs"); code != 404 {
		t.Errorf("pages at the other address: %d", code)
	}
	for _, path := range []string{"/metrics", "/hook/local"} {
		if code, _ := fetch(t, pages+path); code != 404 {
			t.Errorf("%s at the dashboard: %d", path, code)
		}
	}
	if code, _ := fetch(t, pages+"/healthz"); code != 200 {
		t.Errorf("the dashboard's own health: %d", code)
	}
}

// A store that is broken is fatal, a forge that is away is not.
func TestHealthReasons(t *testing.T) {
	s := halfServer(t, "")
	s.store.Close()
	w := httptest.NewRecorder()
	health.Handler(nil, s.probeStore).ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	if w.Code != 503 {
		t.Errorf("without a store: %d", w.Code)
	}
	now := time.Now()
	for name, tc := range map[string]struct {
		h     bridge.Health
		n     int
		fatal bool
	}{
		"well":    {bridge.Health{Working: true, Reachable: true, Turned: now}, 0, false},
		"standby": {bridge.Health{Reachable: true}, 1, false},
		"away":    {bridge.Health{Working: true, Turned: now, Since: now, Error: "refused"}, 1, false},
		"hangs":   {bridge.Health{Working: true, Reachable: true, Turned: now.Add(-time.Hour)}, 1, true},
		"waiting": {bridge.Health{Working: true, Reachable: true, Turned: now, Waiting: 3, Oldest: now.Add(-time.Hour)}, 1, false},
		"missing": {bridge.Health{Working: true, Reachable: true, Turned: now, Missing: []ccci.RepoRef{{Owner: "a", Name: "b"}}}, 1, false},
	} {
		reasons := bridgeReasons(tc.h, now)
		if len(reasons) != tc.n || (len(reasons) > 0 && reasons[0].Fatal != tc.fatal) {
			t.Errorf("%s: %+v", name, reasons)
		}
	}
}

// Secrets are read when they are needed; during a change one of two is enough.
func TestA5_HookSecrets(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if _, err := (&server{}).readSecrets([]string{a, b}); err == nil {
		t.Error("without any")
	}
	writeFile(t, b, "geheim\n")
	if keys, err := (&server{}).readSecrets([]string{a, b}); err != nil || len(keys) != 1 || keys[0].Reveal() != "geheim" {
		t.Errorf("one of two: %v, %v", keys, err)
	}
	var seen []ccci.Secret
	s := &server{forges: []adapter{
		{entry: config.ForgeEntry{Name: "g", HookSecrets: []string{a, b}}, signatures: []string{"X-S"}, parse: func(_ http.Header, _ []byte, keys []ccci.Secret) (ccci.RepoRef, string, bool, error) {
			seen = keys
			return ccci.RepoRef{}, "", false, nil
		}},
		{entry: config.ForgeEntry{Name: "keyless"}, signatures: []string{"X-S"}, parse: func(http.Header, []byte, []ccci.Secret) (ccci.RepoRef, string, bool, error) {
			panic("called without a key")
		}},
		{entry: config.ForgeEntry{Name: "local"}},
	}}
	sources := s.hookSources()
	if len(sources) != 2 || sources[1].Verify != nil {
		t.Fatalf("%+v", sources)
	}
	writeFile(t, a, "new")
	if _, _, _, err := sources[0].Verify(nil, nil); err != nil || len(seen) != 2 {
		t.Errorf("after a change: %d keys, %v", len(seen), err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Forges and an engine elsewhere are opened without asking them anything.
func TestU14_ServesWhileForgeAndEngineAreAway(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	writeFile(t, secret, "geheim")
	s := halfServer(t, `
forges:
  - {kind: github, org: coop, token_file: `+secret+`, hook_secret_files: [`+secret+`], repositories: [{repo: coop/wiki}]}
  - {kind: local, org: coop, repositories: [{repo: coop/page}]}
engine: {kind: drone, drone: {url: "http://127.0.0.1:9", token_file: `+secret+`, repo: coop/cc-ci}}
`)
	base := "http://" + s.listener.Addr().String()
	res, err := http.Post(base+"/hook/github.com", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("an unsigned delivery: %s", res.Status)
	}
	if h := s.bridges.Health(); len(h) != 2 || h[0].Forge != "github.com" || h[1].Forge != "local" {
		t.Errorf("health: %+v", h)
	}
	if s.forge == nil {
		t.Error("the local forge has no pages")
	}
}

// pipes is a listener of connections in memory, so that time can be virtual.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A header that does not arrive in time, or that is too large, ends its connection.
func TestN3_HeadersAreBoundedInTimeAndSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newHTTP(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		listener := make(pipes)
		go func() { _ = server.Serve(listener) }()
		open := func(text string) (answer string, took time.Duration) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			listener <- theirs
			started := time.Now()
			go func() { _, _ = ours.Write([]byte(text)) }()
			read, _ := io.ReadAll(ours)
			return string(read), time.Since(started)
		}
		if answer, took := open("GET / HTTP/1.1\r\nHost: x\r\n"); took != 10*time.Second || strings.Contains(answer, "404") {
			t.Errorf("half a header: %q after %s", answer, took)
		}
		if answer, took := open("GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", 100<<10) + "\r\n\r\n"); took > 10*time.Second || !strings.Contains(answer, "431") {
			t.Errorf("a large header: %q after %s", answer, took)
		}
		close(listener)
		_ = server.Close()
	})
}
