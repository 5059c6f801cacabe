package report_test

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// N7: an inconclusive run says why it is: its time was up, also after a base that does not install, or the base
// that was asked for does not install.
func TestN7_InconclusiveByItsCause(t *testing.T) {
	broken := []ccci.BrokenBase{{Version: "1.0.0+2.0.51", What: "the base", Cause: ccci.Cause{Check: "install/converged", Message: "it failed 3 times"}}}
	late := &ccci.Cause{Check: "install/converged", Message: "not finished when the run reached its limit of 1h0m0s"}
	asked := &ccci.Cause{Check: "upgrade", Message: "the base is broken: 1.0.0+2.0.51 does not install"}
	from, quick := ccci.Options{From: "1.0.0+2.0.51"}, ccci.Options{Quick: true}
	const time, release, canonical = "The time limit was reached", "the release from which this run was to start, did not install", "the last green canonical, from which this quick run was to start, did not install"
	for name, c := range map[string]struct {
		options ccci.Options
		cause   *ccci.Cause
		bases   []ccci.BrokenBase
		killed  bool // by the engine: the result is not what the harness would have said
		want    string
		next    string
	}{
		"its time":                                        {ccci.Options{}, late, nil, false, time, "`!testme` to try again"},
		"its time, ended by the engine":                   {from, asked, broken, true, time, "`!testme` to try again"},
		"its time, after a broken base":                   {ccci.Options{}, late, broken, false, time, "`!testme` to try again"},
		"its time, after the base that was asked for":     {from, late, broken, false, time, "`!testme` to try again"},
		"its time, with the canonical":                    {quick, late, nil, false, time, "`!testme` to try again"},
		"the base that was asked for":                     {from, asked, broken, false, release, "name another one with `from=`"},
		"the canonical of a quick run":                    {quick, &broken[0].Cause, broken, false, canonical, "without the canonical"},
		"the same after another number of tries, for all": {quick, &ccci.Cause{Check: "install/converged", Message: "it failed 4 times"}, broken, false, canonical, "without the canonical"},
	} {
		run, res := ended(ccci.StatusInconclusive, 0)
		run.Options, res.Options, res.Cause, res.BrokenBases = c.options, c.options, c.cause, c.bases
		run.Cause = report.OneLine(res.Cause)
		if c.killed {
			res.Status, run.Cause = ccci.StatusCancelled, "the run took longer than 1 h 0 min and was ended"
		}
		got := report.Comment(run, res, report.Links{}, nil)
		for _, words := range []string{time, release, canonical} {
			if strings.Contains(got, words) != (words == c.want) {
				t.Errorf("%s: it says %q or lacks it:\n%s", name, words, got)
			}
		}
		if !strings.Contains(got, c.next) {
			t.Errorf("%s: it lacks %q:\n%s", name, c.next, got)
		}
	}
}

// N7: a failure is not laid upon the release because both end at the same check.
func TestN7_TheReleaseIsBlamedForTheSameAlone(t *testing.T) {
	const probably = "This commit probably did not cause it"
	base := ccci.BrokenBase{Version: "1.0.0+`2`", What: "the last [release](x)", Cause: ccci.Cause{Check: "install/converged", Message: "no such key", Hint: "look"}}
	run, res := ended(ccci.StatusFailed, 0)
	res.Base, res.BrokenBases, res.Stages[0].Status = nil, []ccci.BrokenBase{base}, ccci.Fail
	res.Cause = &ccci.Cause{Check: "install/converged", Code: ccci.CodeRecipe, Message: "no such key"}
	if got := report.Comment(run, res, report.Links{}, nil); !strings.Contains(got, probably) || strings.Count(got, "no such key") != 1 || strings.Contains(got, "last [release") {
		t.Errorf("the same:\n%s", got)
	}
	res.Cause.Message = "no such file"
	if got := report.Comment(run, res, report.Links{}, nil); strings.Contains(got, probably) || !strings.Contains(got, "for different reasons") ||
		!strings.Contains(got, "no such key") || !strings.Contains(got, "no such file") {
		t.Errorf("another:\n%s", got)
	}
	res.Cause.Check, res.Stages[0].Status = "checks/orders", ccci.Pass
	if got := report.Comment(run, res, report.Links{}, nil); strings.Contains(got, probably) || strings.Contains(got, "for different reasons") {
		t.Errorf("this commit does install:\n%s", got)
	}
}
