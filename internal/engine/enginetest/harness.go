package enginetest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const harnessArg = "enginetest-harness"

// patience bounds every wait for something that must happen.
const patience = 90 * time.Second // Drone hands a build on within a minute

// Command says how to start the suite's harness for a job: it is the test binary
// itself, which obeys the test over a socket (the job's CloneURL).
func Command(job ccci.Job) (path string, args, env []string) {
	exe, err := os.Executable()
	if err != nil {
		panic(fmt.Sprintf("the test binary has no path: %v", err))
	}
	return exe, []string{harnessArg, job.CloneURL, string(job.RunID)},
		[]string{"GORACE=atexit_sleep_ms=0"} // else each end takes a second under the race detector
}

// ServeHarness must be the first call of TestMain. Where this process was started
// by [Command] it acts as the harness and never returns.
func ServeHarness() {
	if len(os.Args) != 4 || os.Args[1] != harnessArg {
		return
	}
	conn, err := net.Dial("unix", os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "the test is gone:", err)
		os.Exit(99)
	}
	terms := make(chan os.Signal, 8)
	signal.Notify(terms, syscall.SIGTERM)
	fmt.Fprintf(conn, "hello %s %d\n", os.Args[3], os.Getpid())
	go func() {
		for range terms {
			fmt.Fprintln(conn, "term")
		}
	}()
	orders := bufio.NewScanner(conn)
	for orders.Scan() {
		verb, rest, _ := strings.Cut(orders.Text(), " ")
		switch verb {
		case "print":
			fmt.Println(rest)
		case "complain":
			fmt.Fprintln(os.Stderr, rest)
		case "env":
			fmt.Println(strings.Join(os.Environ(), "\n"))
		case "child": // a process that ignores the request to end
			child := exec.Command(os.Args[0], harnessArg, os.Args[2], "child-of-"+os.Args[3])
			if err := child.Start(); err != nil {
				fmt.Println(err)
			}
		case "exit":
			code, _ := strconv.Atoi(rest)
			os.Exit(code)
		}
		fmt.Fprintln(conn, "did "+verb)
	}
	os.Exit(99) // the test is gone
}

// Stage is where a test meets the harnesses that the engine starts.
type Stage struct {
	t        testing.TB
	listener *net.UnixListener
	path     string
	jobs     int
}

// NewStage opens a stage.
func NewStage(t testing.TB) *Stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "stage") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return &Stage{t: t, listener: listener, path: path}
}

// Job returns a new job whose harness comes to this stage.
func (s *Stage) Job() ccci.Job {
	s.jobs++
	return ccci.Job{
		RunID:    ccci.RunID(fmt.Sprintf("260301-1200%02d-aaaaaa", s.jobs)),
		Recipe:   "pocketbase",
		Commit:   "0123456789abcdef0123456789abcdef01234567",
		CloneURL: s.path,
		Deadline: 10 * time.Minute,
	}
}

// Actor is one harness process.
type Actor struct {
	t    testing.TB
	conn net.Conn
	said *bufio.Reader
	Name string // the run id it was started for
	PID  int
}

// Next waits for the next harness.
func (s *Stage) Next() *Actor {
	s.t.Helper()
	s.listener.SetDeadline(time.Now().Add(patience))
	conn, err := s.listener.Accept()
	if err != nil {
		s.t.Fatalf("no harness was started: %v", err)
	}
	s.t.Cleanup(func() { conn.Close() })
	a := &Actor{t: s.t, conn: conn, said: bufio.NewReader(conn)}
	if _, err := fmt.Sscanf(a.hear(), "hello %s %d", &a.Name, &a.PID); err != nil {
		s.t.Fatalf("a harness introduced itself badly: %v", err)
	}
	return a
}

// NextFor waits for the next harness, which must be that of job.
func (s *Stage) NextFor(job ccci.Job) *Actor {
	s.t.Helper()
	a := s.Next()
	if a.Name != string(job.RunID) {
		s.t.Fatalf("the harness of %s was started, want that of %s", a.Name, job.RunID)
	}
	return a
}

func (a *Actor) hear() string {
	a.t.Helper()
	a.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := a.said.ReadString('\n')
	if err != nil {
		a.t.Fatalf("the harness %s %d said nothing more: %v", a.Name, a.PID, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// Do makes the harness do something, and waits until it did.
func (a *Actor) Do(order string) {
	a.t.Helper()
	fmt.Fprintln(a.conn, order)
	verb, _, _ := strings.Cut(order, " ")
	got := a.hear()
	for got == "term" { // it may be asked more than once, for example by each dying thread of its parent
		got = a.hear()
	}
	if got != "did "+verb {
		a.t.Fatalf("told to %q, the harness said %q", order, got)
	}
}

// Exit makes the harness end.
func (a *Actor) Exit(code int) {
	a.t.Helper()
	fmt.Fprintln(a.conn, "exit", code)
	a.Gone()
}

// AskedToEnd waits for SIGTERM.
func (a *Actor) AskedToEnd() {
	a.t.Helper()
	if got := a.hear(); got != "term" {
		a.t.Fatalf("the harness said %q, want SIGTERM", got)
	}
}

// Gone waits until the process has ended.
func (a *Actor) Gone() {
	a.t.Helper()
	a.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		_, err := a.said.ReadString('\n')
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			a.t.Fatalf("the process %d did not end", a.PID)
		}
		if err != nil {
			return
		}
	}
}
