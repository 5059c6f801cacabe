package harness

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

// world stands in for the daemon, the proxy, the backup and the browser: an app
// in memory, whose one volume keeps what is copied into it. The order of stages
// and what a run does about a failure need no daemon; the real ones are tested
// with the adapters and end to end.
type world struct {
	mu     sync.Mutex
	events []string                // every operation, as it begins
	on     map[string]func() error // what an operation does instead of succeeding
	up     bool                    // the app answers
	stack  *recipe.Stack           // what is deployed
	files  map[string][]byte       // of the app's volume
	saved  map[string][]byte       // the snapshot
	left   Snapshot                // what a second look finds
	looks  int
	logs   string
	unread error // why there are none

	plan     func(*recipe.Stack) BackupPlan // nil: the volume data as a whole
	stored   map[string]int                 // what the snapshot has of each volume; nil: 2 entries of data
	status   int                            // of every page in the browser; 0: 200
	answer   func(*http.Request) (status int, location string)
	unrouted [2]string // why no router matches, and the way out
	behind   error     // why nothing listens behind the proxy
	lowered  []string  // what the deployer lowers
	exceeded chan error
}

func newWorld() *world { return &world{on: map[string]func() error{}, files: map[string][]byte{}} }

// did records an operation and says how it ends.
func (w *world) did(format string, args ...any) error {
	event := fmt.Sprintf(format, args...)
	w.mu.Lock()
	w.events = append(w.events, event)
	end := w.on[event]
	w.mu.Unlock()
	if end == nil {
		return nil
	}
	return end()
}

func (w *world) fail(event string, err error) { w.on[event] = func() error { return err } }

// count says how often an operation took place.
func (w *world) count(event string) (n int) {
	for _, e := range w.events {
		if e == event {
			n++
		}
	}
	return n
}

type worldDeployer struct {
	Deployer // a method that a test does not know ends it
	*world
}

func kindOf(stack *recipe.Stack) string {
	if stack.Version == "0.1.0+1.0.0" {
		return "base"
	}
	return "head"
}

func (d worldDeployer) Snapshot(context.Context) (Snapshot, error) {
	err := d.did("snapshot")
	if d.looks++; d.looks > 1 {
		return d.left, err
	}
	return nil, err
}

func (d worldDeployer) Prepare(context.Context) { _ = d.did("prepare daemon") }

// worldDigest is that of every image.
var worldDigest = "sha256:" + strings.Repeat("d", 64)

func (d worldDeployer) Pull(_ context.Context, stack *recipe.Stack) ([]ccci.Image, error) {
	return []ccci.Image{{Service: "app", Reference: kindOf(stack), Digest: worldDigest}}, d.did("pull %s", kindOf(stack))
}

func (d worldDeployer) Limits(context.Context, *recipe.Stack) (map[string]string, []string, error) {
	return map[string]string{"app": "memory 1GiB"}, d.lowered, nil
}

func (d worldDeployer) New(_ context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) error {
	return errors.Join(d.did("new"), declared(stack, secrets))
}

func (d worldDeployer) AddSecrets(_ context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) error {
	return errors.Join(d.did("add secrets"), declared(stack, secrets))
}

// declared refuses values for what a stack does not declare, as the port says.
func declared(stack *recipe.Stack, secrets map[string]ccci.Secret) error {
	for key := range secrets {
		if !slices.ContainsFunc(stack.Secrets, func(s recipe.Secret) bool { return s.Key == key }) {
			return ccci.Errorf(ccci.CodeInvalid, "a value was given for secret %q, which the stack does not declare", key)
		}
	}
	return nil
}

func (d worldDeployer) Deploy(_ context.Context, stack *recipe.Stack) error {
	d.stack, d.up = stack, true
	return d.did("deploy %s", kindOf(stack))
}

func (d worldDeployer) Converge(context.Context, *recipe.Stack) error { return d.did("converge") }

func (d worldDeployer) Settle(context.Context, *recipe.Stack) error { return d.did("settle") }

func (d worldDeployer) Label(_ context.Context, _ *recipe.Stack, service, label string) (string, error) {
	for _, s := range d.stack.Config.Services {
		if s.Name == service {
			return s.Deploy.Labels[label], d.did("label")
		}
	}
	return "", d.did("label")
}

func (d worldDeployer) CopyIn(_ context.Context, stack *recipe.Stack, service string, files map[string][]byte) error {
	for path, text := range files {
		d.files[inVolume(stack, service, path)] = text
	}
	return d.did("copy in")
}

func (d worldDeployer) CopyOut(_ context.Context, stack *recipe.Stack, service, path string, _ int64) ([]byte, error) {
	text, ok := d.files[inVolume(stack, service, path)]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, ccci.ErrNotFound)
	}
	return text, d.did("copy out")
}

// inVolume is where the world has a file that a service sees at a path: below /<key of the volume>.
func inVolume(stack *recipe.Stack, service, path string) string {
	for _, s := range stack.Config.Services {
		for _, v := range s.Volumes {
			if rest, ok := strings.CutPrefix(path, v.Target+"/"); ok && s.Name == service {
				return "/" + v.Source + "/" + rest
			}
		}
	}
	return "in the container: " + path
}

func (d worldDeployer) Logs(_ context.Context, _ *recipe.Stack, take func(LogPiece) error) error {
	if err := d.did("logs"); err != nil {
		return err
	}
	if d.unread != nil {
		return take(LogPiece{Service: "app", Container: "c0", Err: d.unread})
	}
	return take(LogPiece{Service: "app", Container: "c0", Text: []byte(d.logs)})
}

func (d worldDeployer) Dial(_ context.Context, _ *recipe.Stack, service string, port int) (io.ReadWriteCloser, error) {
	if err := errors.Join(d.did("dial %s:%d", service, port), d.behind); err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
			fmt.Fprint(theirs, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}
	}()
	return ours, nil
}

func (d worldDeployer) PeakMemory() int64 { return 7 << 20 }

func (d worldDeployer) Exceeded() <-chan error { return d.exceeded }

func (d worldDeployer) Remove(context.Context, App) (map[string]int, error) {
	d.up = false
	return map[string]int{"service": 1}, d.did("remove")
}

type worldRouter struct{ *world }

func (r worldRouter) Route(_ context.Context, stack *recipe.Stack) error {
	return r.did("route %s", kindOf(stack))
}
func (r worldRouter) Unroute(context.Context, string) error { return r.did("unroute") }
func (r worldRouter) Unrouted(*recipe.Stack, string, string) (why, hint string) {
	return r.unrouted[0], r.unrouted[1]
}
func (r worldRouter) Transport() http.RoundTripper { return r }

// RoundTrip answers as the app does for its own name and as a proxy does for any other.
func (r worldRouter) RoundTrip(req *http.Request) (*http.Response, error) {
	status, body := http.StatusNotFound, "no such host"
	if r.up && !strings.HasPrefix(req.URL.Host, "nobody-") {
		status, body = http.StatusOK, "hello"
		if err := r.did("request"); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	if r.unrouted[0] != "" {
		status, body = http.StatusNotFound, "no such host"
	} else if r.up && r.answer != nil {
		var location string
		if status, location = r.answer(req); location != "" {
			header.Set("Location", location)
		}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

type worldBackup struct{ *world }

func (b worldBackup) Plan(stack *recipe.Stack) (BackupPlan, error) {
	err := b.did("plan")
	if b.plan != nil {
		return b.plan(stack), err
	}
	return BackupPlan{Enabled: true, Volumes: []BackupVolume{{Key: "data", Name: "data"}}}, err
}
func (b worldBackup) Prepare(context.Context) error { return b.did("prepare") }
func (b worldBackup) Create(_ context.Context, stack *recipe.Stack) (string, error) {
	b.saved = map[string][]byte{}
	plan := BackupPlan{Volumes: []BackupVolume{{Key: "data"}}}
	if b.plan != nil {
		plan = b.plan(stack)
	}
	for path, text := range b.files {
		for _, v := range plan.Volumes {
			if strings.HasPrefix(path, "/"+v.Key+"/") && len(v.Paths) == 0 {
				b.saved[path] = text
			}
		}
	}
	return "snap", b.did("backup")
}
func (b worldBackup) Inspect(context.Context, string, []string) (SnapshotContent, error) {
	err := b.did("inspect")
	if err != nil && err.Error() == "a problem" {
		return SnapshotContent{Problems: []string{"data/dump is empty"}}, nil
	}
	if b.stored != nil {
		return SnapshotContent{Stored: b.stored}, err
	}
	return SnapshotContent{Stored: map[string]int{"data": 2}}, err
}
func (b worldBackup) Restore(context.Context, *recipe.Stack, string) error {
	if err := b.did("restore"); err != nil && err.Error() == "does nothing" {
		return nil
	} else if err != nil {
		return err
	}
	maps.Copy(b.files, b.saved)
	return nil
}
func (b worldBackup) Close(context.Context) error { return b.did("close backup") }

type worldBrowser struct{ *world }

func (b worldBrowser) Page(context.Context) (checks.Page, error) {
	return worldPage{world: b.world}, nil
}

func (b worldBrowser) Refused() []string { return nil }

type worldPage struct {
	checks.Page // as with the deployer
	*world
}

func (p worldPage) Open(context.Context, string) error                   { return p.did("open page") }
func (p worldPage) See(context.Context, string) error                    { return p.did("see") }
func (p worldPage) Visible(context.Context) (string, error)              { return "hello", nil }
func (p worldPage) Screenshot(context.Context, []string) ([]byte, error) { return picture(false), nil }
func (p worldPage) Status(context.Context) (int, error)                  { return cmp.Or(p.status, 200), nil }
func (p worldPage) Close()                                               {}

// picture draws a small PNG, of one colour or of two.
func picture(plain bool) []byte {
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	if !plain {
		img.Set(8, 8, color.White)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// example makes the repository of a recipe with one release and a head.
func example(t testing.TB) (repo string, head ccci.Commit) {
	t.Helper()
	repo, err := examples.Materialise(t.TempDir(), "canary-good")
	if err != nil {
		t.Fatal(err)
	}
	branch, err := examples.UpgradeBranch("canary-good")
	if err != nil {
		t.Fatal(err)
	}
	return repo, ccci.Commit(gitOut(t, repo, "rev-parse", branch))
}

func gitOut(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=ci", "-c", "user.email=ci@example.org"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// config is a whole run of the example in the world.
func (w *world) config(t testing.TB, repo string, head ccci.Commit) Config {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	return Config{
		Job: ccci.Job{
			RunID: "261121-030405-abcdef", Recipe: "canary-good", Commit: head, CloneURL: repo, BaseRef: "main",
		},
		Settings: enrol.Default("canary-good"),
		CIDomain: "ci.example.org", Network: "proxy",
		WorkDir: filepath.Join(dir, "work"), OutDir: out, LockDir: filepath.Join(dir, "locks"), Version: "test",
		Deployer: worldDeployer{world: w}, Router: worldRouter{w}, Backup: worldBackup{w},
		Browser: func(context.Context, *checks.Hosts) (checks.Browser, func(), error) {
			return worldBrowser{w}, func() { w.did("stop browser") }, w.did("start browser")
		},
		Log: io.Discard, Censor: &censor.Censor{}, Now: time.Now, Rand: countingReader{},
	}
}

// countingReader gives the same bytes in every test.
type countingReader struct{}

func (countingReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i*7 + len(p))
	}
	return len(p), nil
}

// without leaves out operations that may come at any time or often.
func without(events []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(events), func(e string) bool { return slices.Contains(names, e) })
}
