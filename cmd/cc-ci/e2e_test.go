package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/santhosh-tekuri/jsonschema/v6"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/examples"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/demoimages"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/swarm"
	"github.com/recipe-maintainers/cc-ci/internal/ingress"
)

// The tests in this file drive the built binary on a real swarm. Those that look at
// everything the daemon has run alone; those that begin with together run side by side.

// build is what these tests share.
var build shared

type shared struct {
	once   sync.Once
	path   string
	docker *client.Client
	before harness.Snapshot
	err    error
}

// close says what the tests left on the daemon.
func (s *shared) close() (left []string, err error) {
	if s.path == "" {
		return nil, nil
	}
	defer s.docker.Close()
	defer os.RemoveAll(filepath.Dir(s.path))
	after, err := snapshot(s.docker)
	if err != nil {
		return nil, err
	}
	for _, o := range added(s.before, after) {
		left = append(left, fmt.Sprintf("%s %s (run %s)", o.Kind, o.Name, o.Run))
	}
	proxies, err := proxies(s.docker)
	return append(left, proxies...), err
}

// together lets a test run beside others.
func together(t *testing.T) {
	t.Helper()
	binary(t)
	t.Parallel()
}

// binary builds cc-ci once, makes the example images, and returns the path.
func binary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers")
	}
	build.once.Do(func() {
		if build.docker, build.err = client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()); build.err != nil {
			return
		}
		if _, build.err = build.docker.Ping(context.Background()); build.err != nil {
			return
		}
		dir, err := os.MkdirTemp("", "cc-ci-e2e-")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "cc-ci")
		if build.err = compile(build.path); build.err != nil {
			return
		}
		if build.before, build.err = snapshot(build.docker); build.err != nil {
			return
		}
		build.err = demoimages.Ensure(context.Background(), build.docker, demoimages.Options{Out: func(line string) { fmt.Println(line) }})
	})
	if build.path == "" && build.err != nil && os.Getenv("CI") == "" {
		t.Skipf("no Docker daemon: %v", build.err)
	}
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// compile builds cc-ci as it is shipped.
func compile(path string) error {
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building cc-ci: %w\n%s", err, out)
	}
	return nil
}

// objects lists everything on the daemon.
func objects(t *testing.T) harness.Snapshot {
	t.Helper()
	s, err := snapshot(build.docker)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func snapshot(docker *client.Client) (harness.Snapshot, error) {
	d, err := swarm.New(swarm.Options{RunID: "e2e", Docker: docker})
	if err != nil {
		return nil, err
	}
	return d.Snapshot(context.Background())
}

// added lists what is in after and not in before.
func added(before, after harness.Snapshot) (more []harness.Object) {
	had := map[string]bool{}
	for _, o := range before {
		had[o.Kind+o.ID] = true
	}
	for _, o := range after {
		if !had[o.Kind+o.ID] {
			more = append(more, o)
		}
	}
	return more
}

// proxies names the embedded ingresses that are there.
func proxies(docker *client.Client) (names []string, err error) {
	all, err := docker.ContainerList(context.Background(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", ingress.Label))})
	for _, c := range all {
		names = append(names, fmt.Sprintf("the proxy %v", c.Names))
	}
	return names, err
}

// nothingLeft compares the daemon with what it had, in a test that runs alone.
func nothingLeft(t *testing.T, before harness.Snapshot) {
	t.Helper()
	for _, o := range added(before, objects(t)) {
		t.Errorf("left on the daemon: %s %s (run %s)", o.Kind, o.Name, o.Run)
	}
	left, err := proxies(build.docker)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		t.Errorf("left on the daemon: %s", name)
	}
}

// nothingLeftOf looks for what a run left, in a test that runs beside others.
func nothingLeftOf(t *testing.T, run ccci.RunID) {
	t.Helper()
	if run == "" {
		t.Error("which run?")
	}
	for _, o := range objects(t) {
		if o.Run == string(run) {
			t.Errorf("left on the daemon: %s %s (run %s)", o.Kind, o.Name, o.Run)
		}
	}
}

// workspace is a data folder with a configuration.
func workspace(t *testing.T, more string) (dir, config string) {
	t.Helper()
	dir = t.TempDir()
	tests, err := filepath.Abs("../../tests")
	if err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(dir, "cc-ci.yml")
	text := fmt.Sprintf("data: data\ntests: %s\nlisten: 127.0.0.1:0\n%s", tests, more)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, config
}

// example makes a repository of a recipe and returns it with its head's branch.
func example(t *testing.T, dir, name string) (repo, branch string) {
	t.Helper()
	repo, err := examples.Materialise(filepath.Join(dir, "recipes"), name)
	if err != nil {
		t.Fatal(err)
	}
	if branch, err = examples.UpgradeBranch(name); err != nil {
		t.Fatal(err)
	}
	return repo, branch
}

// gitIn runs git in a repository, as an author of its own.
func gitIn(t *testing.T, repo string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// harnessRun runs cc-ci run to its end.
func harnessRun(t *testing.T, config, out string, args ...string) (code int, result ccci.Result, log string) {
	t.Helper()
	cmd := exec.Command(binary(t), append([]string{"--config", config, "run", "--out", out}, args...)...)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), readResult(t, filepath.Join(out, "result.json"), text.String()), text.String()
}

func readResult(t *testing.T, path, log string) (result ccci.Result) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	schemaDoc, err := jsonschema.UnmarshalJSON(bytes.NewReader(ccci.ResultSchemaJSON))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema", schemaDoc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("result.json does not fit the published schema: %v", err)
	}
	return result
}

// U10, U21, A18, A19, A22, A24, A26, N4, N6, U2, U3, U5: every example recipe comes
// out as it must: the real apps and the good canary green at level 5, each bad
// canary red at its stage, by the name of the failing check, and nowhere else.
func TestU21_ExampleRecipes(t *testing.T) {
	together(t)
	exampleRuns(t, func(want examples.Expectation) bool { return want.Check != leaves })
}

// U21, N6: so does the one that leaves something, which tests beside it would find.
func TestU21_TheExampleThatLeavesSomething(t *testing.T) {
	binary(t)
	exampleRuns(t, func(want examples.Expectation) bool { return want.Check == leaves })
}

// exampleRuns tests the example recipes that are chosen by how they must come out.
func exampleRuns(t *testing.T, chosen func(examples.Expectation) bool) {
	dir, config := workspace(t, "")
	for _, name := range examples.Names() { // a dependency is found beside the recipe
		example(t, dir, name)
	}
	for _, name := range examples.Names() {
		want := examples.Expectation{Status: ccci.StatusPassed} // of real software
		if strings.HasPrefix(name, examples.Canary) {
			var err error
			if want, err = examples.Expected(name); err != nil {
				t.Fatal(err)
			}
		}
		if !chosen(want) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if want.Check != leaves {
				together(t)
			}
			repo, branch := example(t, dir, name)
			code, r, log := harnessRun(t, config, filepath.Join(dir, "out", name), repo, "--head", branch)
			defer func() {
				if t.Failed() {
					t.Log(log)
				}
			}()
			if r.Status != want.Status || code != map[ccci.Status]int{ccci.StatusPassed: exitPassed, ccci.StatusFailed: exitFailed, ccci.StatusErrored: exitInfra, ccci.StatusFlaky: exitFlaky}[want.Status] {
				t.Errorf("status %s with exit code %d, want %s", r.Status, code, want.Status)
			}
			for _, s := range r.Stages {
				if s.Name == want.Stage {
					if red := s.Status == ccci.Fail; !red && (want.Status != ccci.StatusFlaky || s.Status != ccci.Flaky) {
						t.Errorf("%s is %s, it must be %s", s.Name, s.Status, want.Status)
					}
				} else if s.Status == ccci.Fail || s.Status == ccci.Skip {
					t.Errorf("%s is %s (%s)", s.Name, s.Status, s.Reason)
				}
			}
			if want.Status == ccci.StatusPassed {
				if r.Level != 5 || r.Cause != nil {
					t.Errorf("level %d (%s), cause %+v", r.Level, r.LevelReason, r.Cause)
				}
			} else if r.Cause == nil || r.Cause.Check != want.Check {
				t.Errorf("cause %+v, want check %s", r.Cause, want.Check)
			}
			if want.Level != nil && r.Level != *want.Level {
				t.Errorf("level %d, want %d", r.Level, *want.Level)
			}
			if r.Deployments != max(want.Deployments, 1) || r.Upgrades > 1 {
				t.Errorf("%d deployments, %d upgrades", r.Deployments, r.Upgrades)
			}
			if want.Check == leaves {
				removeLeftovers(t, r)
			} else if r.Teardown == nil || !r.Teardown.Clean {
				t.Errorf("teardown: %+v", r.Teardown)
			}
			nothingLeftOf(t, r.RunID)
			checkEvidence(t, filepath.Join(dir, "out", name), r, want)
		})
	}
}

// leaves is the check that finds what a run left.
const leaves = "teardown/clean"

// removeLeftovers cleans up after the canary that must leave something, and
// proves that the run named it.
func removeLeftovers(t *testing.T, r ccci.Result) {
	t.Helper()
	if r.Teardown == nil || len(r.Teardown.Leftovers) == 0 {
		t.Errorf("the leftover is not named: %+v", r.Teardown)
		return
	}
	for _, left := range r.Teardown.Leftovers {
		if name, ok := strings.CutPrefix(left, "volume "); ok {
			if err := build.docker.VolumeRemove(context.Background(), name, true); err != nil {
				t.Error(err)
			}
		}
	}
}

// checkEvidence looks at what a green run leaves for people.
func checkEvidence(t *testing.T, out string, r ccci.Result, want examples.Expectation) {
	t.Helper()
	secret := regexp.MustCompile(`"settings":[^}]*"(env|seed)[^"]*(password|secret|token)[^"]*": "[^*]`)
	raw, _ := os.ReadFile(filepath.Join(out, "result.json"))
	if secret.Match(raw) {
		t.Errorf("a secret-looking setting is not masked (U17)")
	}
	if want.Status != ccci.StatusPassed {
		return
	}
	for _, name := range []string{"screenshot-install.png", "screenshot-upgrade.png", "screenshot-final.png"} { // U16
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() < 2000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !slices.ContainsFunc(r.Artifacts, func(a ccci.Artifact) bool { return a.Kind == "log" && a.Size > 0 }) {
		t.Error("no service's log was kept")
	}
	if len(r.Images) < 2 || r.PeakMemory == 0 || r.Base == nil || r.Version == "" {
		t.Errorf("images %v, peak memory %d, base %v, version %q", r.Images, r.PeakMemory, r.Base, r.Version)
	}
}

// U1: a recipe that nobody enrolled gets every stage. Its labels back up a dump alone: the restore takes
// place, and that nothing reads the data back is said (U23).
func TestU1_ZeroConfigFloor(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "miniflux")
	_, r, log := harnessRun(t, config, filepath.Join(dir, "out"), repo, "--head", branch, "--tests", t.TempDir())
	for _, s := range r.Stages {
		want := ccci.Pass
		if s.Name == ccci.StageRestore {
			want = ccci.Unverified
		}
		if s.Status != want || want != ccci.Pass && !strings.Contains(s.Reason, "no volume is backed up as a whole") {
			t.Errorf("%s: %s (%s)", s.Name, s.Status, s.Reason)
		}
	}
	if r.Status != ccci.StatusPassed || r.Level != 2 {
		t.Errorf("%s, level %d (%s)\n%s", r.Status, r.Level, r.LevelReason, log)
	}
	nothingLeftOf(t, r.RunID)
}

// U1, U5: without enrolment a lost volume is still found, by the canary file.
func TestU1_ZeroConfigFindsALostVolume(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-lost-volume")
	code, r, log := harnessRun(t, config, filepath.Join(dir, "out"), repo, "--head", branch, "--tests", t.TempDir())
	if code != exitFailed || r.Cause == nil || r.Cause.Check != "upgrade/verify" {
		t.Errorf("exit code %d, cause %+v\n%s", code, r.Cause, log)
	}
}

// U4: a release that states the head's version, however its tag is written, is no base, and the
// label that was not raised is a finding.
func TestU4_ReleaseOfTheHeadsVersionIsNoBase(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	gitIn(t, repo, "tag", "--annotate", "--message=x", "v0.1.0", "0.1.0+1.0.0^{commit}")
	gitIn(t, repo, "tag", "--delete", "0.1.0+1.0.0")
	gitIn(t, repo, "tag", "--annotate", "--message=x", "v0.2.0", branch)
	gitIn(t, repo, "checkout", "--quiet", branch)
	gitIn(t, repo, "commit", "--quiet", "--allow-empty", "--message=nothing")
	gitIn(t, repo, "rm", "--quiet", "-r", "release")
	gitIn(t, repo, "commit", "--quiet", "--message=unbumped")
	_, r, log := harnessRun(t, config, filepath.Join(dir, "out"), repo, "--head", branch, "--stages", "install,upgrade")
	if r.Status != ccci.StatusPassed || r.Base == nil || r.Base.Version != "v0.1.0" || r.Stage(ccci.StageUpgrade).Status != ccci.Pass {
		t.Errorf("%s, cause %+v, base %+v\n%s", r.Status, r.Cause, r.Base, log)
	}
	if !slices.ContainsFunc(r.Lint, func(f ccci.Finding) bool { return f.Rule == "C011" }) {
		t.Errorf("findings %+v", r.Lint)
	}
	nothingLeftOf(t, r.RunID)
}

// U7: a recipe with a volume and without releases, backup labels and enrolment passes, and what was
// not proven holds its level: the volume and the label to add are named, with the place.
func TestU7_AVolumeWithoutABackupHoldsTheLevel(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	gitIn(t, repo, "checkout", "--quiet", branch)
	gitIn(t, repo, "tag", "--delete", "0.1.0+1.0.0")
	file := filepath.Join(repo, "compose.yml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^ *- "backupbot\..*\n`).ReplaceAll(text, nil)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	gitIn(t, repo, "commit", "--quiet", "--all", "--message=no backup")
	code, r, log := harnessRun(t, config, filepath.Join(dir, "out"), repo, "--tests", t.TempDir())
	if code != exitPassed || r.Status != ccci.StatusPassed || r.Level != 1 {
		t.Errorf("exit code %d, %s, level %d (%s), cause %+v\n%s", code, r.Status, r.Level, r.LevelReason, r.Cause, log)
	}
	line := 1 + strings.Count(string(text[:bytes.Index(text, []byte("      labels:"))]), "\n")
	why := fmt.Sprintf("compose.yml:%d: volume data is not backed up: no service has the deploy label backupbot.backup=true; add it under deploy: labels: of service app", line)
	if r.LevelReason != "backup and restore: "+why || !strings.Contains(log, why) || !strings.Contains(log, "level 1 (skipped: upgrade)") {
		t.Errorf("reason %q, want %q\n%s", r.LevelReason, why, log)
	}
	if !slices.ContainsFunc(r.Lint, func(f ccci.Finding) bool { return f.Rule == "C013" && f.File == "compose.yml" && f.Line == line }) {
		t.Errorf("findings %+v", r.Lint)
	}
	nothingLeftOf(t, r.RunID)
}

// N7: what abra refuses to deploy is no pass, with the exit code of a recipe that failed.
func TestN7_ALightweightReleaseTagIsNoPass(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	gitIn(t, repo, "tag", "--force", "0.1.0+1.0.0", "0.1.0+1.0.0^{commit}")
	code, r, log := harnessRun(t, config, filepath.Join(dir, "out"), repo, "--head", branch)
	if code != exitFailed || r.Status != ccci.StatusFailed || r.Level != 4 || r.Cause == nil || r.Cause.Check != "lint/r014" || !strings.Contains(log, "git tag -a -f TAG COMMIT") {
		t.Errorf("exit code %d, %s, level %d (%s), cause %+v\n%s", code, r.Status, r.Level, r.LevelReason, r.Cause, log)
	}
	nothingLeftOf(t, r.RunID)
}

// N3: what admission refuses creates nothing, and has an exit code of its own.
func TestN3_RefusedBeforeAnythingIsCreated(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	gitIn(t, repo, "checkout", "-q", branch)
	compose := filepath.Join(repo, "compose.yml")
	text, err := os.ReadFile(compose)
	if err != nil {
		t.Fatal(err)
	}
	hostile := strings.Replace(string(text), "services:\n", "services:\n  spy:\n    image: cc-ci.local/tinyapp:1.0.0\n    volumes: [\"/var/run/docker.sock:/s\"]\n", 1)
	if err := os.WriteFile(compose, []byte(hostile), 0o644); err != nil {
		t.Fatal(err)
	}
	gitIn(t, repo, "commit", "-qam", "add a helper")
	code, r, log := harnessRun(t, config, filepath.Join(dir, "out"), repo, "--head", branch)
	if code != exitRefused || r.Cause == nil || r.Cause.Check != "install/admitted" || r.Deployments != 0 {
		t.Errorf("exit code %d, cause %+v, %d deployments\n%s", code, r.Cause, r.Deployments, log)
	}
	named := regexp.MustCompile(`compose\.yml:\d+: .*service spy.*docker\.sock`)
	if r.Cause != nil && !slices.ContainsFunc(r.Cause.Findings, func(f ccci.Finding) bool { return named.MatchString(f.At() + f.Message) }) {
		t.Errorf("no finding names file, line, service and value: %+v", r.Cause.Findings)
	}
	if r.Teardown != nil {
		for kind, n := range r.Teardown.Removed {
			if kind == "network" {
				n-- // the run's own to the proxy, which is made while the recipe is fetched
			}
			if n > 0 {
				t.Errorf("%d %s were created", n, kind)
			}
		}
	}
	nothingLeftOf(t, r.RunID)

	// A key that is given twice is a refusal, too, and no mistake of whoever runs cc-ci.
	if err := os.WriteFile(compose, append(text, "\nservices: {}\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	// It is not committed, and --uncommitted tests it all the same.
	committed := r.Commit
	code, r, log = harnessRun(t, config, filepath.Join(dir, "out2"), repo, "--uncommitted")
	if r.Commit == committed || !strings.Contains(log, "recorded as commit "+r.Commit.Short()) {
		t.Errorf("commit %s, that of the checkout is %s\n%s", r.Commit, committed, log)
	}
	if code != exitRefused || r.Cause == nil || !strings.Contains(r.Cause.Message, "(rule yaml-keys)") {
		t.Errorf("exit code %d, cause %+v\n%s", code, r.Cause, log)
	}
}

// started is a cc-ci that runs in the background.
type started struct {
	cmd  *exec.Cmd
	out  *lines
	done chan struct{}
}

// lines is an output that can be waited on.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	wake chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, args ...string) *started {
	t.Helper()
	s := &started{cmd: exec.Command(binary(t), args...), out: &lines{wake: make(chan struct{}, 1)}, done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.cmd.Wait(); close(s.done) }()
	t.Cleanup(func() {
		s.cmd.Process.Signal(syscall.SIGTERM)
		s.wait(t, 2*time.Minute)
		if t.Failed() {
			t.Logf("cc-ci %s:\n%s", strings.Join(args, " "), s.out)
		}
	})
	return s
}

// awaitLine waits until the output matches, and returns the first submatch.
func (s *started) awaitLine(t *testing.T, pattern string, limit time.Duration) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(limit)
	for {
		if m := re.FindStringSubmatch(s.out.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-s.out.wake:
		case <-s.done:
			if m := re.FindStringSubmatch(s.out.String()); m != nil {
				return m[len(m)-1]
			}
			t.Fatalf("ended without printing %q:\n%s", pattern, s.out)
		case <-deadline:
			t.Fatalf("no %q within %s:\n%s", pattern, limit, s.out)
		}
	}
}

func (s *started) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(limit):
		s.cmd.Process.Kill()
		t.Errorf("did not end within %s", limit)
		<-s.done
	}
	return s.cmd.ProcessState.ExitCode()
}

// U12: SIGTERM in the middle of a run leads into the same teardown.
func TestU12_SignalTearsDown(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	out := filepath.Join(dir, "out")
	s := start(t, "--config", config, "run", "--out", out, repo, "--head", branch)
	s.awaitLine(t, `install: pass`, 2*time.Minute)
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Process.Signal(syscall.SIGTERM) // an impatient second one changes nothing
	if code := s.wait(t, time.Minute); code != exitTerminate {
		t.Errorf("exit code %d", code)
	}
	r := readResult(t, filepath.Join(out, "result.json"), s.out.String())
	if r.Status != ccci.StatusCancelled || r.Verdict != ccci.VerdictInconclusive || r.Teardown == nil || !r.Teardown.Clean {
		t.Errorf("%s, %s, %+v", r.Status, r.Verdict, r.Teardown)
	}
	nothingLeftOf(t, r.RunID)
}

// U12: cc-ci run DIR | head. A pipe without a reader leads into the same teardown.
func TestU12_ClosedPipeTearsDown(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	out := filepath.Join(dir, "out")
	cmd := exec.Command(binary(t), "--config", config, "run", "--out", out, repo, "--head", branch)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(pipe); lines.Scan() && !strings.HasPrefix(lines.Text(), "upgrade"); {
	}
	pipe.Close()
	if cmd.Wait(); cmd.ProcessState.ExitCode() != exitUnread {
		t.Errorf("it ended with %v\n%s", cmd.ProcessState, said.String())
	}
	r := readResult(t, filepath.Join(out, "result.json"), said.String())
	if r.Status != ccci.StatusCancelled || r.Teardown == nil || !r.Teardown.Clean || r.Teardown.Removed["service"] == 0 {
		t.Errorf("%s, %+v", r.Status, r.Teardown)
	}
	nothingLeftOf(t, r.RunID)
}

// U12, A16: a run that is too long ends by its deadline, and is not the recipe's fault.
func TestA16_DeadlineTearsDown(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	commit, err := revision(context.Background(), repo, branch)
	if err != nil {
		t.Fatal(err)
	}
	job := ccci.Job{RunID: "261121-000000-dead11", Recipe: "canary-good", Commit: commit, CloneURL: repo, Deadline: 6 * time.Second}
	text, _ := json.Marshal(job)
	file := filepath.Join(dir, "job.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	server := start(t, "--config", config, "serve") // an engine's harness leaves the machine to the server
	server.awaitLine(t, `serving (http://\S+)`, 2*time.Minute)
	s := start(t, "--config", config, "run", "--job", file)
	if code := s.wait(t, time.Minute); code != exitInconclusive {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(s.out.String(), harness.ErrDeadline.Error()) {
		t.Errorf("the limit is not named:\n%s", s.out)
	}
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.wait(t, time.Minute)
	nothingLeftOf(t, job.RunID)
}

// U11, A20: a harness killed with kill -9 leaves its app; the janitor leaves nothing.
func TestA20_JanitorReapsTheKilled(t *testing.T) {
	binary(t)
	before := objects(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	s := start(t, "--config", config, "run", "--out", filepath.Join(dir, "out"), repo, "--head", branch)
	s.awaitLine(t, `install/converged`, 2*time.Minute)
	_, other := workspace(t, "")                   // another cc-ci, with a data folder of its own
	held := start(t, "--config", other, "janitor") // the run lives: nothing of it is touched
	held.awaitLine(t, `lives: left alone`, time.Minute)
	held.wait(t, time.Minute)
	if folders, err := filepath.Glob(filepath.Join(os.TempDir(), "cc-ci-run-*")); err != nil || len(folders) == 0 {
		t.Errorf("the run has no folder for temporary files: %v", err)
	}
	s.cmd.Process.Kill()
	s.wait(t, time.Minute)
	janitor := start(t, "--config", config, "janitor")
	dead := janitor.awaitLine(t, `run (\S+) is dead: removed`, time.Minute)
	if code := janitor.wait(t, time.Minute); code != 0 {
		t.Errorf("janitor: exit code %d", code)
	}
	if folders, err := filepath.Glob(filepath.Join(os.TempDir(), "cc-ci-run-"+dead+"-*")); err != nil || len(folders) != 0 {
		t.Errorf("temporary files of the dead run are left: %v, %v", folders, err)
	}
	again := start(t, "--config", config, "janitor")
	again.awaitLine(t, `nothing to do`, time.Minute)
	again.wait(t, time.Minute)
	nothingLeft(t, before)
}

// served starts a server with one recipe on its forge and an open pull request. more are lines of its
// configuration.
func served(t *testing.T, recipe string, more ...string) (s *started, url, config string) {
	t.Helper()
	binary(t)
	dir, config := workspace(t, "repos:\n  - repo: coop/"+recipe+"\n"+strings.Join(more, ""))
	repo, branch := example(t, dir, recipe)
	for _, args := range [][]string{{"forge", "import", repo, "coop/" + recipe}, {"forge", "pr", "coop/" + recipe, branch}} {
		f := start(t, append([]string{"--config", config}, args...)...)
		if code := f.wait(t, time.Minute); code != 0 {
			t.Fatalf("%v: exit code %d\n%s", args, code, f.out)
		}
	}
	s = start(t, "--config", config, "serve")
	return s, s.awaitLine(t, `serving (http://\S+)`, 2*time.Minute), config
}

func comment(t *testing.T, config, recipe, body string) {
	t.Helper()
	c := start(t, "--config", config, "forge", "comment", "coop/"+recipe+"#1", body)
	if code := c.wait(t, time.Minute); code != 0 {
		t.Fatalf("commenting: exit code %d\n%s", code, c.out)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// awaitPage reloads a page until it matches.
func awaitPage(t *testing.T, url, pattern string, limit time.Duration) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var page string
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if page = get(t, url); re.MatchString(page) {
			return page
		}
		select {
		case <-t.Context().Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not come to match %q:\n%s", url, pattern, page)
	return ""
}

// A10, A11, U14, N2: a server killed with kill -9 in the middle of a run and
// started again edits the same comment to the verdict.
func TestU14_ServerKilledInTheMiddle(t *testing.T) {
	together(t)
	s, url, config := served(t, "canary-good")
	comment(t, config, "canary-good", "!testme")
	pull := "/pulls/coop/canary-good/1"
	awaitPage(t, url+pull, `(?s)install.*passed in`, 2*time.Minute)
	awaitPage(t, url+pull, `(?s)running.*Code and privileges that this commit changes.*service app changed its image.*ends it`, time.Minute) // P2: while it runs
	s.cmd.Process.Kill()
	s.wait(t, time.Minute)

	again := start(t, "--config", config, "serve")
	url = again.awaitLine(t, `serving (http://\S+)`, 2*time.Minute)
	awaitPage(t, url+pull, `Level 5 of 5`, 4*time.Minute)
	page := get(t, url+pull)
	for _, want := range []string{"Code and privileges that this commit changes", "service app changed its image"} { // P2
		if !strings.Contains(page, want) {
			t.Errorf("the comment lacks %q", want)
		}
	}
	if n := strings.Count(page, "requested by"); n != 1 {
		t.Errorf("%d comments about the run instead of 1", n)
	}
	var feed struct {
		Recipes []struct{ Recipe, Status string }
	}
	if err := json.Unmarshal([]byte(get(t, url+"/feed.json")), &feed); err != nil || len(feed.Recipes) == 0 {
		t.Errorf("feed: %v", err)
	}
	again.cmd.Process.Signal(syscall.SIGINT)
	if code := again.wait(t, 2*time.Minute); code != exitInterrupt {
		t.Errorf("exit code %d", code)
	}
	for _, run := range runsOn(page) {
		nothingLeftOf(t, run)
	}
}

// runsOn lists the runs that a page names.
func runsOn(page string) (runs []ccci.RunID) {
	for _, id := range regexp.MustCompile(`[0-9]{6}-[0-9]{6}-[0-9a-f]{6}`).FindAllString(page, -1) {
		if !slices.Contains(runs, ccci.RunID(id)) {
			runs = append(runs, ccci.RunID(id))
		}
	}
	return runs
}

// The main job in one command: green, four files, and nothing left.
func TestDemoOnce(t *testing.T) {
	binary(t)
	before := objects(t)
	out := t.TempDir()
	s := start(t, "demo", "--once", "--out", out)
	if code := s.wait(t, 5*time.Minute); code != exitPassed {
		t.Fatalf("exit code %d\n%s", code, s.out)
	}
	if r := readResult(t, filepath.Join(out, "result.json"), s.out.String()); r.Status != ccci.StatusPassed || r.Level != 5 {
		t.Errorf("%s at level %d", r.Status, r.Level)
	}
	for name, sign := range map[string]string{"comment.md": "Level 5 of 5", "badge.svg": "level 5", "overview.png": "PNG"} {
		if text, err := os.ReadFile(filepath.Join(out, name)); err != nil || !bytes.Contains(text, []byte(sign)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	nothingLeft(t, before)
}
