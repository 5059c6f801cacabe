package recipe

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// WriteText writes findings for people: rule, severity and place on a line, the
// message below it, each rule's hint where it first occurs, and at the end one line
// that counts them. No line has more than width characters but for words that are
// longer, such as paths.
func WriteText(out io.Writer, findings []ccci.Finding, width int) error {
	w := bufio.NewWriter(out)
	errors, explained := 0, map[string]bool{}
	for _, f := range findings {
		errors += boolInt(f.Severity == severityError)
		head := fmt.Sprintf("%s  %-7s", f.Rule, f.Severity)
		if f.File != "" {
			head += "  " + f.File
			if f.Line > 0 {
				head += fmt.Sprintf(":%d", f.Line)
			}
		}
		fmt.Fprintln(w, strings.TrimSpace(printable(head)))
		writeWrapped(w, "    ", f.Message, width)
		if f.Hint != "" && !explained[f.Rule] {
			explained[f.Rule] = true
			writeWrapped(w, "    → ", f.Hint, width)
		}
	}
	if len(findings) == 0 {
		fmt.Fprintln(w, "no findings")
	} else {
		warnings := len(findings) - errors
		fmt.Fprintf(w, "%d %s, %d %s\n", errors, plural(errors, "error"), warnings, plural(warnings, "warning"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing lint findings: %w", err)
	}
	return nil
}

// WriteRules writes the linter's rules, one after the other, within width as
// [WriteText] does.
func WriteRules(out io.Writer, width int) error {
	w := bufio.NewWriter(out)
	for _, r := range Rules() {
		writeWrapped(w, fmt.Sprintf("%s  %-7s  ", r.ID, r.Severity), r.Title, width)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the linter's rules: %w", err)
	}
	return nil
}

// writeWrapped writes text behind first. Further lines are indented as far.
func writeWrapped(w *bufio.Writer, first, text string, width int) {
	indent := utf8.RuneCountInString(first)
	line := first
	for i, word := range strings.Fields(printable(text)) {
		switch {
		case i == 0:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			fmt.Fprintln(w, line)
			line = strings.Repeat(" ", indent) + word
		default:
			line += " " + word
		}
	}
	fmt.Fprintln(w, line)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// printable keeps a recipe's text from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
