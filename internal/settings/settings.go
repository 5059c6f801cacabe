// Package settings reads YAML files strictly into structs. The struct tags
// yaml, default and doc are the one registry of a file's settings: the reader
// and the documentation ([Doc]) are derived from them, so that they cannot
// disagree. A file with mistakes is refused with every mistake at once, each
// with its line, its key and, where there is one, the name that was meant.
package settings

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// maxSize bounds a file, in bytes. The largest real one is a few kilobytes.
const maxSize = 256 << 10

// Problem is one mistake in a settings file.
type Problem struct {
	File    string
	Line    int    // from 1; 0 when the mistake has no place in the text
	Key     string // dotted, with list positions: "seed[0].http.path"
	Message string // a sentence without a final full stop
	Hint    string // may be empty
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// Problems is every mistake of one file, in the order of its lines. The errors
// of [Problems.Err] hold one, for errors.As.
type Problems []Problem

// Error prints one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns nil for no problems, else one ccci.Error that lists them all.
func (ps Problems) Err(hint string) error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int { return a.Line - b.Line })
	e := &ccci.Error{Code: ccci.CodeInvalid, Message: ps.Error(), Err: ps}
	if len(ps) > 1 {
		e.Message = fmt.Sprintf("%s has %d mistakes:\n%s", ps[0].File, len(ps), ps.Error())
	}
	return e.WithHint("%s", hint)
}
