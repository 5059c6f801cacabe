// Package redis starts a real Redis for tests: on a free loopback port, with
// nothing on disk.
package redis

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
)

// Server is a running Redis.
type Server struct {
	URL string // as redis://127.0.0.1:PORT

	port    string
	out     bytes.Buffer // read only when ended is closed
	process *exec.Cmd
	ended   <-chan struct{}
}

// Start starts a Redis that lives as long as the test. Under -short the test is
// skipped; where Redis cannot be started it fails (Debian: redis-server).
func Start(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("redis is a real server")
	}
	port, err := child.Port()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{URL: fmt.Sprintf("redis://127.0.0.1:%d", port), port: strconv.Itoa(port)}
	t.Cleanup(s.Kill)
	s.StartAgain(t)
	return s
}

// StartAgain starts it after Kill, empty, on the same port.
func (s *Server) StartAgain(t testing.TB) {
	t.Helper()
	s.out.Reset()
	cmd := exec.Command("redis-server", "--port", s.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &s.out, &s.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended, err := child.Start(cmd)
	if err != nil {
		t.Fatalf("starting redis-server (Debian: apt-get install redis-server): %v", err)
	}
	s.process, s.ended = cmd, ended
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if s.Do("PING") == "+PONG" {
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
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+s.port, time.Second)
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
