package censor

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
)

var (
	gzipMagic  = []byte{0x1f, 0x8b, 0x08}
	gzipBase64 = []byte("H4sI") // the same in base64
)

const (
	// unpackLimit bounds what one packed text is unpacked to, in bytes, and unpackBudget what
	// all of a stream are. What is beyond is covered unseen.
	unpackLimit  = 4 << 20
	unpackBudget = 64 << 20

	// packedLength is the shortest packed text that is looked at, in bytes.
	packedLength = 24
)

// unpacking is what a looker knows of packed texts.
type unpacking struct {
	nested bool // this is within one, where nothing is unpacked again
	spent  int64
	within bool // the window begins in a packed text that was too long for the one before
	width  int  // of its lines, as of runOfBase64
	cut    int  // where a packed text begins that the window's end cuts, -1: none
}

// packed looks into base64 of gzip.
func (l *looker) packed(t *reading) {
	if l.nested {
		return
	}
	if l.within {
		if end, _ := runOfBase64(t, 0, l.width); end > 0 {
			l.cover(0, int(t.at[end-1].to), end == len(t.b))
		}
	}
	for i := 0; ; {
		at := bytes.Index(t.b[i:], gzipBase64)
		if at < 0 {
			return
		}
		at += i
		var width int
		i, width = runOfBase64(t, at, -1)
		if i-at < packedLength {
			continue
		}
		text := bytes.Map(func(r rune) rune {
			switch r {
			case '-':
				return '+'
			case '_':
				return '/'
			}
			return r
		}, t.b[at:i])
		from, to := int(t.at[at].from), int(t.at[i-1].to)
		if l.unpack(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text)), from, to) && i == len(t.b) {
			l.cover(from, to, true)
			l.width = width
		}
	}
}

// wrapLimit is the longest line that base64 is wrapped at, in bytes.
const wrapLimit = 128

// runOfBase64 is where base64 ends that begins at start. Its lines are as long as the first
// one, but for the last; width is that length, 0 when there is one line alone. known is the
// width when the base64 began before start, else -1.
func runOfBase64(t *reading, start, known int) (end, width int) {
	width = known
	first := start // of the line
	i := start
	for ; i < len(t.b); i++ {
		c := t.b[i]
		if (c < '0' || c > '9') && (fold[c] < 'a' || fold[c] > 'z') && c != '+' && c != '/' && c != '-' && c != '_' {
			break
		}
		if i == start || t.at[i].line == t.at[i-1].line {
			continue
		}
		switch n := i - first; {
		case width == 0 || width < 0 && n > wrapLimit:
			return i, 0
		case width < 0:
			width = n
		case n != width && (known < 0 || first > start):
			return i, width
		}
		first = i
	}
	for n := 0; n < 2 && i < len(t.b) && t.b[i] == '='; n++ {
		i++
	}
	if width < 0 && i-first > wrapLimit {
		width = 0
	}
	return i, width
}

// binary looks into gzip as it is. Where such a text ends only unpacking tells, so one that
// holds a secret is covered up to the window's end.
func (l *looker) binary(window []byte) {
	if l.nested {
		return
	}
	for i := 0; ; i++ {
		at := bytes.Index(window[i:], gzipMagic)
		if at < 0 {
			return
		}
		i += at
		rest := bytes.NewReader(window[i:])
		if l.unpack(rest, i, len(window)) && rest.Len() == 0 {
			l.cover(i, len(window), true)
		}
	}
}

// cover covers a packed text whose end may be out of sight.
func (l *looker) cover(from, to int, cut bool) {
	if cut && (l.cut < 0 || from < l.cut) {
		l.cut = from
	}
	if l.within && from == 0 {
		l.spans = append(l.spans, span{from, to})
	}
}

// unpack looks into one packed text; false when it is none.
func (l *looker) unpack(packed io.Reader, from, to int) bool {
	text, err := gzip.NewReader(packed)
	if err != nil {
		return false
	}
	if l.spent >= unpackBudget {
		l.spans = append(l.spans, span{from, to})
		return true
	}
	inner := Stream{fixed: l.forms}
	inner.look.nested = true
	n, _ := io.Copy(&inner, io.LimitReader(text, unpackLimit)) // one that is cut ends with an error
	l.spent += n + 1<<10
	_ = inner.Close()
	for _, name := range inner.Found() {
		l.found(name, from, to)
	}
	return true
}
