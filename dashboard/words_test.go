package dashboard

import (
	"io/fs"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// N7: pages, badges, comments and commit statuses have the same word for a status.
func TestN7_OneWordForEachStatus(t *testing.T) {
	for _, status := range ccci.Statuses {
		word := status.Word()
		run := ccci.Run{ID: "260314-120000-abcdef", Recipe: "x", Status: status, Attempt: 1, Level: 2, Finished: noon}
		if got := markOf(status).Word; got != word {
			t.Errorf("pages call %s %q", status, got)
		}
		if got := report.Status(run, nil, report.Links{}).Description; !strings.HasPrefix(got, word) {
			t.Errorf("commit statuses call %s %q, want %q", status, got, word)
		}
		if got := report.Comment(run, nil, report.Links{}, nil); !strings.Contains(got, " "+word+": ") {
			t.Errorf("comments call %s %.60q, want %q", status, got, word)
		}
		s := standing{Speaks: &run}
		if got := s.face().full; status.Terminal() && status != ccci.StatusPassed && status != ccci.StatusCancelled && !strings.HasPrefix(got, word) {
			t.Errorf("badges call %s %q, want %q", status, got, word)
		}
		if status.Verdict() != "" && status != ccci.StatusCancelled && classRank(string(status)) < 0 {
			t.Errorf("the overview has no filter for %s", status)
		}
	}
	for _, status := range []ccci.CheckStatus{"", ccci.Pass, ccci.Fail, ccci.Skip, ccci.Unverified} {
		if got := checkMark(status); got.Word != status.Word() || got.Word == "" {
			t.Errorf("pages call a check that is %q %q", status, got.Word)
		}
	}
	files, err := fs.Glob(embedded, "templates/*.html")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(embedded, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"infrastructure error", "inconclusive", ">passed<", ">failed<", ">skipped<", ">running<", ">queued<", ">stale<", ">not tested<"} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s writes %q itself", file, word)
			}
		}
	}
}

// N7: a stage in which the recipe was refused is called refused on the page, in its log and in the
// comment, also while the run is torn down.
func TestN7_ARefusedStageIsNeverFailed(t *testing.T) {
	m := ccci.Marker{Stage: ccci.StageInstall, Status: ccci.Fail, Refused: true, Reason: "it asks for much"}
	check := ccci.Check{Name: "install/admitted", Status: ccci.Fail, Code: ccci.CodeRefused, Message: m.Reason}
	result := &ccci.Result{Status: ccci.StatusRefused, Stages: []ccci.Stage{{Name: m.Stage, Status: m.Status, Reason: m.Reason, Checks: []ccci.Check{check}}}}
	for _, status := range []ccci.Status{ccci.StatusRunning, ccci.StatusRefused} {
		run := ccci.Run{ID: "260314-120000-abcdef", Recipe: "x", Status: status, Attempt: 1, Stages: []ccci.StageRow{m.Row()}}
		results := []*ccci.Result{nil}
		if status.Terminal() {
			results = append(results, result)
		}
		for _, result := range results {
			if got := stageViews(run, result)[0].Mark(); got != markOf(ccci.StatusRefused) {
				t.Errorf("the page of a %s run shows %+v", status, got)
			}
			if got := report.Comment(run, result, report.Links{}, nil); !strings.Contains(got, "- ⛔ **install** refused: it asks for much\n") {
				t.Errorf("the comment of a %s run says\n%s", status, got)
			}
		}
	}
	log := cutLog([]byte(m.String()+"\n"), true, logView{})
	if got := log.Sections[0].Mark(); got != markOf(ccci.StatusRefused) {
		t.Errorf("the log shows %+v", got)
	}
	if got := rowMark(check.Row()); got != markOf(ccci.StatusRefused) {
		t.Errorf("the check shows %+v", got)
	}
}

// P4, N7: a run that was superseded is called that wherever people read it, with what took its place.
func TestP4_SupersededIsOneWord(t *testing.T) {
	newer, head := ccci.RunID("260314-130000-abcdef"), ccci.Commit("0123456789abcdef0123456789abcdef01234567")
	for by, why := range map[string]ccci.Supersession{
		"run " + string(newer):        {Run: newer, Head: head},
		"the push of " + head.Short(): {Head: head},
	} {
		run := ccci.Run{ID: "260314-120000-abcdef", Recipe: "x", Status: ccci.StatusQueued, CancelledBy: "ada", Superseded: why, Attempt: 1}
		for _, run.Status = range []ccci.Status{ccci.StatusQueued, ccci.StatusCancelled} {
			if got := run.Word(); got != "superseded" {
				t.Errorf("a %s run is called %q", run.Status, got)
			}
			if got := runMark(run).Word; got != run.Word() {
				t.Errorf("pages call it %q", got)
			}
			if got := report.Status(run, nil, report.Links{}).Description; !strings.HasPrefix(got, "superseded by "+by) && run.Status.Terminal() || !strings.HasPrefix(got, "superseded") {
				t.Errorf("commit statuses call it %q", got)
			}
			if got := report.Comment(run, nil, report.Links{}, nil); !strings.Contains(got, " superseded: ") {
				t.Errorf("comments call it %.60q", got)
			}
		}
	}
	cancelling := ccci.Run{Recipe: "x", Status: ccci.StatusRunning, CancelledBy: "ada"}
	if got := cancelling.Word(); got != ccci.WordCancelling {
		t.Errorf("a run that is torn down is called %q", got)
	}
}
