package admission

import (
	"strings"
	"unicode/utf8"
)

// maxQuote bounds what a message quotes of a value, in characters.
const maxQuote = 120

// short returns the first line of a text, cut to maxQuote characters. Values are a
// stranger's: a message with a whole one would be as long as they like.
func short(text string) string {
	line, _, more := strings.Cut(text, "\n")
	line = strings.TrimRight(line, "\r")
	if len(line) <= maxQuote {
		if more {
			return line + "…"
		}
		return line
	}
	if utf8.RuneCountInString(line[:min(len(line), 4*maxQuote)]) <= maxQuote && len(line) <= 4*maxQuote {
		return line
	}
	n := 0
	for i := range line {
		if n == maxQuote {
			return line[:i] + "…"
		}
		n++
	}
	return line
}
