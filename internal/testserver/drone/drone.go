// Package drone starts a real Drone server with its exec runner for tests. Both
// are test peers only: their licences (Drone's non-commercial one, PolyForm for the
// runner) let nobody ship them, and nothing of them is.
package drone

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// User is the account at Gitea, an administrator of Drone, that owns the repositories.
const User = "cibot"

// Options of [Start].
type Options struct {
	Pipeline string               // text of .drone.yml in the repository cibot/cc-ci; empty: there is none yet
	Capacity int                  // of the runner; 0 stands for 1
	Environ  map[string]string    // for every step
	Server   map[string]string    // further settings of the server
	Runner   map[string]string    // and of the runner
	NoRunner bool                 // the test starts it, if at all
	Watch    func(*http.Response) // unless nil, is shown every answer of the server
}

// Server is a Drone server and its runner.
type Server struct {
	URL   string
	Token ccci.Secret  // of an administrator
	Repo  ccci.RepoRef // cibot/cc-ci, activated

	t      testing.TB
	gitea  *gitea.Server
	opts   Options
	dir    string
	secret string
	server *process
	runner *process

	runnerEnv []string // of every runner
}

const patience = 60 * time.Second

// Start starts both, signs in to Gitea as a person would, and activates the
// repository. All ends with the test.
func Start(t testing.TB, forge *gitea.Server, opts Options) *Server {
	t.Helper()
	if opts.Capacity == 0 {
		opts.Capacity = 1
	}
	programs := []string{peers.Binary(t, peers.Drone), peers.Binary(t, peers.Runner)}
	addr := freeAddr(t)
	host := addr // by which all others reach it
	if opts.Watch != nil {
		to := &url.URL{Scheme: "http", Host: addr}
		proxy := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(to) },
			FlushInterval:  -1, // log streams
			ModifyResponse: func(r *http.Response) error { opts.Watch(r); return nil },
			ErrorLog:       log.New(io.Discard, "", 0), // of requests that their sender gave up
		})
		t.Cleanup(proxy.Close)
		host = strings.TrimPrefix(proxy.URL, "http://")
	}
	s := &Server{
		URL: "http://" + host, Token: ccci.NewSecret("0123456789abcdef0123456789abcdef"),
		t: t, gitea: forge, opts: opts, dir: t.TempDir(), secret: "between-server-and-runner",
	}
	forge.User(t, User)
	id, secret := forge.OAuthApp(t, User, "drone", s.URL+"/login")
	s.server = &process{
		name: "drone", path: programs[0], dir: s.dir, ready: "http://" + addr + "/healthz",
		env: []string{
			"DRONE_GITEA_SERVER=" + forge.URL, "DRONE_GITEA_CLIENT_ID=" + id, "DRONE_GITEA_CLIENT_SECRET=" + secret,
			"DRONE_RPC_SECRET=" + s.secret, "DRONE_SERVER_HOST=" + host, "DRONE_SERVER_PROTO=http", "DRONE_SERVER_PORT=" + addr,
			"DRONE_DATABASE_DRIVER=sqlite3", "DRONE_DATABASE_DATASOURCE=" + filepath.Join(s.dir, "drone.sqlite"),
			"DRONE_USER_CREATE=username:" + User + ",machine:false,admin:true,token:" + s.Token.Reveal(),
			"DRONE_DATADOG_ENABLED=false", "DRONE_LOGS_DEBUG=true",
		},
	}
	s.server.env = append(s.server.env, lines(opts.Server)...)
	runnerAddr := freeAddr(t)
	s.runner = &process{
		name: "runner", path: programs[1], args: []string{"daemon"}, dir: s.dir, ready: "http://" + runnerAddr + "/healthz",
		env: []string{
			"DRONE_RPC_PROTO=http", "DRONE_RPC_HOST=" + host, "DRONE_RPC_SECRET=" + s.secret, "DRONE_HTTP_BIND=" + runnerAddr,
			fmt.Sprintf("DRONE_RUNNER_CAPACITY=%d", opts.Capacity), "DRONE_RUNNER_NAME=test", "DRONE_RUNNER_ROOT=" + filepath.Join(s.dir, "work"),
			"DRONE_DEBUG=true",
		},
	}
	if len(opts.Environ) > 0 {
		// Not DRONE_RUNNER_ENVIRON, which takes no value with a colon or a comma.
		file := filepath.Join(s.dir, "steps.env")
		var text strings.Builder
		for name, value := range opts.Environ {
			fmt.Fprintf(&text, "%s=%q\n", name, value)
		}
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		s.runner.env = append(s.runner.env, "DRONE_RUNNER_ENVFILE="+file)
	}
	s.runnerEnv = s.runner.env
	s.SetRunner(opts.Runner)
	t.Cleanup(func() {
		s.StopRunner()
		s.Stop()
		if t.Failed() {
			t.Logf("the end of Drone's log:\n%s\nof the runner's:\n%s", s.server.tail(), s.runner.tail())
		}
	})
	s.StartAgain()
	SignIn(t, nil, s.URL, forge.URL)
	if opts.Pipeline != "" {
		s.Repo = s.AddRepository("cc-ci", opts.Pipeline)
	}
	if !opts.NoRunner {
		s.StartRunner()
	}
	return s
}

// Stop kills the server, as a power cut would. Legal twice.
func (s *Server) Stop() { s.server.kill() }

// StartAgain starts the server on the same data and port.
func (s *Server) StartAgain() { s.t.Helper(); s.server.start(s.t) }

// StopRunner kills the runner and not what it has started. Legal twice.
func (s *Server) StopRunner() { s.runner.kill() }

// StartRunner starts the runner unless it runs, and returns when it listens.
func (s *Server) StartRunner() { s.t.Helper(); s.runner.start(s.t) }

// SetRunner sets what the next runner gets besides the settings that every runner has.
func (s *Server) SetRunner(more map[string]string) {
	s.runner.env = append(slices.Clone(s.runnerEnv), lines(more)...)
}

// lines are settings as a process takes them.
func lines(settings map[string]string) (all []string) {
	for name, value := range settings {
		all = append(all, name+"="+value)
	}
	return all
}

// API asks Drone as the administrator and returns the answer; what is not a
// success ends the test.
func (s *Server) API(method, path string, body any) []byte {
	s.t.Helper()
	return s.ask(method, s.URL+path, body, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s.Token.Reveal()) })
}

func (s *Server) giteaAPI(method, path string, body any) []byte {
	s.t.Helper()
	return s.ask(method, s.gitea.URL+path, body, func(r *http.Request) { r.SetBasicAuth(User, gitea.Password) })
}

func (s *Server) ask(method, uri string, body any, sign func(*http.Request)) []byte {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, uri, bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	sign(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode > 299 {
		s.t.Fatalf("%s %s: %s %s %v", method, req.URL.Path, resp.Status, answer, err)
	}
	return answer
}

// AddRepository makes a repository with .drone.yml alone, and activates it.
func (s *Server) AddRepository(name, pipeline string) ccci.RepoRef {
	s.t.Helper()
	repo := ccci.RepoRef{Owner: User, Name: name}
	s.giteaAPI(http.MethodPost, "/api/v1/user/repos", map[string]any{"name": name, "auto_init": true, "default_branch": "main"})
	s.Push(repo, ".drone.yml", pipeline)
	s.API(http.MethodPost, "/api/user/repos", nil)
	s.API(http.MethodPost, "/api/repos/"+repo.String(), nil)
	return repo
}

// Push commits a new file to a repository's default branch.
func (s *Server) Push(repo ccci.RepoRef, path, text string) {
	s.t.Helper()
	s.giteaAPI(http.MethodPost, "/api/v1/repos/"+repo.String()+"/contents/"+path, map[string]any{
		"content": base64.StdEncoding.EncodeToString([]byte(text)), "message": "add " + path, "branch": "main",
	})
}

// Replace commits another text of a file of a repository's default branch.
func (s *Server) Replace(repo ccci.RepoRef, path, text string) {
	s.t.Helper()
	var was struct{ SHA string }
	file := "/api/v1/repos/" + repo.String() + "/contents/" + path
	if err := json.Unmarshal(s.giteaAPI(http.MethodGet, file, nil), &was); err != nil {
		s.t.Fatal(err)
	}
	s.giteaAPI(http.MethodPut, file, map[string]any{
		"content": base64.StdEncoding.EncodeToString([]byte(text)), "message": "change " + path, "branch": "main", "sha": was.SHA,
	})
}

// Head is the newest commit of a repository's default branch.
func (s *Server) Head(repo ccci.RepoRef) ccci.Commit {
	s.t.Helper()
	var branch struct{ Commit struct{ ID ccci.Commit } }
	if err := json.Unmarshal(s.giteaAPI(http.MethodGet, "/api/v1/repos/"+repo.String()+"/branches/main", nil), &branch); err != nil {
		s.t.Fatal(err)
	}
	return branch.Commit.ID
}

// process is a server process of a test.
type process struct {
	name, path, dir, ready string
	args, env              []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done <-chan struct{} // closed when it has ended
}

func (p *process) logPath() string { return filepath.Join(p.dir, p.name+".log") }

func (p *process) tail() string {
	text, _ := os.ReadFile(p.logPath())
	return string(text[max(0, len(text)-6000):])
}

func (p *process) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.mu.Lock()
	if p.cmd != nil {
		p.mu.Unlock()
		return
	}
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, log, log
	p.cmd.Env = append(p.env, "PATH="+os.Getenv("PATH"), "HOME="+p.dir, "TMPDIR="+p.dir)
	// Ctrl-C at the tests' terminal is not for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done, err := child.Start(p.cmd)
	if err != nil {
		p.cmd = nil
		p.mu.Unlock()
		t.Fatal(err)
	}
	p.done = done
	p.mu.Unlock()
	limit := time.After(patience)
	for {
		if resp, err := http.Get(p.ready); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-done:
			t.Fatalf("%s ended at once:\n%s", p.name, p.tail())
		case <-limit:
			t.Fatalf("%s does not answer at %s:\n%s", p.name, p.ready, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) kill() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	cmd.Process.Kill()
	<-done
}

func freeAddr(t testing.TB) string {
	t.Helper()
	port, err := child.Port()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
