package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	holdDir = "CCCI_TEST_HOLD_DIR"
	holdRun = "CCCI_TEST_HOLD_RUN"
)

// The test binary is also the process that holds a lock and is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(holdDir); dir != "" {
		_, err := LockRun(context.Background(), dir, ccci.RunID(os.Getenv(holdRun)))
		fmt.Println("held", err)
		io.Copy(io.Discard, os.Stdin) // until killed, or the test is gone
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold starts another process that holds a run's lock.
func hold(t *testing.T, dir string, run ccci.RunID) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdDir+"="+dir, holdRun+"="+string(run))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held <nil>\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

func TestU11_KernelFreesTheLockOfAKilledRun(t *testing.T) {
	dir, run := t.TempDir(), ccci.RunID("261121-030405-abcdef")
	other := hold(t, dir, run)

	if _, ok, err := TryLockRun(dir, run); ok || err != nil {
		t.Fatalf("took a lock that another process holds: %v, %v", ok, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrCancelled)
	_, err := LockRun(ctx, dir, run)
	if ccci.CodeOf(err) != ccci.CodeConflict || !errors.Is(err, ErrCancelled) || ccci.HintOf(err) == "" {
		t.Errorf("waiting in vain: %v (%s)", err, ccci.CodeOf(err))
	}
	if another, ok, err := TryLockRun(dir, "261121-030405-000000"); !ok || err != nil {
		t.Errorf("the lock of another run: %v, %v", ok, err)
	} else {
		another.Release()
	}

	kill(t, other)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	lock, err := LockRun(ctx, dir, run)
	if err != nil {
		t.Fatalf("after kill -9: %v", err)
	}
	lock.Release()
	lock.Release() // legal twice
	if again, ok, err := TryLockRun(dir, run); !ok || err != nil {
		t.Errorf("after the release: %v, %v", ok, err)
	} else {
		again.Release()
	}
}

func TestU11_LockFolderThatCannotBeMade(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := TryLockRun(file, "x"); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("%v", err)
	}
}

// reaped is a daemon with apps on it, and a proxy with their routes.
type reaped struct {
	apps     []App
	listing  error
	remove   map[string]error // by stack name
	unroute  map[string]error
	removed  []string
	unrouted []string
	during   func(App)
}

func (r *reaped) Apps(context.Context) ([]App, error) { return r.apps, r.listing }
func (r *reaped) Remove(_ context.Context, app App) (map[string]int, error) {
	if r.during != nil {
		r.during(app)
	}
	r.removed = append(r.removed, app.StackName)
	return map[string]int{"service": 2}, r.remove[app.StackName]
}
func (r *reaped) Unroute(_ context.Context, stack string) error {
	r.unrouted = append(r.unrouted, stack)
	return r.unroute[stack]
}

func TestA20_JanitorReapsTheDeadAndSparesTheLiving(t *testing.T) {
	dir := t.TempDir()
	const dead, living, broken, later = "261121-010000-aaaaaa", "261121-020000-bbbbbb", "261121-000000-cccccc", "261121-030000-dddddd"
	killed := hold(t, dir, dead)
	hold(t, dir, living)
	kill(t, killed) // a run that had no time to tear down
	daemon := &reaped{
		apps: []App{
			{RunID: later, StackName: "later"}, {RunID: living, StackName: "living"}, {RunID: dead, StackName: "dead"},
			{RunID: dead}, // objects that belong to no stack
			{RunID: broken, StackName: "broken"},
		},
		remove: map[string]error{"broken": errors.New("volume is in use")},
	}
	daemon.during = func(app App) {
		if _, ok, err := TryLockRun(dir, app.RunID); ok || err != nil {
			t.Errorf("%s is removed without its lock: %v, %v", app.StackName, ok, err)
		}
	}
	done, err := Reap(t.Context(), dir, daemon, daemon, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), broken) || !strings.Contains(err.Error(), "volume is in use") {
		t.Errorf("the error does not name run and reason: %v", err)
	}
	if want := []string{"broken", "dead", "", "later"}; !slices.Equal(daemon.removed, want) {
		t.Errorf("removed %q, want %q: the living are spared, an error ends nothing", daemon.removed, want)
	}
	if want := []string{"broken", "dead", "later"}; !slices.Equal(daemon.unrouted, want) {
		t.Errorf("unrouted %q, want %q", daemon.unrouted, want)
	}
	var got []string
	for _, r := range done {
		got = append(got, fmt.Sprintf("%s held=%v services=%d", r.RunID, r.Held, r.Removed["service"]))
	}
	want := []string{dead + " held=false services=4", living + " held=true services=0", later + " held=false services=2"}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestA20_JanitorTellsWhatItCannotDo(t *testing.T) {
	gone := errors.New("the daemon is gone")
	if _, err := Reap(t.Context(), t.TempDir(), &reaped{listing: gone}, &reaped{}, slog.New(slog.DiscardHandler)); !errors.Is(err, gone) {
		t.Errorf("listing: %v", err)
	}
	daemon := &reaped{apps: []App{{RunID: "r", StackName: "s"}}, unroute: map[string]error{"s": gone}}
	if _, err := Reap(t.Context(), t.TempDir(), daemon, daemon, slog.New(slog.DiscardHandler)); !errors.Is(err, gone) || len(daemon.removed) != 0 {
		t.Errorf("unrouting: %v, removed %q", err, daemon.removed)
	}
}
