package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/recipe-maintainers/cc-ci/internal/box"
	"github.com/recipe-maintainers/cc-ci/internal/browser"
	"github.com/recipe-maintainers/cc-ci/internal/demoimages"
	"github.com/recipe-maintainers/cc-ci/tests"
)

// network is the one that proxy and apps share by hand.
const network = "proxy"

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	printTable()
	if err := machine.close(); err != nil {
		fmt.Fprintln(os.Stderr, "cleaning up:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// row is one figure of the table.
type row struct{ figure, ours, reference, ratio, bar, ok string }

var table []row

// verdict adds a row and fails the benchmark when the bar is missed.
func verdict(b *testing.B, ok bool, r row) {
	b.Helper()
	r.ok = "yes"
	if !ok {
		r.ok = "NO"
		b.Errorf("%s: %s, the bar is %s (reference %s, ratio %s)", r.figure, r.ours, r.bar, r.reference, r.ratio)
	}
	table = append(table, r)
}

func printTable() {
	if len(table) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nfigure\tours\treference\tratio\tbar\tok?")
	for _, r := range table {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.figure, r.ours, r.reference, r.ratio, r.bar, r.ok)
	}
	w.Flush()
	fmt.Printf("load of the machine at the end: %s\n", load())
}

// load is the kernel's load average, with which the absolute figures must be read.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}

// machine is what the benchmarks share: a daemon, the built program, images.
var machine world

type world struct {
	once    sync.Once
	err     error
	dir     string
	docker  *client.Client
	program string // bin/cc-ci as it is shipped
	restic  string
	box     string // the helper image that this program makes
	chrome  string
	tests   string // the enrolments
	undo    []func(context.Context) error
}

func ready(b *testing.B) *world {
	b.Helper()
	machine.once.Do(func() { machine.err = machine.open(context.Background()) })
	if machine.err != nil {
		b.Fatal(machine.err)
	}
	return &machine
}

func (w *world) open(ctx context.Context) (err error) {
	if w.docker, err = client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()); err != nil {
		return err
	}
	if _, err := w.docker.Ping(ctx); err != nil {
		return fmt.Errorf("asking for the Docker daemon (make bench starts one): %w", err)
	}
	if w.restic, err = exec.LookPath("restic"); err != nil {
		return err
	}
	if w.chrome, err = browser.Find(); err != nil {
		return err
	}
	if w.dir, err = os.MkdirTemp("", "cc-ci-bench-"); err != nil {
		return err
	}
	w.undo = append(w.undo, func(context.Context) error { return os.RemoveAll(w.dir) })
	w.program = filepath.Join(w.dir, "cc-ci")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", w.program, "./cmd/cc-ci")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building cc-ci: %w\n%s", err, out)
	}
	w.tests = filepath.Join(w.dir, "tests")
	if err := tests.Materialise(w.tests); err != nil {
		return err
	}
	if w.box, err = box.Ensure(ctx, w.docker, w.program, w.restic); err != nil {
		return err
	}
	w.undo = append(w.undo, func(ctx context.Context) error {
		_, err := w.docker.ImageRemove(ctx, w.box, image.RemoveOptions{PruneChildren: true})
		return err
	})
	say := func(line string) { fmt.Println(line) }
	if err := demoimages.Ensure(ctx, w.docker, demoimages.Options{Only: []string{"miniflux", "postgres", "wordpress", "mariadb", "tinyapp"}, Out: say}); err != nil {
		return err
	}
	// The scripts by hand have one network for the proxy and all apps, as operators have.
	_, err = w.docker.NetworkCreate(ctx, network, dockernetwork.CreateOptions{Driver: "overlay", Attachable: true})
	if cerrdefs.IsConflict(err) { // the machine has one: it stays
		return nil
	}
	if err == nil {
		w.undo = append(w.undo, func(ctx context.Context) error { return w.removeNetwork(ctx) })
	}
	return err
}

// removeNetwork retries while the daemon frees the last endpoints.
func (w *world) removeNetwork(ctx context.Context) error {
	return await(ctx, 200*time.Millisecond, func() (bool, error) {
		err := w.docker.NetworkRemove(ctx, network)
		return err == nil || client.IsErrNotFound(err), nil
	})
}

func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, undo := range slices.Backward(w.undo) {
		errs = append(errs, undo(ctx))
	}
	return errors.Join(errs...)
}

// config writes a configuration with a data folder of its own.
func (w *world) config(b *testing.B, more string) (path, data string) {
	b.Helper()
	dir, err := os.MkdirTemp(w.dir, "instance-")
	if err != nil {
		b.Fatal(err)
	}
	path, data = filepath.Join(dir, "cc-ci.yml"), filepath.Join(dir, "data")
	text := fmt.Sprintf("data: %q\ntests: %q\nlisten: 127.0.0.1:0\nlog: warn\n%s", data, w.tests, more)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	return path, data
}

// await looks until it holds, an error comes, or ctx ends.
func await(ctx context.Context, every time.Duration, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(every):
		}
	}
}

func median[T time.Duration | float64](all []T) T {
	in := slices.Sorted(slices.Values(all))
	n := len(in)
	if n%2 == 1 {
		return in[n/2]
	}
	return (in[n/2-1] + in[n/2]) / 2
}

func sorted(all []time.Duration) []time.Duration { return slices.Sorted(slices.Values(all)) }

func quantile(ordered []time.Duration, q float64) time.Duration {
	return ordered[min(int(q*float64(len(ordered))), len(ordered)-1)]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func list(all []time.Duration) string {
	var words []string
	for _, d := range all {
		words = append(words, fmt.Sprintf("%.2f", d.Seconds()))
	}
	return strings.Join(words, " ")
}
