package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

func TestA37_WhenImagesGo(t *testing.T) {
	for _, tc := range []struct {
		used   int
		living []string
		want   string
	}{
		{79, nil, "Docker's disk is 79% full, and images stay until it is 80%"},
		{80, nil, ""},
		{100, nil, ""},
		{95, []string{"r1"}, "Docker's disk is 95% full, and a run lives: r1"},
		{95, []string{"r1", "r2"}, "Docker's disk is 95% full, and 2 runs live: r1, r2"},
		{10, []string{"r1"}, "Docker's disk is 10% full, and images stay until it is 80%"},
	} {
		if got := spared(tc.used, tc.living); got != tc.want {
			t.Errorf("%d%%, %v: %q, want %q", tc.used, tc.living, got, tc.want)
		}
	}
	now := time.Now()
	for _, tc := range []struct {
		created, named time.Duration // ago
		want           bool
	}{
		{25 * time.Hour, 365 * 24 * time.Hour, true}, {23 * time.Hour, 25 * time.Hour, false},
		{365 * 24 * time.Hour, 23 * time.Hour, false}, {365 * 24 * time.Hour, 24 * time.Hour, true},
	} {
		if got := ripe(now.Add(-tc.created), now.Add(-tc.named), now); got != tc.want {
			t.Errorf("made %v and named %v ago: %t", tc.created, tc.named, got)
		}
	}
	if used, err := usedPercent(t.TempDir()); err != nil || used < 0 || used > 100 {
		t.Errorf("this disk is %d%% full, %v", used, err)
	}
}

// A run lives while it holds its lock, or waits for its slot.
func TestA37_LivingRuns(t *testing.T) {
	dir := t.TempDir()
	living := func(want ...string) {
		t.Helper()
		got, err := livingLocks(dir)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v live, %v; want %v", got, err, want)
		}
	}
	living()
	lock, err := harness.LockRun(t.Context(), dir, "r1")
	if err != nil {
		t.Fatal(err)
	}
	living("r1")
	slot, err := harness.LockSlot(t.Context(), filepath.Join(dir, "slots"), "r1", 1, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	living("r1")
	lock.Release()
	living("r1")
	slot.Release()
	living()
	if got, err := livingLocks(filepath.Join(dir, "none")); err != nil || len(got) > 0 {
		t.Errorf("without a folder: %v, %v", got, err)
	}
}

// A37, U19: on a real Docker nothing goes but what is dangling, old and unused.
func TestA37_RealPrune(t *testing.T) {
	server := dockerd.Start(t)
	load := func(name, reference string) string {
		var root bytes.Buffer
		w := tar.NewWriter(&root)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		w.Close()
		answer, err := server.Docker.ImageImport(t.Context(), image.ImportSource{Source: &root, SourceName: "-"}, reference, image.ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer)
		answer.Close()
		if _, id, ok := strings.Cut(string(text), `"status":"`); err == nil && ok {
			return strings.TrimRight(strings.SplitN(id, `"`, 2)[0], "\r\n")
		}
		t.Fatalf("%s: %v", text, err)
		return ""
	}
	dangling, used, named := load("dangling", "old:1"), load("used", "used:1"), load("named", "named:1")
	if _, err := server.Docker.ContainerCreate(t.Context(), &container.Config{Image: "used:1", Cmd: []string{"/used"}}, nil, nil, nil, "user"); err != nil {
		t.Fatal(err)
	}
	load("dangling-2", "old:1") // takes the name away
	load("used-2", "used:1")
	there := func(id string) bool {
		_, err := server.Docker.ImageInspect(t.Context(), id)
		return err == nil
	}
	prune := func(percent int, age time.Duration, dry bool, locks string) string {
		t.Helper()
		var said []string
		p := &pruner{docker: server.Docker, dry: dry, log: slog.New(slog.DiscardHandler),
			now:  func() time.Time { return time.Now().Add(age) },
			used: func(string) (int, error) { return percent, nil },
			say:  func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
		if err := p.run(t.Context(), locks); err != nil {
			t.Fatal(err)
		}
		return strings.Join(said, "\n")
	}
	locks, held := t.TempDir(), t.TempDir()
	lock, err := harness.LockRun(t.Context(), held, "r1")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	for _, tc := range []struct {
		percent int
		age     time.Duration
		dry     bool
		locks   string
		want    string
	}{
		{79, 25 * time.Hour, false, locks, "nothing to do: Docker's disk is 79% full"},
		{90, 25 * time.Hour, false, held, "a run lives: r1"},
		{90, 23 * time.Hour, false, locks, "no image is dangling and unused for longer than"},
		{90, 25 * time.Hour, true, locks, "would remove dangling images: 1,"},
	} {
		if said := prune(tc.percent, tc.age, tc.dry, tc.locks); !strings.Contains(said, tc.want) {
			t.Errorf("it says %q, want %q", said, tc.want)
		}
		if !there(dangling) {
			t.Fatalf("%d%%, %v, %t: it removed an image", tc.percent, tc.age, tc.dry)
		}
	}
	if said := prune(90, 25*time.Hour, false, locks); !strings.Contains(said, "removed dangling images: 1,") {
		t.Errorf("it says %q", said)
	}
	if there(dangling) || !there(used) || !there(named) {
		t.Errorf("left are: dangling %t, used %t, named %t", there(dangling), there(used), there(named))
	}
	if said := prune(90, 25*time.Hour, false, locks); !strings.Contains(said, ": nothing to do") {
		t.Errorf("the second time it says %q", said)
	}
}
