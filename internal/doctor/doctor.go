// Package doctor looks whether what cc-ci needs is there, and says of each
// thing that is not which right, program or setting is missing and how to get it. It
// changes nothing.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Check looks at something.
type Check func(ctx context.Context) []ccci.Diagnosis

// limit bounds each check.
const limit = 20 * time.Second

// Run makes all checks at the same time and returns what they found, in the order of
// the checks. One that does not end in time is an entry itself.
func Run(ctx context.Context, checks []Check) []ccci.Diagnosis {
	found := make([][]ccci.Diagnosis, len(checks))
	var all sync.WaitGroup
	for i, check := range checks {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			answer := make(chan []ccci.Diagnosis, 1)
			go func() { answer <- check(ctx) }()
			select {
			case found[i] = <-answer:
			case <-ctx.Done():
				found[i] = []ccci.Diagnosis{{Check: "doctor", Code: ccci.CodeInfra, Message: "a check did not end within " + limit.String(), Hint: "see what the other checks say of the network"}}
			}
		})
	}
	all.Wait()
	return distinct(slices.Concat(found...))
}

// Advised makes warnings of a check's problems: cc-ci works without what it looks for.
func Advised(check Check) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		all := check(ctx)
		for i := range all {
			all[i].Warning = all[i].Code != ""
		}
		return all
	}
}

// distinct leaves one entry of each name, a problem rather than none: an adapter may
// look at what was looked at already.
func distinct(all []ccci.Diagnosis) []ccci.Diagnosis {
	var out []ccci.Diagnosis
	for _, d := range all {
		i := slices.IndexFunc(out, func(o ccci.Diagnosis) bool { return o.Check == d.Check })
		switch {
		case i < 0:
			out = append(out, d)
		case out[i].Code == "" || out[i].Warning && !d.Warning && d.Code != "":
			out[i] = d
		}
	}
	return out
}

// Well is an entry for what is as it should be.
func Well(check, format string, args ...any) ccci.Diagnosis {
	return ccci.Diagnosis{Check: check, Message: fmt.Sprintf(format, args...)}
}

// Problem is an entry for an error: its code, sentence and hint.
func Problem(check string, err error) ccci.Diagnosis {
	code := ccci.CodeOf(err)
	switch code {
	case ccci.CodeNotFound, ccci.CodeConflict:
		code = ccci.CodeInvalid
	}
	return ccci.Diagnosis{Check: check, Code: code, Message: err.Error(), Hint: ccci.HintOf(err)}
}

// Worst returns the code of what must be mended first: the configuration, then the
// machine and the network, then rights. "" when no problem is left but warnings.
func Worst(all []ccci.Diagnosis) ccci.Code {
	for _, code := range []ccci.Code{ccci.CodeInvalid, ccci.CodeInfra, ccci.CodeRefused} {
		for _, d := range all {
			if d.Code == code && !d.Warning {
				return code
			}
		}
	}
	return ""
}

// Count returns how many problems and warnings there are.
func Count(all []ccci.Diagnosis) (problems, warnings int) {
	for _, d := range all {
		switch {
		case d.Code == "":
		case d.Warning:
			warnings++
		default:
			problems++
		}
	}
	return problems, warnings
}

// WriteText writes one line for each entry, and its hint below it.
func WriteText(w io.Writer, all []ccci.Diagnosis) error {
	var b strings.Builder
	for _, d := range all {
		word := "ok"
		switch {
		case d.Warning && d.Code != "":
			word = "warning"
		case d.Code != "":
			word = "problem"
		}
		fmt.Fprintf(&b, "%-8s %s: %s\n", word, d.Check, oneLine(d.Message))
		if d.Code != "" && d.Hint != "" {
			fmt.Fprintf(&b, "%-8s hint: %s\n", "", oneLine(d.Hint))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes the entries as one object.
func WriteJSON(w io.Writer, all []ccci.Diagnosis) error {
	problems, warnings := Count(all)
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(struct {
		Problems int              `json:"problems"`
		Warnings int              `json:"warnings"`
		Checks   []ccci.Diagnosis `json:"checks"`
	}{problems, warnings, all})
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
