// Package plain makes foreign text harmless to a terminal and to a reader: control
// sequences are dropped, and characters that hide or reorder text are spelled out.
package plain

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	longestCSI    = 64   // bytes
	longestString = 4096 // bytes of a title, a link, a clipboard's text
)

// Sequence is the length in bytes of the terminal sequence that b begins with, 0 for none: CSI
// (colours, cursor), strings (OSC, DCS and their kin: titles, links, the clipboard) and
// short escapes. Of what has no end within one line and reason, only the introducer counts.
func Sequence[T string | []byte](b T) int {
	if len(b) == 0 || b[0] != 0x1b {
		return 0
	}
	if len(b) == 1 {
		return 1
	}
	switch b[1] {
	case '[':
		for i := 2; i < len(b) && i < longestCSI; i++ {
			switch {
			case b[i] >= 0x40 && b[i] <= 0x7e:
				return i + 1
			case b[i] < 0x20 || b[i] > 0x7e:
				return 2
			}
		}
		return 2
	case ']', 'P', 'X', '^', '_':
		for i := 2; i < len(b) && i < longestString; i++ {
			switch {
			case b[i] == 0x07:
				return i + 1
			case b[i] == 0x1b && i+1 < len(b) && b[i+1] == '\\':
				return i + 2
			case b[i] == 0x1b || b[i] == '\n':
				return 2
			}
		}
		return 2
	}
	i := 1
	for i < len(b) && i < 4 && b[i] >= 0x20 && b[i] <= 0x2f {
		i++
	}
	if i < len(b) && b[i] >= 0x30 && b[i] <= 0x7e {
		return i + 1
	}
	return 1
}

// Line returns s as one line: white space becomes blanks.
func Line(s string) string { return visible(s, false) }

// Text returns s with its lines and tabs.
func Text(s string) string { return visible(s, true) }

func visible(s string, lines bool) string {
	if harmless(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if n := Sequence(s[i:]); n > 0 {
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case lines && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case r == '\r' && lines && i < len(s) && s[i] == '\n':
		case r == '\t' || r == '\n' || r == '\r' || unicode.IsSpace(r):
			b.WriteByte(' ')
		case r == utf8.RuneError:
			b.WriteByte('?')
		case !unicode.IsPrint(r) || hidden(r):
			fmt.Fprintf(&b, "<U+%04X>", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// harmless reports whether s is printable ASCII alone, as most text is.
func harmless(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// emojiStyle follows many emoji to ask for their coloured form.
const emojiStyle = '\uFE0F'

// hidden names printable characters that show nothing.
func hidden(r rune) bool {
	return r != emojiStyle && unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) || r == '\u2800'
}
