package ccci_test

import (
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

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
