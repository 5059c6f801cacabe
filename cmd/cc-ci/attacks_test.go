package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/attacker"
)

// The attacks in testdata/attacks are recipes whose app does harm once it runs. A case is an archive:
//
//	attacks      what the app does, a line each, as internal/testserver/attacker/program says
//	environment  variables of the app, KEY=value
//	secret       modifiers of the app's secret in .env.sample; by default "length=32"
//	env          further lines of .env.sample
//	service      further keys of the service in the compose file
//	labels       further labels of the service
//	deploy       further keys of the service's section deploy
//	services     further services of the compose file
//	release      what the app of a version released before does; with it the run is an upgrade
//	more         further top-level keys of the compose file
//	config       further lines of cc-ci.yml
//	recipe.yml   the enrolment; by default the app is asked for /health
//	want.json    how the run must end, see attackWant; by default it passes
//
// In all of them {{image}} is the attacker's, {{volumes}} the same with a volume of the image at /volume, {{gateway}} the host's address on the network of apps,
// {{canary}} the port on which a server of the host must not be reached by HTTP, {{packets}} a port of the
// case's own which no packet and no connection must reach, and {{neighbours}} looks up each name of the
// services beside the apps. A case that does no harm says "No attack" in its first line.
const attackDir = "testdata/attacks"

// leastAttacks is how many cases do harm at least: fewer were lost.
const leastAttacks = 40

// attackWant is how a run must end. What holds for every case is in attackCase.run.
type attackWant struct {
	Exit  int      `json:"exit"`
	Cause string   `json:"cause"` // pattern for the failing check and its message
	Log   []string `json:"log"`   // patterns for what the run printed and the artifacts
	Never []string `json:"never"` // texts, quoted as in Go, that must be in none of them
}

const canaryPort = "9911"

// harnessLimit is what a harness may use of memory, in bytes: an app must not make it larger.
const harnessLimit = 400 << 20

// N3, M2, A19: what an app does at run time reaches neither the host nor another app, does not outlive
// its run, and is the recipe's act.
func TestN3_RuntimeAttacks(t *testing.T) {
	t.Parallel()
	cases := attackCases(t)
	world := newAttackWorld(t)
	for name, archive := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world.attack(t, name, archive)
		})
	}
}

// attackCases reads the cases, by their names.
func attackCases(t *testing.T) map[string]*txtar.Archive {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(attackDir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	cases, harmful := map[string]*txtar.Archive{}, 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cases[strings.TrimSuffix(filepath.Base(file), ".txtar")] = archive
		if !strings.HasPrefix(string(archive.Comment), "No attack") {
			harmful++
		}
	}
	if harmful < leastAttacks {
		t.Fatalf("%d attacks in %s, want %d at least", harmful, attackDir, leastAttacks)
	}
	return cases
}

// attack runs one case.
func (w *attackWorld) attack(t *testing.T, name string, archive *txtar.Archive) {
	dir := t.TempDir()
	var lookUps strings.Builder
	for _, name := range neighbourNames {
		fmt.Fprintf(&lookUps, "resolve name-%s %[1]s\n", name)
	}
	known := strings.NewReplacer("{{gateway}}", w.gateway, "{{canary}}", canaryPort, "{{packets}}", w.packets(t, name),
		"{{name}}", name, "{{image}}", attacker.Image, "{{volumes}}", attacker.Volumes, "{{neighbours}}", lookUps.String())
	parts := map[string]string{"want.json": "{}", "secret": "length=32", "recipe.yml": "health:\n  path: /health\n  status: [200]\ntimeouts:\n  deploy: 60s\n  healthy: 40s\n  step: 20s\n"}
	for _, f := range archive.Files {
		parts[f.Name] = known.Replace(string(f.Data))
	}
	var want attackWant
	if err := json.Unmarshal([]byte(parts["want.json"]), &want); err != nil {
		t.Fatal(err)
	}
	repo := attackRecipe(t, dir, name, parts)
	tests, out := filepath.Join(dir, "tests"), filepath.Join(dir, "out")
	write(t, filepath.Join(tests, name, "recipe.yml"), parts["recipe.yml"])
	config := filepath.Join(dir, "cc-ci.yml")
	write(t, config, "data: data\ntests: tests\nlisten: 127.0.0.1:0\n"+parts["config"])

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := w.docker.Command(ctx, w.program, "--config", config, "run", "--out", out, repo)
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	text := printed.Bytes()
	defer func() {
		if t.Failed() {
			t.Logf("%.20000s", text)
		}
	}()
	result := readResult(t, filepath.Join(out, "result.json"), printed.String())
	all := append([]byte{}, text...)
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if info, statErr := d.Info(); statErr == nil && info.Size() > 32<<20 {
			t.Errorf("%s has %d MiB", d.Name(), info.Size()>>20)
		}
		all = append(append(all, '\n'), content...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != want.Exit {
		t.Errorf("exit code %d, want %d", code, want.Exit)
	}
	cause := ""
	if result.Cause != nil {
		cause = result.Cause.Check + ": " + result.Cause.Message
	}
	if !regexp.MustCompile(want.Cause).MatchString(cause) {
		t.Errorf("cause %q, want %q", cause, want.Cause)
	}
	for _, pattern := range want.Log {
		if !regexp.MustCompile(pattern).Match(all) {
			t.Errorf("nothing says %q", pattern)
		}
	}
	for _, text := range append(want.Never, "ESCAPED") {
		if i := bytes.Index(all, []byte(text)); i >= 0 {
			t.Errorf("it says %q", all[max(0, i-20):min(len(all), i+120)])
		}
	}
	if result.Teardown == nil || !result.Teardown.Clean {
		t.Errorf("teardown: %+v", result.Teardown)
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && usage.Maxrss<<10 > harnessLimit {
		t.Errorf("the harness used %d MiB", usage.Maxrss>>10)
	}
	w.untouched(t, name, result.RunID)
}

// untouched looks for what an attack reached, and what its run left.
func (w *attackWorld) untouched(t *testing.T, name string, run ccci.RunID) {
	t.Helper()
	w.mu.Lock()
	for _, hit := range w.hits {
		if strings.HasSuffix(hit, "/"+name) || strings.Contains(hit, "/"+name+"?") {
			t.Errorf("the canary was reached: %s", hit)
		}
	}
	w.mu.Unlock()
	left, err := snapshot(w.docker.Docker)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range left {
		if o.Run == string(run) {
			t.Errorf("left on the daemon: %s %s", o.Kind, o.Name)
		}
	}
}

// attackRecipe makes the repository of a case.
func attackRecipe(t *testing.T, dir, name string, parts map[string]string) string {
	t.Helper()
	repo := filepath.Join(dir, name)
	commit := func(attacks, version string, commands ...[]string) {
		compose, err := attackCompose(parts, attacks, version)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(repo, "compose.yml"), compose)
		for _, args := range append(commands, []string{"add", "-A"}, []string{"commit", "-qm", "an attack"}) {
			gitIn(t, repo, args...)
		}
	}
	write(t, filepath.Join(repo, ".env.sample"), "TYPE="+name+"\nDOMAIN="+name+".example.com\nLETS_ENCRYPT_ENV=production\nSECRET_TOKEN_VERSION=v1 # "+strings.TrimSpace(parts["secret"])+"\n"+parts["env"])
	write(t, filepath.Join(repo, "README.md"), "# "+name+"\n")
	const version = "0.1.0+1.0.0"
	release, upgrade := parts["release"]
	if !upgrade {
		commit(parts["attacks"], version, []string{"init", "-q"})
		return repo
	}
	commit(release, version, []string{"init", "-q"})
	gitIn(t, repo, "tag", "-a", "-m", version, version)
	commit(parts["attacks"], "0.2.0+1.0.0")
	return repo
}

// attackCompose makes the compose file of a version of a case.
func attackCompose(parts map[string]string, attacks, version string) (string, error) {
	lines := func(text string) (out []any) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
		return out
	}
	service := map[string]any{
		"image":       attacker.Image,
		"networks":    []any{"proxy"},
		"secrets":     []any{"token"},
		"command":     lines(strings.ReplaceAll(attacks, "$", "$$")),
		"environment": lines(parts["environment"]),
	}
	deploy := map[string]any{
		"restart_policy": map[string]any{"condition": "any", "delay": "1s"},
		"labels": append([]any{
			"traefik.enable=true",
			"traefik.http.services.${STACK_NAME}.loadbalancer.server.port=8080",
			"traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)",
			"traefik.http.routers.${STACK_NAME}.entrypoints=web-secure",
			"traefik.http.routers.${STACK_NAME}.tls=true",
			"coop-cloud.${STACK_NAME}.version=" + version,
		}, lines(parts["labels"])...),
	}
	if err := yaml.Unmarshal([]byte(parts["deploy"]), &deploy); err != nil {
		return "", err
	}
	service["deploy"] = deploy
	if err := yaml.Unmarshal([]byte(parts["service"]), &service); err != nil {
		return "", err
	}
	services := map[string]any{"app": service}
	if err := yaml.Unmarshal([]byte(parts["services"]), &services); err != nil {
		return "", err
	}
	file := map[string]any{
		"version":  "3.8",
		"services": services,
		"networks": map[string]any{"proxy": map[string]any{"external": true}},
		"secrets":  map[string]any{"token": map[string]any{"external": true, "name": "${STACK_NAME}_token_${SECRET_TOKEN_VERSION}"}},
	}
	if err := yaml.Unmarshal([]byte(parts["more"]), &file); err != nil {
		return "", err
	}
	text, err := yaml.Marshal(file)
	return string(text), err
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
