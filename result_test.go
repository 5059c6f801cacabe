package ccci_test

import (
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestU6_AStageSettlesByItsWorstCheck(t *testing.T) {
	const p, f, s, u, k = ccci.Pass, ccci.Fail, ccci.Skip, ccci.Unverified, ccci.Flaky
	for _, c := range []struct {
		checks []ccci.CheckStatus
		want   ccci.CheckStatus
	}{
		{nil, u}, {[]ccci.CheckStatus{s}, s}, {[]ccci.CheckStatus{s, p}, p}, {[]ccci.CheckStatus{p, u, p}, u}, {[]ccci.CheckStatus{u, f, p}, f}, {[]ccci.CheckStatus{p, k, u}, k}, {[]ccci.CheckStatus{k, f}, f},
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

func TestCheckWord(t *testing.T) {
	for in, want := range map[string]string{
		"log in": "log-in", "  Log IN!! ": "log-in", "a.b_c": "a-b-c", "ünïcode": "n-code", "TestLogIn": "testlogin",
		"": "unnamed", "---": "unnamed", "../../etc/passwd": "etc-passwd", "7": "7",
	} {
		if got := ccci.CheckWord(in); got != want {
			t.Errorf("CheckWord(%q) = %q, want %q", in, got, want)
		}
	}
}
