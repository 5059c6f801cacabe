package reconcile

import (
	"encoding/json"
	"fmt"
	"io"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Report says what became of one unit.
type Report struct {
	Unit    string
	Planned bool     // a dry run: Actions are what would be done
	Actions []Action // in order
	Err     error
}

// WriteText says it to a person: one line each, and nothing of what was told on the way.
func (r Report) WriteText(w io.Writer) error {
	n := len(r.Actions)
	var text string
	switch {
	case r.Err != nil && r.Planned:
		text = r.Unit + ": not all of it could be planned\n"
	case r.Err != nil:
		text = fmt.Sprintf("%s: failed after %s\n", r.Unit, number(n))
	case n == 0:
		text = r.Unit + ": nothing to do\n"
	case r.Planned:
		for _, a := range r.Actions {
			text += fmt.Sprintf("%s: %s\n", r.Unit, a)
		}
		text += fmt.Sprintf("%s: %s to make\n", r.Unit, number(n))
	default:
		text = fmt.Sprintf("%s: done, %s\n", r.Unit, number(n))
	}
	_, err := io.WriteString(w, text)
	return err
}

func number(n int) string {
	switch n {
	case 0:
		return "no change"
	case 1:
		return "1 change"
	}
	return fmt.Sprintf("%d changes", n)
}

// MarshalJSON writes unit, state (nothing, planned, changed or failed), actions, each with
// its sentence as text, error, code and hint.
func (r Report) MarshalJSON() ([]byte, error) {
	type action struct {
		Action
		Text string `json:"text"`
	}
	out := struct {
		Unit    string    `json:"unit"`
		State   string    `json:"state"`
		Actions []action  `json:"actions"`
		Error   string    `json:"error,omitempty"`
		Code    ccci.Code `json:"code,omitempty"`
		Hint    string    `json:"hint,omitempty"`
	}{Unit: r.Unit, State: "changed", Actions: []action{}}
	for _, a := range r.Actions {
		out.Actions = append(out.Actions, action{a, a.String()})
	}
	switch {
	case r.Err != nil:
		out.State, out.Error, out.Code, out.Hint = "failed", r.Err.Error(), ccci.CodeOf(r.Err), ccci.HintOf(r.Err)
	case len(r.Actions) == 0:
		out.State = "nothing"
	case r.Planned:
		out.State = "planned"
	}
	return json.Marshal(out)
}
