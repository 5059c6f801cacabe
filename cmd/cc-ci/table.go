package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// When a command colours what it prints.
const (
	colorAuto   = "auto" // on a terminal, unless NO_COLOR is set
	colorAlways = "always"
	colorNever  = "never"
)

// colour is the code of a terminal's colour; "" for none.
type colour string

const (
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
)

// paint returns text in a colour.
func (c colour) paint(text string) string {
	if c == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// colours reports whether what is written to w is coloured.
func (a *app) colours(w io.Writer) bool {
	switch a.color {
	case colorAlways:
		return true
	case colorNever:
		return false
	}
	if s, ok := w.(*survivor); ok {
		w = s.w
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// runColour is that of a run's word.
func runColour(run ccci.Run) colour {
	if run.CancelledBy != "" && !run.Status.Terminal() {
		return yellow
	}
	switch run.Status {
	case ccci.StatusPassed:
		return green
	case ccci.StatusFailed, ccci.StatusRefused:
		return red
	case ccci.StatusErrored, ccci.StatusInconclusive, ccci.StatusFlaky:
		return yellow
	case ccci.StatusRunning:
		return cyan
	}
	return ""
}

// checkColour is that of a stage's or check's word.
func checkColour(status ccci.CheckStatus) colour {
	return map[ccci.CheckStatus]colour{ccci.Pass: green, ccci.Fail: red, ccci.Skip: yellow, ccci.Unverified: yellow, ccci.Flaky: yellow}[status]
}

// cell is one word or text of a table.
type cell struct {
	text   string
	colour colour
}

func text(s string) cell { return cell{text: s} }

// orDash is a cell that is never empty, so that columns can be counted.
func orDash(s string) cell {
	if s == "" {
		return text("-")
	}
	return text(s)
}

func wordOf(run ccci.Run) cell { return cell{run.Word(), runColour(run)} }

// table is rows of cells in columns. Cells are one line each, without what a terminal obeys.
type table [][]cell

func (t *table) add(cells ...cell) { *t = append(*t, cells) }

// print writes the rows with two blanks between columns.
func (t table) print(w io.Writer, coloured bool) error {
	var widths []int
	for _, row := range t {
		for i := range row {
			row[i].text = plain.Line(row[i].text)
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	var out strings.Builder
	for _, row := range t {
		for i, c := range row {
			shown := c.text
			if coloured {
				shown = c.colour.paint(shown)
			}
			out.WriteString(shown)
			if i < len(row)-1 {
				out.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		out.WriteByte('\n')
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}
