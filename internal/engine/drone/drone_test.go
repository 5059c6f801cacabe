package drone

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/engine/enginetest"
	dronetest "github.com/recipe-maintainers/cc-ci/internal/testserver/drone"
)

const stepArg = "drone-step"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == stepArg {
		serveStep(os.Args[2], os.Args[3], os.Args[4])
	}
	enginetest.ServeHarness()
	os.Exit(m.Run())
}

// serveStep does in a step of Drone's what "cc-ci run --job-env" does before the
// run, and makes this process the suite's harness.
func serveStep(lockDir, capacity, parent string) {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "the step:", err)
			os.Exit(98)
		}
	}
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	must(unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0))
	if strconv.Itoa(os.Getppid()) != parent {
		must(fmt.Errorf("the parent is %d, and was %s", os.Getppid(), parent))
	}
	job, err := DecodeJob(os.Getenv(JobVariable))
	must(err)
	n, err := strconv.Atoi(capacity)
	must(err)
	slot, err := harness.LockSlot(ctx, lockDir, job.RunID, n)
	must(err)
	held = slot
	_, args, _ := enginetest.Command(job)
	os.Args = append(os.Args[:1], args...)
}

var held *harness.Slot // or the garbage collector would close its files

// pipeline is .drone.yml of the tests; like the shipped one, but for the program.
func pipeline(place string, capacity int) string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`kind: pipeline
type: exec
name: recipe-ci
platform: {os: linux, arch: amd64}
clone: {disable: true}
concurrency: {limit: %d}
trigger: {event: [custom]}
steps:
  - name: run
    commands:
      - %s %s %s %d $$$$ || exit $?
`, capacity, exe, stepArg, place, capacity)
}

// shared is one Drone for all tests of the package that leave it alone.
type world struct {
	*dronetest.Server
	mu    sync.Mutex
	repos map[string]ccci.RepoRef // by place
}

func newWorld(t *testing.T) *world {
	if testing.Short() {
		t.Skip("Drone is a real server")
	}
	return &world{
		Server: dronetest.Start(t, testGitea(t), dronetest.Options{Capacity: 4, Environ: map[string]string{"GORACE": "atexit_sleep_ms=0"}}),
		repos:  map[string]ccci.RepoRef{},
	}
}

var counter atomic.Int64

// repo returns the repository of a place, which is made the first time.
func (w *world) repo(place string, capacity int) ccci.RepoRef {
	w.mu.Lock()
	defer w.mu.Unlock()
	repo, ok := w.repos[place]
	if !ok {
		repo = w.AddRepository(fmt.Sprintf("ccci-%d-%d", os.Getpid(), counter.Add(1)), pipeline(place, capacity))
		w.repos[place] = repo
	}
	return repo
}

func (w *world) options(t testing.TB, place string, capacity int) Options {
	return Options{
		URL: w.URL, Token: w.Token, Repo: w.repo(place, capacity), Poll: 100 * time.Millisecond,
		Host: func(_ context.Context, run ccci.RunID) (Presence, error) {
			p, err := harness.LookForRun(place, run)
			return map[harness.Presence]Presence{harness.Absent: Absent, harness.Waiting: Waiting, harness.Working: Working}[p], err
		},
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// open makes an engine and lets it look after its builds until stop.
func open(t *testing.T, opts Options) (e *Engine, stop func()) {
	t.Helper()
	e, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); e.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return e, stop
}

func TestConformance(t *testing.T) {
	w := newWorld(t)
	enginetest.Run(t, enginetest.Options{
		Open: func(t *testing.T, place string, capacity int) enginetest.Subject {
			e, stop := open(t, w.options(t, place, capacity))
			return enginetest.Subject{Engine: e, Stop: stop}
		},
		LogEndsWithCancel: true,
	})
}

func testGitea(t *testing.T) dronetest.Gitea {
	return dronetest.Gitea{URL: os.Getenv("CCCI_TEST_GITEA"), User: "cibot", Password: "secret-123"}
}

var _ = strings.Contains
var _ = http.MethodGet
var _ = filepath.Join
