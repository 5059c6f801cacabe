package dashboard

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// testedView says what stands behind a recipe's verdict: what was tested, what was skipped and why,
// and which rules of admission are waived.
type testedView struct {
	Run     ccci.RunID
	Stages  []testedStage
	Waivers []string // as the run's settings list them; nil also when the run left no result
}

// testedStage is one stage of it.
type testedStage struct {
	Name    ccci.StageName
	Mark    mark
	Reason  string
	Checks  []string     // names of those that passed
	Skipped []ccci.Check // those that did not, with their messages
}

// testedNames is how many checks of a stage are named.
const testedNames = 30

// testedBy reads what a run tested; nil when there is none. A result that cannot be read is left
// out: the run's own record has the stages.
func (d *Dashboard) testedBy(r *http.Request, run *ccci.Run) (*testedView, error) {
	if run == nil {
		return nil, nil
	}
	leave, err := d.turn(r)
	if err != nil {
		return nil, err
	}
	defer leave()
	result, err := d.facts.of(r.Context(), run.ID)
	if err != nil {
		d.log.Error("reading a result", "run", run.ID, "error", err)
	}
	v := &testedView{Run: run.ID}
	for _, s := range stageViews(*run, result) {
		t := testedStage{Name: s.Name, Mark: s.Mark(), Reason: strings.Clone(s.Reason)}
		for _, c := range s.Checks[:min(len(s.Checks), testedNames)] {
			if c.Status == ccci.Pass {
				t.Checks = append(t.Checks, stageTail(c.Name))
			} else {
				t.Skipped = append(t.Skipped, ccci.Check{Name: strings.Clone(c.Name), Status: c.Status, Code: ccci.Code(strings.Clone(string(c.Code))), Message: strings.Clone(c.Message)})
			}
		}
		v.Stages = append(v.Stages, t)
	}
	if result != nil {
		for _, key := range slices.Sorted(maps.Keys(result.Settings)) {
			if strings.HasPrefix(key, "waivers[") {
				v.Waivers = append(v.Waivers, strings.Clone(result.Settings[key]))
			}
		}
	}
	return v, nil
}
