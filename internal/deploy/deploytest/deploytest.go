// Package deploytest is the conformance suite of harness.Deployer.
//
// An adapter's test is a dozen lines: it makes a Deployer, hands over the few things
// that the port does not offer (see [Daemon]) and calls [Run]. Every case deploys
// a real, tiny app on the real daemon, under a stack name of its own, and
// removes it.
package deploytest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Daemon is what the suite does behind the Deployer's back.
type Daemon struct {
	// Import makes an image from a tar of its root file system.
	Import func(ctx context.Context, reference string, rootfs io.Reader) error
	// RemoveImage removes an image.
	RemoveImage func(ctx context.Context, reference string) error
	// Volume makes a volume, as something that an app might leave over.
	Volume func(ctx context.Context, name string, labels map[string]string) error
	// RemoveVolume removes a volume; that it is not there is no error.
	RemoveVolume func(ctx context.Context, name string) error
	// Kill kills every running container of a service without telling swarm.
	Kill func(ctx context.Context, service string) error
}

// Options say what an adapter's Deployer can be tested for.
type Options struct {
	Daemon  Daemon
	Network string // the external network that recipes name towards the proxy
	// Held makes a Deployer whose daemon keeps a request; nil skips what needs one.
	Held func(t *testing.T, run ccci.RunID, kind string) Held
}

// Maker returns a fresh Deployer for the run. It should look often and wait
// little, so that failures are seen within seconds.
type Maker func(t *testing.T, run ccci.RunID) harness.Deployer

// suite is what the cases share: two versions of the tiny app's image.
type suite struct {
	Options
	make  Maker
	image string
}

// Run runs every case against Deployers from mk.
func Run(t *testing.T, mk Maker, o Options) {
	s := &suite{Options: o, make: mk, image: BuildImage(t, o.Daemon)}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // the time goes into waiting for swarm
			c.run(t, s)
		})
	}
}

type testcase struct {
	name string
	run  func(t *testing.T, s *suite)
}

// cases is the contract, one sentence each; the names carry the numbers of the
// statements that they prove.
var cases = slices.Concat(lifeCases, failureCases, removalCases, confinementCases)

// RootFS compiles the tiny app (testdata/tinyapp says what it can do) and returns the files of its image as a tar.
func RootFS(t testing.TB) *bytes.Buffer {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "app")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest/testdata/tinyapp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the tiny app: %v\n%s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var rootfs bytes.Buffer
	w := tar.NewWriter(&rootfs)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "data/", Mode: 0o777},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o777},
		{Typeflag: tar.TypeReg, Name: "app", Mode: 0o755, Size: int64(len(program))},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &rootfs
}

// BuildImage imports the tiny app under a name of this test, and removes it at the end. No registry is
// asked for the name.
func BuildImage(t testing.TB, d Daemon) string {
	t.Helper()
	image := recipe.LocalRegistry + "/deploytest-" + random(t) + ":1"
	if err := d.Import(t.Context(), image, RootFS(t)); err != nil {
		t.Fatalf("importing the tiny app: %v", err)
	}
	t.Cleanup(func() {
		if err := d.RemoveImage(context.Background(), image); err != nil {
			t.Errorf("removing the tiny app's image: %v", err)
		}
	})
	return image
}

func random(t testing.TB) string {
	t.Helper()
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[:])
}

// app is one case's app on the daemon.
type app struct {
	t *testing.T
	*suite
	harness.Deployer
	harness.App
	dir string
}

// newApp makes a Deployer and a stack name, and removes the app at the end of the case.
func (s *suite) newApp(t *testing.T) *app {
	t.Helper()
	id := random(t)
	run := ccci.RunID("010203-040506-" + id[:6])
	a := &app{t: t, suite: s, Deployer: s.make(t, run), dir: t.TempDir()}
	a.App = harness.App{RunID: run, StackName: "dt" + id + "_ci_test"}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
		defer cancel()
		if _, err := a.Remove(ctx, a.App); err != nil {
			t.Errorf("removing the app at the end: %v", err)
		}
	})
	return a
}

// stack loads a compose file: IMAGE, STACK and NETWORK stand for the suite's own.
func (a *app) stack(compose string) *recipe.Stack {
	a.t.Helper()
	return Stack(a.t, a.StackName, a.dir, strings.NewReplacer(
		"IMAGE", a.image, "STACK", a.StackName, "NETWORK", a.Network).Replace(compose))
}

// Stack loads a compose file as a recipe's stack, the way docker stack deploy does.
func Stack(t testing.TB, name, dir, compose string) *recipe.Stack {
	t.Helper()
	dict, err := loader.ParseYAML([]byte(compose))
	if err != nil {
		t.Fatalf("parsing the compose file: %v", err)
	}
	config, err := loader.Load(types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yml", Config: dict}},
	})
	if err != nil {
		t.Fatalf("loading the compose file: %v", err)
	}
	return &recipe.Stack{Name: name, Domain: strings.ReplaceAll(name, "_", "."), Recipe: "tiny", Dir: dir, Config: config}
}

// deadline returns a context for one step.
func (a *app) deadline(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(a.t.Context(), d)
	a.t.Cleanup(cancel)
	return ctx
}

// Deploy pulls before it deploys, as the harness does.
func (a *app) Deploy(ctx context.Context, stack *recipe.Stack) error {
	if _, err := a.Pull(ctx, stack); err != nil {
		return err
	}
	return a.Deployer.Deploy(ctx, stack)
}

func (a *app) deploy(stack *recipe.Stack) {
	a.t.Helper()
	if err := a.Deploy(a.deadline(60*time.Second), stack); err != nil {
		a.t.Fatalf("Deploy: %v%s", err, details(err))
	}
}

// deployFails deploys what must not converge, and returns why.
func (a *app) deployFails(stack *recipe.Stack, limit time.Duration) *harness.DeployError {
	a.t.Helper()
	started := time.Now()
	err := a.Deploy(a.deadline(limit), stack)
	var de *harness.DeployError
	if !errors.As(err, &de) {
		a.t.Fatalf("Deploy: got %v, want a DeployError", err)
	}
	a.t.Logf("failed after %s: %s: %v%s", time.Since(started).Round(10*time.Millisecond), de.Reason, err, details(err))
	if ccci.CodeOf(err) != ccci.CodeRecipe {
		a.t.Errorf("code = %s, want recipe", ccci.CodeOf(err))
	}
	if ccci.HintOf(err) == "" {
		a.t.Error("the error has no hint")
	}
	return de
}

func details(err error) string {
	var de *harness.DeployError
	if !errors.As(err, &de) {
		return ""
	}
	var out strings.Builder
	for _, task := range de.Tasks {
		fmt.Fprintf(&out, "\n  %s %s: %s", task.Service, task.State, task.Message)
		for _, line := range task.Log {
			fmt.Fprintf(&out, "\n    %s", line)
		}
	}
	return out.String()
}

// get asks a service over HTTP inside its networks.
func (a *app) get(stack *recipe.Stack, service, path string) string {
	a.t.Helper()
	conn, err := a.Dial(a.deadline(20*time.Second), stack, service, 8080)
	if err != nil {
		a.t.Fatalf("Dial: %v", err)
	}
	defer conn.Close()
	request, err := http.NewRequest("GET", "http://app"+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	request.Close = true
	if err := request.Write(conn); err != nil {
		a.t.Fatalf("writing a request: %v", err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		a.t.Fatalf("reading an answer: %v", err)
	}
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return body
}

func (a *app) exec(stack *recipe.Stack, cmd harness.ExecCmd) harness.ExecResult {
	a.t.Helper()
	result, err := a.Exec(a.deadline(40*time.Second), stack, cmd)
	if err != nil {
		a.t.Fatalf("Exec %v: %v", cmd.Args, err)
	}
	return result
}

// objects lists what the daemon has of the app.
func (a *app) objects() harness.Snapshot {
	a.t.Helper()
	all, err := a.Snapshot(a.deadline(20 * time.Second))
	if err != nil {
		a.t.Fatalf("Snapshot: %v", err)
	}
	return slices.DeleteFunc(all, func(o harness.Object) bool {
		return o.Run != string(a.RunID) && o.Stack != a.StackName && !strings.HasPrefix(o.Name, a.StackName+"_")
	})
}

func (a *app) wantNothing() {
	a.t.Helper()
	if left := a.objects(); len(left) > 0 {
		a.t.Errorf("the daemon still has %v", left)
	}
}
