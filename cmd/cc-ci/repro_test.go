package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

// N9: a run is repeated from its result and its archive alone, on a machine that has neither the
// recipe nor its enrolment: a green and a red one, and one that needs other apps.
func TestN9_ReproOfAGreenAndARedRunHasTheSameVerdict(t *testing.T) {
	together(t)
	for name, want := range map[string]struct {
		code    int
		verdict string
	}{
		"canary-good":          {exitPassed, "passed, level 5"},
		"canary-failing-check": {exitFailed, "recipe failed, level 3"},
		"canary-dependent":     {exitPassed, "passed, level 5"},
		"canary-flaky-check":   {exitFlaky, "flaky, level 3"},
	} {
		t.Run(name, func(t *testing.T) {
			together(t)
			dir, config := workspace(t, "")
			repo, branch := example(t, dir, name)
			example(t, dir, "canary-good") // what another one depends on
			out := filepath.Join(dir, "out")
			if code, _, log := harnessRun(t, config, out, repo, "--head", branch); code != want.code {
				t.Fatalf("the run ended with exit code %d\n%s", code, log)
			}
			first := readResult(t, filepath.Join(out, "result.json"), "")
			elsewhere := moveAway(t, dir, out)
			code, again, log := reproOf(t, elsewhere, filepath.Join(elsewhere, "past", "result.json"))
			if code != want.code || !strings.Contains(log, "same verdict: "+want.verdict+"\n") {
				t.Errorf("exit code %d\n%s", code, log)
			}
			if differ := repro.Differences(&first, &again); len(differ) > 0 {
				t.Errorf("checks differ: %q", differ)
			}
			if again.Base == nil || again.Base.Commit != first.Base.Commit || again.Commit != first.Commit || again.RunID == first.RunID {
				t.Errorf("base %+v, commit %s, run %s", again.Base, again.Commit, again.RunID)
			}
			if strings.Contains(log, "deviation: image") {
				t.Errorf("the images are the same\n%s", log)
			}
			nothingLeftOf(t, again.RunID)
		})
	}
}

// N9, N14: a check that is red at every odd attempt is named when it comes out otherwise. Its hook, of
// an archive that is not this machine's own, runs only when a person says so.
func TestN9_ReproOfAFlakyRunNamesTheCheck(t *testing.T) {
	together(t)
	dir, config := workspace(t, "")
	repo, branch := example(t, dir, "canary-good")
	tests, attempts := filepath.Join(dir, "enrolments"), filepath.Join(t.TempDir(), "attempts")
	if err := os.CopyFS(filepath.Join(tests, "canary-good"), os.DirFS("../../tests/canary-good")); err != nil {
		t.Fatal(err)
	}
	hooks := filepath.Join(tests, "canary-good", "hooks")
	if err := os.Mkdir(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	hook := "#!/bin/sh\necho >>" + attempts + "\ntest $(($(wc -l <" + attempts + ") % 2)) = 0\n"
	if err := os.WriteFile(filepath.Join(hooks, "pre-checks"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	code, first, log := harnessRun(t, config, out, repo, "--head", branch, "--tests", tests, "--stages", "install,checks")
	if code != exitFailed || first.Cause == nil || first.Cause.Check != "checks/hook-pre-checks" {
		t.Fatalf("exit code %d, cause %+v\n%s", code, first.Cause, log)
	}
	elsewhere := moveAway(t, dir, out)
	past := filepath.Join(elsewhere, "past", "result.json")

	code, _, log = reproOf(t, elsewhere, past)
	if code != exitRefused || !strings.Contains(log, "program hooks/pre-checks") || !strings.Contains(log, "--trust-enrolment") {
		t.Errorf("without consent: exit code %d\n%s", code, log)
	}
	if ran, err := os.ReadFile(attempts); err != nil || bytes.Count(ran, []byte("\n")) != 1 {
		t.Errorf("the hook ran without consent: %q, %v", ran, err)
	}
	code, again, log := reproOf(t, elsewhere, past, "--trust-enrolment")
	if code != exitPassed || !strings.Contains(log, "another verdict: passed, level 1; it was recipe failed, level 1\n") ||
		!strings.Contains(log, "  checks/hook-pre-checks: failed then, passed now\n") {
		t.Errorf("the even attempt: exit code %d\n%s", code, log)
	}
	if again.Stage(ccci.StageUpgrade).Status != ccci.Unverified || again.Base != nil {
		t.Errorf("the options are not those of the run: %+v, base %+v", again.Options, again.Base)
	}
	if code, _, log = reproOf(t, elsewhere, past, "--trust-enrolment"); code != exitFailed || !strings.Contains(log, "same verdict: recipe failed, level 1\n") {
		t.Errorf("the odd attempt: exit code %d\n%s", code, log)
	}
}

// moveAway leaves of a workspace nothing but a run's result and archive, in the folder past
// of another one.
func moveAway(t *testing.T, dir, out string) (elsewhere string) {
	t.Helper()
	elsewhere = t.TempDir()
	if err := os.Mkdir(filepath.Join(elsewhere, "past"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"result.json", ccci.ReproArchive} {
		if err := os.Rename(filepath.Join(out, name), filepath.Join(elsewhere, "past", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return elsewhere
}

// reproOf runs cc-ci repro with no configuration but a data folder within dir.
func reproOf(t *testing.T, dir, past string, args ...string) (code int, result ccci.Result, log string) {
	t.Helper()
	config := filepath.Join(dir, "cc-ci.yml")
	if err := os.WriteFile(config, []byte("data: data\nlisten: 127.0.0.1:0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	cmd := exec.Command(binary(t), append([]string{"--config", config, "repro", "--out", out, past}, args...)...)
	cmd.Dir = dir
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code = cmd.ProcessState.ExitCode(); code == exitPassed || code == exitFailed || code == exitFlaky {
		result = readResult(t, filepath.Join(out, "result.json"), text.String())
	}
	return code, result, text.String()
}
