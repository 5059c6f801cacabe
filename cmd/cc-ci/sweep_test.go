package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/sweep"
)

func TestSweepEnding(t *testing.T) {
	failed := sweep.Row{Status: ccci.StatusFailed}
	for name, c := range map[string]struct {
		rows []sweep.Row
		want int
	}{
		"nothing newer":           {[]sweep.Row{{}}, exitPassed},
		"green":                   {[]sweep.Row{{Status: ccci.StatusPassed, Promoted: true}}, exitPassed},
		"red":                     {[]sweep.Row{{}, failed}, exitFailed},
		"refused":                 {[]sweep.Row{{Code: ccci.CodeRefused}, failed}, exitRefused},
		"refused by admission":    {[]sweep.Row{{Status: ccci.StatusRefused}, failed}, exitRefused},
		"the time was up":         {[]sweep.Row{{Status: ccci.StatusInconclusive}, failed}, exitInconclusive},
		"flaky":                   {[]sweep.Row{failed, {Status: ccci.StatusFlaky}}, exitFlaky},
		"not there":               {[]sweep.Row{{Code: ccci.CodeNotFound}, failed}, exitUsage},
		"our side":                {[]sweep.Row{{Code: ccci.CodeInfra}, failed, {Code: ccci.CodeInvalid}}, exitInfra},
		"our side, whatever else": {[]sweep.Row{{Code: ccci.CodeInvalid}, {Code: ccci.CodeInfra}}, exitInfra},
	} {
		got := exitPassed
		if err := sweepEnding(c.rows); err != nil {
			got = int(err.(codeError))
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// aheadOfMain makes canary-good with its upgrade merged and a further change on a branch.
func aheadOfMain(t *testing.T, dir string) (repo string) {
	t.Helper()
	repo, branch := example(t, dir, "canary-good")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	git("merge", "-q", "--ff-only", branch)
	git("checkout", "-qb", "change")
	if err := os.WriteFile(filepath.Join(repo, "NOTES.md"), []byte("a change\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	git("add", "NOTES.md")
	git("commit", "-qm", "say more")
	git("checkout", "-q", "main")
	return repo
}

// U20, U4, U23: on a real swarm the sweep promotes what is green and keeps what was
// on red, a second sweep does nothing, and a quick run gets the canonical's data,
// by hand as on a pull request. Nothing of it stays on the daemon.
func TestU20_SweepAndQuickRun(t *testing.T) {
	together(t)
	dir, config := workspace(t, "repos:\n  - repo: coop/canary-good\n")
	repo := aheadOfMain(t, dir)
	for _, args := range [][]string{{"forge", "import", repo, "coop/canary-good"}, {"forge", "pr", "coop/canary-good", "change"}} {
		f := start(t, append([]string{"--config", config}, args...)...)
		if code := f.wait(t, time.Minute); code != 0 {
			t.Fatalf("%v: exit code %d\n%s", args, code, f.out)
		}
	}

	// The release lacks what the enrolment asks of the newest version, so it is red.
	first := start(t, "--config", config, "sweep")
	if code := first.wait(t, 5*time.Minute); code != exitFailed {
		t.Fatalf("exit code %d\n%s", code, first.out)
	}
	for _, want := range []string{`(?m)^canary-good: 0\.1\.0\+1\.0\.0 failed: .*there still is no canonical$`, `(?m)^canary-good: main at [0-9a-f]{8} passed at level \d and is the canonical now$`} {
		if !regexp.MustCompile(want).MatchString(first.out.String()) {
			t.Errorf("no %q:\n%s", want, first.out)
		}
	}
	again := start(t, "--config", config, "sweep")
	if code := again.wait(t, time.Minute); code != 0 || !strings.Contains(again.out.String(), "nothing to do") {
		t.Errorf("a second sweep: exit code %d\n%s", code, again.out)
	}
	swept := runsOn(first.out.String())
	if len(swept) != 2 {
		t.Errorf("the sweep names the runs %v, not two", swept)
	}
	for _, run := range swept {
		nothingLeftOf(t, run)
	}

	code, r, log := harnessRun(t, config, filepath.Join(dir, "quick"), repo, "--head", "change", "--quick")
	if code != exitPassed || r.Base == nil || !strings.Contains(r.Base.Reason, "the last green canonical") || r.Level != 0 || r.Kept != nil {
		t.Errorf("quick: exit code %d, base %+v, level %d, kept %+v\n%s", code, r.Base, r.Level, r.Kept, log)
	}
	for _, s := range r.Stages {
		want := ccci.Pass
		if s.Name == ccci.StageBackup || s.Name == ccci.StageRestore {
			want = ccci.Skip
		}
		if s.Status != want {
			t.Errorf("quick: %s is %s (%s)", s.Name, s.Status, s.Reason)
		}
	}
	nothingLeftOf(t, r.RunID)

	// The whole suite of the same change would cross no version from the canonical.
	_, r, log = harnessRun(t, config, filepath.Join(dir, "whole"), repo, "--head", "change")
	if r.Status != ccci.StatusPassed || r.Base == nil || r.Base.Version != "0.1.0+1.0.0" {
		t.Errorf("whole: %s, base %+v\n%s", r.Status, r.Base, log)
	}

	s := start(t, "--config", config, "serve")
	url := s.awaitLine(t, `serving (http://\S+)`, 2*time.Minute)
	comment(t, config, "canary-good", "!testme --quick")
	page := awaitPage(t, url+"/pulls/coop/canary-good/1", `does not change the badge`, 4*time.Minute)
	s.cmd.Process.Signal(os.Interrupt)
	s.wait(t, 2*time.Minute)
	for _, run := range runsOn(page) {
		nothingLeftOf(t, run)
	}
}
