// Package gitea starts a real Gitea for tests: on a free loopback port, with SQLite
// in a folder of its own, as an unprivileged user because Gitea refuses root, and
// without a browser in its bootstrap.
package gitea

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/peers"
)

// Password is every account's.
const Password = "correct-horse-9"

// Admin is the site administrator's name.
const Admin = "siteadmin"

// Server is a running Gitea.
type Server struct {
	URL        string // without a final slash
	AdminToken string // may do everything, also in another's name

	dir  string
	port int
	uid  int // 0 for the test's own user

	process *exec.Cmd
	ended   <-chan struct{}
}

// Start starts a Gitea that lives as long as the test. Under -short the test is
// skipped; where Gitea cannot be built or started it fails.
func Start(t testing.TB) *Server {
	t.Helper()
	binary := peers.Binary(t, peers.Gitea)
	s, err := Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Open starts a Gitea that the caller closes: what tests of one package share.
func Open(binary string) (_ *Server, err error) {
	// Not t.TempDir: another user must reach the folder, and reads nothing of ours.
	dir, err := os.MkdirTemp("", "cc-ci-gitea-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	defer func() {
		if err != nil {
			s.Close()
			err = fmt.Errorf("starting gitea: %w", err)
		}
	}()
	runUser, err := s.lowerUser()
	if err != nil {
		return nil, err
	}
	if err := s.files(binary); err != nil {
		return nil, err
	}
	if s.port, err = child.Port(); err != nil {
		return nil, err
	}
	s.URL = fmt.Sprintf("http://127.0.0.1:%d", s.port)
	if err := os.WriteFile(s.path("app.ini"), []byte(config(s, runUser)), 0o600); err != nil {
		return nil, err
	}
	if err := s.own(s.path("app.ini")); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	out, err := s.command("admin", "user", "create", "--admin", "--username", Admin, "--password", Password,
		"--email", Admin+"@example.org", "--must-change-password=false").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("creating the administrator: %w\n%s", err, out)
	}
	s.AdminToken, err = s.token(Admin, "all")
	return s, err
}

// lowerUser says as whom Gitea runs.
func (s *Server) lowerUser() (string, error) {
	if os.Geteuid() != 0 {
		me, err := user.Current()
		if err != nil {
			return "", err
		}
		return me.Username, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return "", err
	}
	if s.uid, err = strconv.Atoi(nobody.Uid); err != nil {
		return "", err
	}
	return nobody.Username, os.Chmod(s.dir, 0o755)
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) own(path string) error {
	if s.uid == 0 {
		return nil
	}
	return os.Chown(path, s.uid, s.uid)
}

// files lays out what Gitea reads: its program and its static root, linked where
// the file system allows it.
func (s *Server) files(binary string) error {
	src, err := peers.Module(context.Background(), peers.Gitea, "code.gitea.io/gitea")
	if err != nil {
		return err
	}
	if err := link(binary, s.path("gitea")); err != nil {
		return err
	}
	for _, name := range []string{"templates", "options", "public"} {
		err := filepath.WalkDir(filepath.Join(src, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(src, path)
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.MkdirAll(s.path(filepath.Join("static", rel)), 0o755)
			}
			return link(path, s.path(filepath.Join("static", rel)))
		})
		if err != nil {
			return err
		}
	}
	for _, name := range []string{"data", "work", "home"} {
		if err := os.Mkdir(s.path(name), 0o755); err != nil {
			return err
		}
		if err := s.own(s.path(name)); err != nil {
			return err
		}
	}
	return nil
}

func link(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

func config(s *Server, runUser string) string {
	return fmt.Sprintf(`RUN_USER = %[1]s
WORK_PATH = %[2]s/work
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %[3]d
ROOT_URL = %[4]s/
STATIC_ROOT_PATH = %[2]s/static
APP_DATA_PATH = %[2]s/data
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = %[2]s/data/gitea.db
SQLITE_JOURNAL_MODE = WAL
SQLITE_TIMEOUT = 20000
[repository]
ROOT = %[2]s/data/repositories
[security]
INSTALL_LOCK = true
SECRET_KEY = of-a-test-server
PASSWORD_HASH_ALGO = pbkdf2_v1
[service]
DISABLE_REGISTRATION = true
[mailer]
ENABLED = false
[webhook]
ALLOWED_HOST_LIST = loopback
[queue.webhook_sender]
TYPE = channel
[indexer]
ISSUE_INDEXER_TYPE = db
[actions]
ENABLED = false
[cron]
ENABLED = false
[cron.update_checker]
ENABLED = false
[log]
MODE = console
LEVEL = warn
`, runUser, s.dir, s.port, s.URL)
}

func (s *Server) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.path("gitea"), append([]string{"--config", s.path("app.ini")}, args...)...)
	cmd.Dir = s.path("work")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.path("home"), "TMPDIR=" + s.path("work"), "GIT_CONFIG_NOSYSTEM=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if s.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}
	}
	return cmd
}

// start runs the server and waits until it answers.
func (s *Server) start() error {
	log, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.process = s.command("web")
	s.process.Stdout, s.process.Stderr = log, log
	s.process.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if s.ended, err = child.Start(s.process); err != nil {
		return err
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		resp, err := client.Get(s.URL + "/api/healthz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.ended:
			return fmt.Errorf("it ended at once:\n%s", s.Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("it does not answer:\n%s", s.Log())
}

// Pid is the server's process.
func (s *Server) Pid() int { return s.process.Process.Pid }

// Kill ends the server at once, as a power cut would.
func (s *Server) Kill() {
	if s.process == nil || s.process.Process == nil {
		return
	}
	s.process.Process.Kill()
	<-s.ended
	s.process = nil
}

// Restart starts it again after Kill, on the same data and the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		t.Fatalf("starting gitea again: %v", err)
	}
}

// Log is what the server has said.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.path("log"))
	return string(text)
}

// Close ends the server and removes its data.
func (s *Server) Close() {
	s.Kill()
	for range 20 { // a git that it started may still be writing
		if err := os.RemoveAll(s.dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
