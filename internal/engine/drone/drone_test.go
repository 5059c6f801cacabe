package drone

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
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
	"github.com/recipe-maintainers/cc-ci/internal/testserver/gitea"
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
	slot, err := harness.LockSlot(ctx, lockDir, job.RunID, n, nil, nil)
	must(err)
	held = slot
	_, args, _ := enginetest.Command(job)
	os.Args = append(os.Args[:1], args...)
}

var held *harness.Slot // or the garbage collector would close its files

// pipeline is this repository's .drone.yml with another program and limit.
func pipeline(t testing.TB, place string, capacity int) string {
	t.Helper()
	shipped, err := os.ReadFile("../../../.drone.yml")
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := string(shipped)
	for old, with := range map[string]string{
		"cc-ci run --job-env CCCI_JOB --parent": fmt.Sprintf("%s %s %s %d", exe, stepArg, place, capacity),
		"limit: 1":                              fmt.Sprintf("limit: %d", capacity),
	} {
		if strings.Count(text, old) != 1 {
			t.Fatalf(".drone.yml has %q %d times", old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, with, 1)
	}
	return text
}

// world is one Drone, with a repository for each place.
type world struct {
	*dronetest.Server
	mu    sync.Mutex
	repos map[string]ccci.RepoRef // by place
}

func newWorld(t *testing.T) *world {
	return &world{
		Server: dronetest.Start(t, gitea.Start(t), dronetest.Options{Capacity: 4, Environ: map[string]string{"GORACE": "atexit_sleep_ms=0"}}),
		repos:  map[string]ccci.RepoRef{},
	}
}

var counter atomic.Int64

// repo returns the repository of a place, which is made the first time.
func (w *world) repo(t testing.TB, place string, capacity int) ccci.RepoRef {
	w.mu.Lock()
	defer w.mu.Unlock()
	repo, ok := w.repos[place]
	if !ok {
		repo = w.AddRepository(fmt.Sprintf("ccci-%d-%d", os.Getpid(), counter.Add(1)), pipeline(t, place, capacity))
		w.repos[place] = repo
	}
	return repo
}

func (w *world) options(t testing.TB, place string, capacity int) Options {
	return Options{
		URL: w.URL, Token: w.Token, Repo: w.repo(t, place, capacity), Poll: 100 * time.Millisecond,
		Host: func(_ context.Context, run ccci.RunID) (Presence, error) {
			p, err := harness.LookForRun(place, run)
			return map[harness.Presence]Presence{harness.Absent: Absent, harness.Waiting: Waiting, harness.Working: Working}[p], err
		},
		End:    func(_ context.Context, run ccci.RunID, kill bool) error { return harness.EndRun(place, run, kill) },
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

// TestDrone runs all that needs the real servers, on one of each.
func TestDrone(t *testing.T) {
	w := newWorld(t)
	t.Run("Conformance", func(t *testing.T) {
		enginetest.Run(t, enginetest.Options{
			Open: func(t *testing.T, place string, capacity int) enginetest.Subject {
				e, stop := open(t, w.options(t, place, capacity))
				return enginetest.Subject{Engine: e, Stop: stop}
			},
			LogEndsWithCancel: true,
		})
	})
	for _, test := range []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"A9_TriggerToStep", testTrigger},
		{"A13_Pipelines", testPipelines},
		{"N3_PinnedPipeline", testPinned},
		{"A16_TimeOutIsSet", testTimeOutIsSet},
		{"A16_DronesOwnTimeOut", testTimeOut},
		{"A16_GraceEndsInKill", testGrace},
		{"N2_StartAfterACrash", testStartAfterCrash},
		{"N2_SecondBuildIsCancelled", testSecondBuild},
		{"U17_NothingComesInByParameters", testParameters},
		{"A15_CancelOfAWaitingHarness", testCancelWaiting},
		{"N5_CancelThatNobodyHears", testCancelUnheard},
		{"U12_DroneDiesUnderTheRun", testServerDies},
		{"U12_RunnerDiesUnderTheRun", testRunnerDies},
		{"P19_LogsThroughAFaultyProxy", testFaultyLogs},
		{"N2_EverythingThroughAFaultyProxy", testFaulty},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, w) })
	}
}
