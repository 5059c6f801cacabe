// Package redis starts a real Redis for tests: on a free loopback port, with
// nothing on disk.
package redis

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
)

// Server is a running Redis.
type Server struct {
	URL string // as redis://127.0.0.1:PORT, or unix://PATH

	network string
	address string
	args    []string
	out     bytes.Buffer // read only when ended is closed
	process *exec.Cmd
	ended   <-chan struct{}
}

// Start starts a Redis that lives as long as the test, with further arguments. Under -short the test is
// skipped; where Redis cannot be started it fails (Debian: redis-server).
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("redis is a real server")
	}
	port, err := child.Port()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s := &Server{URL: "redis://" + address, network: "tcp", address: address, args: append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1"}, args...)}
	t.Cleanup(s.Kill)
	s.StartAgain(t)
	return s
}

// StartAtSocket starts one as Start does that has no port, and a Unix socket in a folder that nobody
// else enters.
func StartAtSocket(t testing.TB, args ...string) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("redis is a real server")
	}
	dir, err := os.MkdirTemp("", "redis-") // a test's own folder may have too long a name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "redis.sock")
	s := &Server{URL: "unix://" + path, network: "unix", address: path, args: append([]string{"--port", "0", "--unixsocket", path, "--unixsocketperm", "660"}, args...)}
	t.Cleanup(s.Kill)
	s.StartAgain(t)
	return s
}

// StartAgain starts it after Kill, empty, at the same address.
func (s *Server) StartAgain(t testing.TB) {
	t.Helper()
	s.out.Reset()
	cmd := exec.Command("redis-server", append([]string{"--save", "", "--appendonly", "no"}, s.args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &s.out, &s.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended, err := child.Start(cmd)
	if err != nil {
		t.Fatalf("starting redis-server (Debian: apt-get install redis-server): %v", err)
	}
	s.process, s.ended = cmd, ended
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if answer := s.Do("PING"); answer == "+PONG" || strings.HasPrefix(answer, "-NOAUTH") {
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("redis-server ended at once:\n%s", s.out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("redis-server does not answer")
}

// Do sends one command and returns the first line of the answer, or "" when
// there is none. The words hold no white space.
func (s *Server) Do(words ...string) string {
	conn, err := net.DialTimeout(s.network, s.address, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(conn, "%s\r\n", strings.Join(words, " ")); err != nil {
		return ""
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && err != io.EOF {
		return ""
	}
	return strings.TrimSpace(line)
}

// Kill ends the server at once, as a power cut would. Legal twice.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.process.Process.Kill()
	<-s.ended
	s.process = nil
}
