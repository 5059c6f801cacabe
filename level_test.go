package ccci_test

import (
	"os"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// absent is a skip of a stage that has nothing to test, in the tables below.
const absent ccci.CheckStatus = "absent"

func result(install, upgrade, backup, restore, checks ccci.CheckStatus, lint ...ccci.Finding) *ccci.Result {
	r := &ccci.Result{Lint: lint, LintRan: true}
	for i, status := range []ccci.CheckStatus{install, upgrade, backup, restore, checks} {
		s := ccci.Stage{Name: ccci.StageNames[i], Status: status}
		if status == absent {
			s.Status, s.Absent = ccci.Skip, true
		}
		if status != ccci.Pass {
			s.Reason = "because"
		}
		r.Stages = append(r.Stages, s)
	}
	return r
}

func TestU7_Levels(t *testing.T) {
	const p, f, s, u, a = ccci.Pass, ccci.Fail, ccci.Skip, ccci.Unverified, absent
	bad := ccci.Finding{Rule: "R009", Severity: "error", Message: "no service is named app"}
	hint := ccci.Finding{Rule: "C013", Severity: "warning", Message: "volume data is not backed up"}
	for _, c := range []struct {
		r      *ccci.Result
		level  int
		reason string
	}{
		{result(p, p, p, p, p), 5, ""},
		{result(p, p, p, p, p, hint), 5, ""},
		{result(f, u, u, u, u), 0, "install: because"},
		{result(p, f, u, u, u), 1, "upgrade: because"},
		{result(p, p, p, f, u), 2, "backup and restore: because"},
		{result(p, p, f, u, p), 2, "backup and restore: because"},
		{result(p, p, p, p, f), 3, "checks: because"},
		{result(p, p, p, p, p, bad), 4, "lint: R009"},

		// What has nothing to test does not punish: a stateless recipe, a new one.
		{result(p, p, a, a, p), 5, ""},
		{result(p, a, p, p, p), 5, ""},
		{result(p, a, a, a, p), 5, ""},
		{result(p, a, a, a, p, bad), 4, "lint: R009"},
		{result(p, a, a, a, f), 1, "checks: because"},

		// What could be tested and was not is not earned.
		{result(p, s, p, p, p), 1, "upgrade was skipped: because"},
		{result(p, p, s, s, p), 2, "backup and restore was skipped: because"},
		{result(p, p, p, s, p), 2, "backup and restore was skipped: because"},
		{result(p, p, s, a, p), 2, "backup and restore was skipped: because"},
		{result(p, p, p, a, p), 2, "backup and restore did not pass"},
		{result(p, p, p, p, s), 3, "checks was skipped: because"},
		{result(p, s, s, s, s), 1, "upgrade was skipped: because"},

		// U6: unverified never counts as pass.
		{result(p, u, p, p, p), 1, "upgrade: because"},
		{result(p, a, u, u, p), 1, "backup and restore: because"},
		{result(p, p, p, u, p), 2, "backup and restore: because"},
		{result(p, p, s, u, p), 2, "backup and restore: because"},
		{&ccci.Result{LintRan: true}, 0, "install: the run ended before it"},
	} {
		c.r.ComputeLevel()
		if c.r.Level != c.level || !strings.HasPrefix(c.r.LevelReason, c.reason) || (c.reason == "") != (c.r.LevelReason == "") {
			t.Errorf("%+v: level %d (%s), want %d (%s)", c.r.Stages, c.r.Level, c.r.LevelReason, c.level, c.reason)
		}
	}
	unlinted := result(p, p, p, p, p)
	unlinted.LintRan = false
	if unlinted.ComputeLevel(); unlinted.Level != 4 {
		t.Errorf("a linter that did not run gives level %d", unlinted.Level)
	}
}

// N7: skips are named beside every level.
func TestN7_LevelWordsNameSkips(t *testing.T) {
	rows := []ccci.StageRow{{Name: ccci.StageInstall, Status: ccci.Pass}, {Name: ccci.StageUpgrade, Status: ccci.Skip}, {Name: ccci.StageBackup, Status: ccci.Unverified},
		{Name: ccci.StageChecks, Status: ccci.Skip}}
	if short, full := ccci.LevelWords(3, rows); short != "level 3, 2 skipped" || full != "level 3 (skipped: upgrade, checks)" {
		t.Errorf("%q, %q", short, full)
	}
	if short, full := ccci.LevelWords(5, rows[:1]); short != "level 5" || full != "level 5" {
		t.Errorf("%q, %q", short, full)
	}
}

// U7: the documentation states the ladder as the code has it.
func TestU7_DocsStateTheLadder(t *testing.T) {
	text, err := os.ReadFile("docs/levels.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, rung := range ccci.Ladder() {
		if rung.Level != i || !strings.Contains(string(text), rung.Proves) {
			t.Errorf("docs/levels.md does not say of level %d: %s", i, rung.Proves)
		}
	}
	if !strings.Contains(string(text), ccci.LevelRule) {
		t.Errorf("docs/levels.md does not hold the rule: %s", ccci.LevelRule)
	}
}

func TestU20_AQuickRunReachesNoLevel(t *testing.T) {
	r := ccci.Result{Options: ccci.Options{Quick: true}, LintRan: true}
	for _, name := range ccci.StageNames {
		r.Stages = append(r.Stages, ccci.Stage{Name: name, Status: ccci.Pass})
	}
	if r.ComputeLevel(); r.Level != 0 || r.LevelReason == "" {
		t.Errorf("level %d (%s)", r.Level, r.LevelReason)
	}
	r.Options.Quick = false
	if r.ComputeLevel(); r.Level != 5 {
		t.Errorf("level %d (%s)", r.Level, r.LevelReason)
	}
}
