// Package censor finds registered secrets in text, and masks them in everything that
// leaves a run: its log, its artifacts, its result.
//
// A secret is found in the forms in which programs print it, in any letter case: plain
// or reversed, in base64 (wrapped and URL-safe too), hexadecimal, lists of byte values and
// dumps (xxd, hexdump, od); behind the escapes of JSON, C, shells, URLs, HTML and
// quoted-printable, one within another; with terminal sequences or line ends in it; and in
// base64 of gzip. It is not found when it is encrypted, compressed otherwise, drawn
// as a picture, or written in an encoding that is not named here.
//
// Text is read in windows of fixed size, so that memory does not grow with it.
package censor

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// MinLength is the shortest value, in bytes, that is masked: shorter ones
// would mask ordinary words.
const MinLength = 8

const (
	mask = "***"

	// pieceLength is the longest form that is looked for as a whole, in bytes. A longer
	// value is looked for in overlapping pieces, so that a window can hold any of them.
	pieceLength  = 256
	pieceOverlap = 16

	// lineLength is from when on a line of a value with several lines is looked for by itself,
	// and from when on a value is found across a line end, in bytes: shorter ones
	// would be found in ordinary columns of words.
	lineLength = 16
)

// Censor masks a growing set of secrets. The zero value masks nothing.
// Safe for concurrent use.
type Censor struct {
	mu    sync.RWMutex
	forms *forms // replaced as a whole, never changed
}

// Add registers a secret under the name it goes by. A value of less than
// [MinLength] bytes is ignored. Line ends do not count as part of a value.
func (c *Censor) Add(name string, secret ccci.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []form
	if c.forms != nil {
		all = slices.Clone(c.forms.all)
	}
	for _, value := range parts(secret.Reveal()) {
		all = append(all, formsOf(name, value)...)
	}
	c.forms = newForms(all)
}

// parts cuts a value into what is looked for: the whole, or pieces of what is too long
// for a window, and each longer line of a value with several.
func parts(value string) []string {
	var all []string
	whole := strings.Trim(value, "\r\n")
	for rest := whole; ; rest = rest[pieceLength-pieceOverlap:] {
		if len(rest) <= pieceLength {
			if len(rest) < pieceLength && len(whole) > pieceLength {
				rest = whole[len(whole)-pieceLength:]
			}
			all = append(all, rest)
			break
		}
		all = append(all, rest[:pieceLength])
	}
	if lines := strings.Split(whole, "\n"); len(lines) > 1 {
		for _, line := range lines {
			line = strings.TrimSpace(line)
			if len(line) >= lineLength && !strings.HasPrefix(line, "-----") {
				all = append(all, parts(line)...)
			}
		}
	}
	return all
}

// formsOf lists the codes in which a value may appear. Escapes are not among them: they
// are taken off the text. base64 depends on where in a longer text the value
// stands, so the stable middle part of each of the three alignments is taken.
func formsOf(name, value string) []form {
	plain := normalise(value)
	if len(plain) < MinLength {
		return nil
	}
	codes := []string{plain, hex.EncodeToString([]byte(value))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			coded := enc.EncodeToString(append(make([]byte, shift), value...))
			start := (shift*8 + 5) / 6
			end := len(coded)
			if (shift+len(value))%3 != 0 {
				end-- // the last character mixes with what follows
			}
			if end-start >= MinLength {
				codes = append(codes, coded[start:end])
			}
		}
	}
	var all []form
	for i, code := range codes {
		lines := i > 0 || len(plain) >= lineLength || strings.Contains(strings.Trim(value, "\r\n"), "\n")
		for _, text := range [][]byte{[]byte(code), reversed(code)} {
			for j, b := range text {
				text[j] = fold[b]
			}
			all = append(all, form{text: text, name: name, lines: lines})
		}
	}
	return all
}

// normalise reads a value as windows are read, so that the two can be compared.
func normalise(value string) string {
	var t reading
	for i := range len(value) {
		t.put(value[i], 0, 0)
	}
	return string(t.b)
}

func reversed(s string) []byte {
	b := []byte(s)
	slices.Reverse(b)
	return b
}

// Mask returns b with every registered secret replaced by ***. It returns b itself
// when there is none in it.
func (c *Censor) Mask(b []byte) []byte {
	var out bytes.Buffer
	s := c.NewStream(func(text []byte, _ int64) error {
		out.Write(text)
		return nil
	})
	_, _ = s.Write(b) // only out could fail
	_ = s.Close()
	if s.masked == 0 {
		return b
	}
	return out.Bytes()
}

// MaskString is Mask for a string.
func (c *Censor) MaskString(s string) string {
	if len(s) < MinLength {
		return s
	}
	return string(c.Mask([]byte(s)))
}

// leastCut is the shortest beginning of a secret, in bytes, that is masked where a text was cut.
const leastCut = 6

// MaskCut is MaskString for a text of which parts may have been shortened: what stands before
// an ellipsis may be the beginning of a secret.
func (c *Censor) MaskCut(s string) string {
	s = c.MaskString(s)
	f := c.current()
	if f == nil {
		return s
	}
	var b strings.Builder
	for {
		at := ellipsis.FindStringIndex(s)
		if at == nil {
			return b.String() + s
		}
		before := s[:at[0]]
		if n := f.partial([]byte(before), leastCut); n > 0 {
			before = before[:at[0]-n] + mask
		}
		b.WriteString(before)
		b.WriteString(s[at[0]:at[1]])
		s = s[at[1]:]
	}
}

// ellipsis matches one with the points that follow. Both kinds are looked for at once: for each
// alone, the whole rest would be searched again and again.
var ellipsis = regexp.MustCompile(`(?:…|\.\.\.)[….]*`)

// MaskLines is MaskCut for lines that belong together, as those of one message: a secret may run
// over the end of a line. It returns lines itself when there is none in them.
func (c *Censor) MaskLines(lines []string) []string {
	text := strings.Join(lines, "\n")
	if masked := c.MaskCut(text); masked != text {
		return strings.Split(masked, "\n")
	}
	return lines
}

// Find returns the names of the secrets that b holds, sorted.
func (c *Censor) Find(b []byte) []string {
	s := c.NewStream(nil)
	_, _ = s.Write(b) // nothing is passed on that could fail
	_ = s.Close()
	return s.Found()
}

func (c *Censor) current() *forms {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.forms
}
