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

// N3, N7: a stage in which the recipe was refused is called refused, and one that failed before a
// refusal is called failed.
func TestN7_ARefusedStageDidNotFail(t *testing.T) {
	passed := ccci.Check{Name: "install/a", Status: ccci.Pass}
	refused, failed := ccci.Check{Name: "install/b", Status: ccci.Fail, Code: ccci.CodeRefused}, ccci.Check{Name: "install/c", Status: ccci.Fail, Code: ccci.CodeRecipe}
	for name, c := range map[string]struct {
		checks []ccci.Check
		want   string
	}{
		"refused":           {[]ccci.Check{passed, refused}, "refused"},
		"refused first":     {[]ccci.Check{refused, failed}, "refused"},
		"failed":            {[]ccci.Check{failed}, "failed"},
		"failed first":      {[]ccci.Check{failed, refused}, "failed"},
		"passed":            {[]ccci.Check{passed}, "passed"},
		"refused in a skip": {[]ccci.Check{{Name: "install/d", Status: ccci.Unverified, Code: ccci.CodeRefused}}, "unverified"},
	} {
		s := ccci.Stage{Name: ccci.StageInstall, Checks: c.checks}
		s.Settle()
		r := ccci.Result{Stages: []ccci.Stage{s}}
		m, ok := ccci.ParseMarker(ccci.Marker{Stage: s.Name, Status: s.Status, Refused: s.Refused()}.String())
		if rows := r.Rows(); rows[0].Word() != c.want || s.Row().Word() != c.want || !ok || m.Row().Word() != c.want {
			t.Errorf("%s: %q in lists, %q in the result, %q in the log", name, rows[0].Word(), s.Row().Word(), m.Row().Word())
		}
	}
	if got := refused.Row().Word() + ", " + failed.Row().Word(); got != "refused, failed" {
		t.Errorf("the checks are called %s", got)
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
