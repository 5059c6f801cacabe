package ccci_test

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func result(install, upgrade, backup, restore, checks ccci.CheckStatus, lint ...ccci.Finding) *ccci.Result {
	r := &ccci.Result{Lint: lint, LintRan: true}
	for i, status := range []ccci.CheckStatus{install, upgrade, backup, restore, checks} {
		s := ccci.Stage{Name: ccci.StageNames[i], Status: status}
		if status != ccci.Pass {
			s.Reason = "because"
		}
		r.Stages = append(r.Stages, s)
	}
	return r
}

func TestU7_Levels(t *testing.T) {
	const p, f, s, u = ccci.Pass, ccci.Fail, ccci.Skip, ccci.Unverified
	bad := ccci.Finding{Rule: "R009", Severity: "error", Message: "no service is named app"}
	for _, c := range []struct {
		r      *ccci.Result
		level  int
		reason string
	}{
		{result(p, p, p, p, p), 5, ""},
		{result(f, u, u, u, u), 0, "install: because"},
		{result(p, f, u, u, u), 1, "upgrade: because"},
		{result(p, p, p, f, u), 2, "backup and restore: because"},
		{result(p, p, f, u, p), 2, "backup and restore: because"},
		{result(p, s, s, s, p), 5, ""},                 // a skip does not punish
		{result(p, u, p, p, p), 1, "upgrade: because"}, // U6: unverified never counts as pass
		{result(p, p, p, p, f), 3, "checks: because"},
		{result(p, p, p, p, p, bad), 4, "lint: R009"},
		{result(p, s, s, s, s, bad), 1, "lint: R009"},
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

func TestU6_AStageSettlesByItsWorstCheck(t *testing.T) {
	const p, f, s, u = ccci.Pass, ccci.Fail, ccci.Skip, ccci.Unverified
	for _, c := range []struct {
		checks []ccci.CheckStatus
		want   ccci.CheckStatus
	}{
		{nil, u}, {[]ccci.CheckStatus{s}, s}, {[]ccci.CheckStatus{s, p}, p}, {[]ccci.CheckStatus{p, u, p}, u}, {[]ccci.CheckStatus{u, f, p}, f},
	} {
		var stage ccci.Stage
		for _, status := range c.checks {
			stage.Checks = append(stage.Checks, ccci.Check{Status: status, Message: "m"})
		}
		if stage.Settle(); stage.Status != c.want {
			t.Errorf("%v: %s", c.checks, stage.Status)
		}
		if c.want != p && stage.Reason == "" {
			t.Errorf("%v: no reason", c.checks)
		}
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
