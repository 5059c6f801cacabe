package deploytest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// healthy is the part of a compose file that the cases share. Its healthcheck looks
// often, since swarm reports a task as running only after a first good probe.
const healthy = `
    image: IMAGE
    healthcheck: {test: ["CMD", "/app", "health"], interval: 250ms, timeout: 2s, retries: 8}
    stop_grace_period: 1s
`

var lifeCases = []testcase{
	{"A24_install_makes_everything_and_converges", install},
	{"U3_upgrade_leaves_only_the_new_version", upgrade},
	{"U3_unchanged_stack_restarts_nothing", unchanged},
	{"A24_service_that_the_stack_dropped_is_removed", dropped},
	{"A24_every_kind_of_service_converges", modes},
	{"A24_app_that_waits_for_its_database_converges", waitsForDatabase},
	{"exec_tells_output_and_exit_code", execOutput},
	{"exec_waits_between_tasks", execBetweenTasks},
	{"exec_kills_what_outlives_its_time", execTimeout},
	{"copy_reaches_volumes", copies},
	{"logs_are_whole_and_as_they_were_written", logs},
	{"N8_peak_memory_is_sampled", peakMemory},
}

func install(t *testing.T, s *suite) {
	a := s.newApp(t)
	if err := os.WriteFile(filepath.Join(a.dir, "app.conf"), []byte("colour = blue\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	compose := `
version: "3.8"
services:
  app:` + healthy + `
    environment: [VERSION=one]
    networks: [inside, proxy]
    volumes: ["data:/data"]
    secrets: [password]
    configs: [{source: conf, target: /etc/app.conf}]
    deploy: {labels: ["coop-cloud.STACK.chaos-version=abcdef01"]}
volumes: {data: {}}
networks: {inside: {}, proxy: {external: true, name: NETWORK}}
secrets: {password: {external: true, name: STACK_password_v1}}
configs: {conf: {name: STACK_conf_v1, file: ./app.conf}}
`
	stack := a.stack(compose)
	stack.Secrets = []recipe.Secret{{Key: "password", Name: a.StackName + "_password_v1", Generate: true}}

	images, err := a.Pull(a.deadline(time.Minute), stack)
	if err != nil {
		t.Fatalf("Pull: %v", err)
	}
	if len(images) != 1 || images[0].Service != "app" || !strings.HasPrefix(images[0].Digest, "sha256:") || images[0].Size < 1<<20 {
		t.Errorf("Pull = %+v", images)
	}
	secret := map[string]ccci.Secret{"password": ccci.NewSecret("correct horse")}
	if err := a.New(a.deadline(20*time.Second), stack, secret); err != nil {
		t.Fatalf("New: %v", err)
	}
	a.deploy(stack)

	if got := a.get(stack, "app", "/"); got != "one" {
		t.Errorf("the app answers %q", got)
	}
	label, err := a.Label(a.deadline(20*time.Second), stack, "app", "coop-cloud."+a.StackName+".chaos-version")
	if err != nil || label != "abcdef01" {
		t.Errorf("Label = %q, %v", label, err)
	}
	for path, want := range map[string]string{"/run/secrets/password": "correct horse", "/etc/app.conf": "colour = blue\n"} {
		if got := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "read", path}}); string(got.Stdout) != want {
			t.Errorf("%s holds %q %s", path, got.Stdout, got.Stderr)
		}
	}
	kinds := map[string]int{}
	for _, o := range a.objects() {
		if o.Kind == "container" && o.Stack == "" && o.Run == string(a.RunID) {
			continue // a helper of the run's, which belongs to no stack
		}
		kinds[o.Kind]++
		if o.Run != string(a.RunID) || o.Stack != a.StackName && o.Kind != "network" { // one network is the run's
			t.Errorf("%s %s carries run %q and stack %q", o.Kind, o.Name, o.Run, o.Stack)
		}
	}
	for _, kind := range []string{"service", "container", "network", "volume", "secret", "config"} {
		want := 1
		if kind == "network" {
			want = 2 // the run's own to the proxy is the other
		}
		if kinds[kind] != want {
			t.Errorf("%d objects of kind %s, want %d", kinds[kind], kind, want)
		}
	}
	if err := a.Settle(a.deadline(20*time.Second), stack); err != nil {
		t.Errorf("Settle: %v", err)
	}
	started := time.Now()
	removed, err := a.Remove(a.deadline(time.Minute), a.App)
	if err != nil {
		t.Fatalf("Remove: %v", err)
	}
	t.Logf("removed %v in %s", removed, time.Since(started).Round(time.Millisecond))
	for kind := range kinds {
		if removed[kind] < 1 {
			t.Errorf("Remove counts %v, want at least one %s", removed, kind)
		}
	}
	a.wantNothing()
}

const upgradable = `
version: "3.8"
services:
  app:` + healthy + `
    environment: [VERSION=one]
    deploy:
      labels: [which=one]
      update_config: {order: start-first, failure_action: rollback, monitor: 5s}
`

func upgrade(t *testing.T, s *suite) {
	a := s.newApp(t)
	before := a.stack(upgradable)
	a.deploy(before)
	after := a.stack(strings.ReplaceAll(upgradable, "one", "two"))
	a.deploy(after)
	started := time.Now()
	if err := a.Converge(a.deadline(30*time.Second), after); err != nil {
		t.Errorf("Converge: %v", err)
	}
	converged := time.Since(started)
	running := 0
	for _, o := range a.objects() {
		if o.Kind == "container" {
			running++
		}
	}
	if got := a.get(after, "app", "/"); got != "two" {
		t.Errorf("after the upgrade the app answers %q", got)
	}
	if label, err := a.Label(a.deadline(10*time.Second), after, "app", "which"); err != nil || label != "two" {
		t.Errorf("Label = %q, %v", label, err)
	}
	if err := a.Settle(a.deadline(30*time.Second), after); err != nil {
		t.Errorf("Settle: %v", err)
	}
	if settled := time.Since(started); converged > settled/2 {
		t.Errorf("Converge took %s, and swarm monitored the update for %s: it waited for that", converged, settled)
	}
	if err := a.Converge(a.deadline(30*time.Second), before); err == nil {
		t.Error("Converge is content with a version that was replaced")
	}
	if err := a.Settle(a.deadline(30*time.Second), before); err == nil {
		t.Error("Settle is content with a version that was replaced")
	}
}

// containerIDs are the app's containers, running or not.
func (a *app) containerIDs() string {
	var ids []string
	for _, o := range a.objects() {
		if o.Kind == "container" {
			ids = append(ids, o.ID)
		}
	}
	return strings.Join(ids, " ")
}

func unchanged(t *testing.T, s *suite) {
	a := s.newApp(t)
	a.deploy(a.stack(upgradable))
	before := a.containerIDs()
	a.deploy(a.stack(strings.ReplaceAll(upgradable, "which=one", "which=other")))
	if after := a.containerIDs(); before != after {
		t.Errorf("a new label restarted the app: %s -> %s", before, after)
	}
}

func dropped(t *testing.T, s *suite) {
	a := s.newApp(t)
	both := `
version: "3.8"
services:
  app:` + healthy + `
  worker:` + healthy
	a.deploy(a.stack(both))
	one := a.stack(strings.Split(both, "  worker:")[0])
	a.deploy(one)
	for _, o := range a.objects() {
		if (o.Kind == "service" || o.Kind == "container") && strings.Contains(o.Name, "worker") {
			t.Errorf("%s %s is still there", o.Kind, o.Name)
		}
	}
	if _, err := a.Label(a.deadline(10*time.Second), one, "worker", "x"); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("Label of a dropped service: %v, want notfound", err)
	}
}

func modes(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack := a.stack(`
version: "3.8"
services:
  everywhere:` + healthy + `
    deploy: {mode: global}
  idle:
    image: IMAGE
    deploy: {replicas: 0}
  migrate:
    image: IMAGE
    command: ["exit", "0"]
    deploy: {restart_policy: {condition: none}}
  twice:` + healthy + `
    deploy: {replicas: 2}
`)
	a.deploy(stack)
	if err := a.Settle(a.deadline(20*time.Second), stack); err != nil {
		t.Errorf("Settle: %v", err)
	}
	ctx := a.deadline(20 * time.Second)
	if _, err := a.CopyOut(ctx, stack, "idle", "/x", 1); ccci.CodeOf(err) != ccci.CodeRecipe || ctx.Err() != nil {
		t.Errorf("CopyOut of a service without tasks: %v, want an answer at once", err)
	}
}

// waitsForDatabase dies until its neighbour listens, as many apps do. That is slow, and no restart
// loop: with a healthcheck swarm says when the neighbour is ready, without one it never does.
func waitsForDatabase(t *testing.T, s *suite) {
	for name, health := range map[string]string{
		"with_a_healthcheck":    `    healthcheck: {test: ["CMD", "/app", "health"], interval: 250ms, timeout: 2s, retries: 60}`,
		"without_a_healthcheck": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.newApp(t)
			stack := a.stack(`
version: "3.8"
services:
  app:` + healthy + `
    environment: ["NEEDS=db:8080"]
    deploy: {restart_policy: {condition: any, delay: 200ms}}
  db:
    image: IMAGE
    environment: [READY_AFTER=12s]
` + health)
			a.deploy(stack)
			if err := a.Settle(a.deadline(20*time.Second), stack); err != nil {
				t.Errorf("Settle: %v", err)
			}
		})
	}
}

func execOutput(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack := a.stack("version: '3.8'\nservices:\n  app:" + healthy)
	a.deploy(stack)
	run := func(args ...string) harness.ExecResult {
		t.Helper()
		return a.exec(stack, harness.ExecCmd{Service: "app", Args: append([]string{"/app"}, args...)})
	}
	if r := run("echo", "a", "b"); string(r.Stdout) != "a b\n" || string(r.Stderr) != "told on standard error\n" || r.ExitCode != 0 {
		t.Errorf("echo: %d %q %q", r.ExitCode, r.Stdout, r.Stderr)
	}
	for _, code := range []string{"0", "1", "42"} {
		if r := run("exit", code); code != "0" && r.ExitCode == 0 || code == "42" && r.ExitCode != 42 {
			t.Errorf("exit %s: %d", code, r.ExitCode)
		}
	}
	if r := run("flood", "3000000"); len(r.Stdout) != 1<<20 || r.ExitCode != 0 {
		t.Errorf("flood: %d bytes, exit code %d", len(r.Stdout), r.ExitCode)
	}
	r := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "cat"}, Stdin: []byte("through")})
	if string(r.Stdout) != "through" {
		t.Errorf("standard input came back as %q", r.Stdout)
	}
	r = a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "env", "COLOUR"}, Env: []string{"COLOUR=red"}})
	if string(r.Stdout) != "red\n" {
		t.Errorf("the environment came through as %q", r.Stdout)
	}
	r = a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "uid"}, User: "1234"})
	if string(r.Stdout) != "1234\n" {
		t.Errorf("the user came through as %q", r.Stdout)
	}
	if r := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/no/such/program"}}); r.ExitCode == 0 {
		t.Errorf("a program that does not exist exits with 0: %q", r.Stdout)
	}
	if _, err := a.Exec(a.deadline(10*time.Second), stack, harness.ExecCmd{Service: "nobody", Args: []string{"/app"}}); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("Exec in a service that does not exist: %v", err)
	}
}

func execBetweenTasks(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack := a.stack("version: '3.8'\nservices:\n  app:" + healthy + "    deploy: {restart_policy: {delay: 1s}}\n")
	a.deploy(stack)
	if err := s.Daemon.Kill(t.Context(), a.StackName+"_app"); err != nil {
		t.Fatalf("killing the app: %v", err)
	}
	if r := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "echo", "back"}}); string(r.Stdout) != "back\n" {
		t.Errorf("after the restart: %q", r.Stdout)
	}
}

func execTimeout(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack := a.stack("version: '3.8'\nservices:\n  app:" + healthy)
	a.deploy(stack)
	started := time.Now()
	result, err := a.Exec(a.deadline(40*time.Second), stack, harness.ExecCmd{
		Service: "app", Args: []string{"/app", "sleep", "300s"}, Timeout: time.Second,
	})
	if err == nil || ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("Exec: %+v, %v, want an error of code recipe", result, err)
	}
	if string(result.Stdout) != "sleeping\n" {
		t.Errorf("what it printed before is %q", result.Stdout)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	if r := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "count", "sleep"}}); string(r.Stdout) != "0\n" {
		t.Errorf("%q of them still run", r.Stdout)
	}
}

func copies(t *testing.T, s *suite) {
	a := s.newApp(t)
	stack := a.stack("version: '3.8'\nservices:\n  app:" + healthy + "    read_only: true\n    volumes: ['data:/data']\nvolumes: {data: {}}\n")
	a.deploy(stack)
	content := bytes.Repeat([]byte("canary\n"), 1000)
	files := map[string][]byte{"/data/deep/er/canary": content, "/data/.cc-ci": []byte("x")}
	if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", files); err != nil {
		t.Fatalf("CopyIn: %v", err)
	}
	if r := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "read", "/data/deep/er/canary"}}); !bytes.Equal(r.Stdout, content) {
		t.Errorf("inside it is %d bytes %s", len(r.Stdout), r.Stderr)
	}
	if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", map[string][]byte{"/data/.cc-ci": []byte("changed")}); err != nil {
		t.Fatalf("CopyIn over a file: %v", err)
	}
	got, err := a.CopyOut(a.deadline(20*time.Second), stack, "app", "/data/.cc-ci", 1<<10)
	if err != nil || string(got) != "changed" {
		t.Errorf("CopyOut = %q, %v", got, err)
	}
	if _, err := a.CopyOut(a.deadline(20*time.Second), stack, "app", "/data/none", 1<<10); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("CopyOut of nothing: %v, want notfound", err)
	}
	if _, err := a.CopyOut(a.deadline(20*time.Second), stack, "app", "/data", 1<<10); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("CopyOut of a folder: %v, want the recipe's fault", err)
	}
	if _, err := a.CopyOut(a.deadline(20*time.Second), stack, "app", "/data/deep/er/canary", 1<<10); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("CopyOut of a large file: %v, want the recipe's fault", err)
	}
	if got, err := a.CopyOut(a.deadline(20*time.Second), stack, "app", "/data/deep/er/canary", int64(len(content))); err != nil || !bytes.Equal(got, content) {
		t.Errorf("CopyOut of a file that has the limit's size: %d bytes, %v", len(got), err)
	}
	for _, outside := range []string{"/app", "/database"} {
		if _, err := a.CopyOut(a.deadline(20*time.Second), stack, "app", outside, 1<<10); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("CopyOut of %s, which is in no volume: %v, want invalid", outside, err)
		}
	}
	if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", map[string][]byte{"/data/folder/file": nil}); err != nil {
		t.Fatal(err)
	}
	if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", map[string][]byte{"/data/folder": []byte("x")}); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("CopyIn over a folder: %v, want the recipe's fault", err)
	}
	if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", map[string][]byte{"/data/folder/file/below": []byte("x")}); ccci.CodeOf(err) != ccci.CodeRecipe {
		t.Errorf("CopyIn below a file: %v, want the recipe's fault", err)
	}
	a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "own", "/data/.cc-ci", "1234", "600"}})
	a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "own", "/data/folder", "1235", "700"}})
	if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", map[string][]byte{"/data/.cc-ci": []byte("again"), "/data/folder/new": []byte("x")}); err != nil {
		t.Fatalf("CopyIn over a file of another user's: %v", err)
	}
	for path, want := range map[string]string{"/data/.cc-ci": "1234 1234 100600\n", "/data/folder/new": "1235 1235 100644\n"} {
		if r := a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "owner", path}}); string(r.Stdout) != want {
			t.Errorf("%s: owner and mode are %q %s, want %q", path, r.Stdout, r.Stderr, want)
		}
	}
	a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "pipe", "/data/pipe"}})
	a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "link", "/app", "/data/link"}})
	a.exec(stack, harness.ExecCmd{Service: "app", Args: []string{"/app", "link", "folder", "/data/above"}})
	for _, path := range []string{"/data/pipe", "/data/link", "/data/above/file"} {
		if _, err := a.CopyOut(a.deadline(20*time.Second), stack, "app", path, 1<<30); ccci.CodeOf(err) != ccci.CodeRecipe {
			t.Errorf("CopyOut of %s: %v, want the recipe's fault", path, err)
		}
		if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", map[string][]byte{path: []byte("x")}); ccci.CodeOf(err) != ccci.CodeRecipe {
			t.Errorf("CopyIn to %s: %v, want the recipe's fault", path, err)
		}
	}
	if err := a.CopyIn(a.deadline(20*time.Second), stack, "app", map[string][]byte{"/data/folder/file": []byte("as before")}); err != nil {
		t.Errorf("CopyIn after that: %v", err)
	}
}

func logs(t *testing.T, s *suite) {
	a := s.newApp(t)
	// Daemons keep a line in messages of 16 KiB; this one runs over several of them.
	long := strings.Repeat("x", 16<<10-4) + "good morning" + strings.Repeat("y", 40<<10)
	stack := a.stack("version: '3.8'\nservices:\n  app:" + healthy + "    environment: [SAY=" + long + "]\n" +
		"  mute:" + healthy + "    logging: {driver: gelf, options: {gelf-address: 'udp://127.0.0.1:9', cache-disabled: 'true'}}\n") // Docker keeps nothing of it
	a.deploy(stack)
	got := map[string]string{}
	var unread []string
	err := a.Logs(a.deadline(20*time.Second), stack, func(p harness.LogPiece) error {
		if p.Err != nil {
			unread = append(unread, p.Service+": "+string(ccci.CodeOf(p.Err)))
			return nil
		}
		got[p.Service] += string(p.Text)
		return nil
	})
	if err != nil || got["app"] != long+"\nlistening\n" {
		t.Errorf("the log has %d bytes, want %d, as they were written; %v", len(got["app"]), len(long)+11, err)
	}
	if !slices.Equal(unread, []string{"mute: " + string(ccci.CodeRecipe)}) {
		t.Errorf("unread: %q", unread)
	}
	stop := errors.New("enough")
	if err := a.Logs(a.deadline(20*time.Second), stack, func(harness.LogPiece) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Logs ends with %v, not with the error of take", err)
	}
}

func peakMemory(t *testing.T, s *suite) {
	a := s.newApp(t)
	a.deploy(a.stack("version: '3.8'\nservices:\n  app:" + healthy + "    environment: [FILL=64]\n"))
	for deadline := time.Now().Add(20 * time.Second); a.PeakMemory() < 64<<20; {
		if time.Now().After(deadline) {
			t.Fatalf("PeakMemory = %d, want at least 64 MiB", a.PeakMemory())
		}
		<-time.After(50 * time.Millisecond)
	}
	if peak := a.PeakMemory(); peak > 256<<20 {
		t.Errorf("PeakMemory = %d, which is too much", peak)
	}
}
