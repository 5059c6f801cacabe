package censor

import (
	"bytes"
	"html"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// escape is a family of escapes that programs write in place of characters.
type escape struct {
	sign byte // what an escape begins with
	// present is a quick look whether a text uses the family; nil: when it holds the sign.
	present func(t *reading) bool
	// step looks at a text that begins with the sign. It returns what the escape means and how
	// long it is, in bytes; 0: it is none.
	step  func(b []byte) (meaning []byte, n int)
	joins bool // the sign at the end of a line joins it to the next one
	outer bool // there may be an escape of another family behind it
	inner bool // it may be behind one
}

// escapes are taken off one at a time: a text with two of them is read once for each, so
// that what only looks like an escape of another family stays.
var escapes = []escape{
	{sign: 0x1b, step: terminal, inner: true},
	{sign: '\\', step: backslash, joins: true, outer: true, inner: true},
	{sign: '\\', step: shellBackslash, joins: true, present: escapesLetters},
	{sign: '\\', step: none, joins: true, present: joinsLines},
	{sign: '\'', step: shellQuotes, present: holds(`'\''`, `'"'"'`)},
	{sign: '%', step: percent, outer: true, inner: true},
	{sign: '&', step: entity, outer: true, inner: true},
	{sign: '=', step: equals, joins: true},
	{sign: '\'', step: doubled, present: holds(`''`)},
	{sign: '"', step: doubled, present: holds(`""`)},
}

// plus is what a form encodes a space as, besides the escapes of a URL.
var plus = escape{sign: '+', step: func([]byte) ([]byte, int) { return []byte{' '}, 1 }, outer: true}

func none([]byte) ([]byte, int) { return nil, 0 }

func holds(texts ...string) func(*reading) bool {
	return func(t *reading) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return bytes.Contains(t.b, []byte(text)) })
	}
}

// escapesLetters reports whether a backslash stands before a letter or digit, which
// means something else to a shell than to others.
func escapesLetters(t *reading) bool {
	return after(t, '\\', func(i int) bool {
		c := fold[t.b[i]]
		return c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
	})
}

func joinsLines(t *reading) bool {
	return after(t, '\\', func(i int) bool { return t.at[i].line != t.at[i-1].line })
}

// after asks about the positions behind a sign, until one is found.
func after(t *reading, sign byte, ask func(i int) bool) bool {
	for i := 0; ; {
		n := bytes.IndexByte(t.b[i:], sign)
		if n < 0 || i+n+1 >= len(t.b) {
			return false
		}
		i += n + 1
		if ask(i) {
			return true
		}
	}
}

// terminal drops control sequences.
func terminal(b []byte) ([]byte, int) { return nil, plain.Sequence(b) }

// backslash reads the escapes of JSON, C, JavaScript, Python and Go.
func backslash(b []byte) ([]byte, int) {
	if len(b) < 2 {
		return nil, 0
	}
	switch c := b[1]; c {
	case 'n':
		return []byte{'\n'}, 2
	case 'r':
		return []byte{'\r'}, 2
	case 't':
		return []byte{'\t'}, 2
	case 'b':
		return []byte{'\b'}, 2
	case 'f':
		return []byte{'\f'}, 2
	case 'v':
		return []byte{'\v'}, 2
	case 'a':
		return []byte{'\a'}, 2
	case 'e', 'E':
		return []byte{0x1b}, 2
	case 'x':
		if v, n := digits(b[2:], 16, 2); n > 0 {
			return []byte{byte(v)}, 2 + n
		}
	case 'u', 'U':
		return unicodeEscape(b)
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v, n := digits(b[1:], 8, 3)
		return []byte{byte(v)}, 1 + n
	default:
		return b[1:2], 2
	}
	return nil, 0
}

func unicodeEscape(b []byte) ([]byte, int) {
	if len(b) > 3 && b[2] == '{' {
		if v, n := digits(b[3:], 16, 6); n > 0 && len(b) > 3+n && b[3+n] == '}' {
			return utf8.AppendRune(nil, rune(v)), 4 + n
		}
		return nil, 0
	}
	if b[1] == 'U' {
		if v, n := digits(b[2:], 16, 8); n == 8 {
			return utf8.AppendRune(nil, rune(v)), 10
		}
		return nil, 0
	}
	v, n := digits(b[2:], 16, 4)
	if n != 4 {
		return nil, 0
	}
	if utf16.IsSurrogate(rune(v)) && len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
		if low, n := digits(b[8:], 16, 4); n == 4 {
			return utf8.AppendRune(nil, utf16.DecodeRune(rune(v), rune(low))), 12
		}
	}
	return utf8.AppendRune(nil, rune(v)), 6
}

// digits reads at most most digits.
func digits(b []byte, base, most int) (value, n int) {
	for n < len(b) && n < most {
		d := digit(b[n])
		if d < 0 || d >= base {
			break
		}
		value = value*base + d
		n++
	}
	return value, n
}

func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// shellQuotes reads a quote within single quotes: '\” and '"'"'.
func shellQuotes(b []byte) ([]byte, int) {
	switch {
	case bytes.HasPrefix(b, []byte(`'\''`)):
		return []byte{'\''}, 4
	case bytes.HasPrefix(b, []byte(`'"'"'`)):
		return []byte{'\''}, 5
	}
	return nil, 0
}

// shellBackslash reads a character behind a backslash, outside of quotes.
func shellBackslash(b []byte) ([]byte, int) {
	if len(b) > 1 {
		return b[1:2], 2
	}
	return nil, 0
}

// percent reads the escapes of URLs, and those of JavaScript's escape.
func percent(b []byte) ([]byte, int) {
	if len(b) < 3 {
		return nil, 0
	}
	if b[1] == 'u' || b[1] == 'U' {
		if v, n := digits(b[2:], 16, 4); n == 4 {
			return utf8.AppendRune(nil, rune(v)), 6
		}
		return nil, 0
	}
	if v, n := digits(b[1:], 16, 2); n == 2 {
		return []byte{byte(v)}, 3
	}
	return nil, 0
}

// entity reads a character reference of HTML or XML.
func entity(b []byte) ([]byte, int) {
	if len(b) < 3 {
		return nil, 0
	}
	end := bytes.IndexByte(b[:min(len(b), 40)], ';')
	if end < 2 {
		return nil, 0
	}
	for _, c := range b[1:end] {
		if c != '#' && (c < '0' || c > '9') && (fold[c] < 'a' || fold[c] > 'z') {
			return nil, 0
		}
	}
	ref := string(b[:end+1])
	if text := html.UnescapeString(ref); text != ref {
		return []byte(text), end + 1
	}
	return nil, 0
}

// equals reads quoted-printable.
func equals(b []byte) ([]byte, int) {
	if v, n := digits(b[1:], 16, 2); n == 2 {
		return []byte{byte(v)}, 3
	}
	return nil, 0
}

// doubled reads quotes that are doubled within quotes, as in SQL, CSV and YAML.
func doubled(b []byte) ([]byte, int) {
	if len(b) > 1 && b[1] == b[0] {
		return b[1:2], 2
	}
	return nil, 0
}
