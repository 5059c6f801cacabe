// Package censor masks registered secrets in everything that leaves a run: its
// log, its artifacts, its result. A secret is found in the encodings in which
// programs print it: plain, base64, hexadecimal, URL and JSON escapes.
package censor

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// MinLength is the shortest value, in bytes, that is masked: shorter ones
// would mask ordinary words.
const MinLength = 8

const mask = "***"

// Censor masks a growing set of secrets. The zero value masks nothing.
// Safe for concurrent use.
type Censor struct {
	mu    sync.RWMutex
	forms [][]byte // longest first
	names map[string]string
}

// Add registers a secret under the name it goes by.
func (c *Censor) Add(name string, secret ccci.Secret) {
	value := secret.Reveal()
	if len(value) < MinLength {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names == nil {
		c.names = map[string]string{}
	}
	for _, form := range encodings(value) {
		if _, known := c.names[form]; !known {
			c.names[form] = name
			c.forms = append(c.forms, []byte(form))
		}
	}
	slices.SortFunc(c.forms, func(a, b []byte) int { return len(b) - len(a) })
}

// encodings lists the forms in which a value may appear. base64 depends on
// where in a longer text the value stands, so the stable middle part of each of
// the three alignments is taken.
func encodings(value string) []string {
	forms := []string{value, url.QueryEscape(value), url.PathEscape(value), hex.EncodeToString([]byte(value)), strings.ToUpper(hex.EncodeToString([]byte(value)))}
	if quoted, err := json.Marshal(value); err == nil {
		forms = append(forms, string(quoted[1:len(quoted)-1]))
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			coded := enc.EncodeToString(append(make([]byte, shift), value...))
			start := (shift*8 + 5) / 6
			end := len(coded)
			if (shift+len(value))%3 != 0 {
				end-- // the last character mixes with what follows
			}
			if end-start >= MinLength {
				forms = append(forms, coded[start:end])
			}
		}
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// Mask returns b with every registered secret replaced by ***.
func (c *Censor) Mask(b []byte) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, form := range c.forms {
		if bytes.Contains(b, form) {
			b = bytes.ReplaceAll(b, form, []byte(mask))
		}
	}
	return b
}

// MaskString is Mask for a string.
func (c *Censor) MaskString(s string) string { return string(c.Mask([]byte(s))) }

// Find returns the names of the secrets that b holds, sorted.
func (c *Censor) Find(b []byte) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var found []string
	for _, form := range c.forms {
		if bytes.Contains(b, form) {
			found = append(found, c.names[string(form)])
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (c *Censor) longest() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.forms) == 0 {
		return 0
	}
	return len(c.forms[0])
}

// Writer masks what is written to w, line by line: a line is passed on when
// it is complete, or on Flush, so that a secret split over two writes is
// found. A line longer than 64 KiB is passed on in parts.
type Writer struct {
	c    *Censor
	w    io.Writer
	mu   sync.Mutex
	rest []byte
}

// NewWriter returns a masking writer. It is safe for concurrent use.
func (c *Censor) NewWriter(w io.Writer) *Writer { return &Writer{c: c, w: w} }

const maxLine = 64 << 10

func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	cut := bytes.LastIndexByte(w.rest, '\n') + 1
	if cut == 0 && len(w.rest) > maxLine {
		// What was masked as a whole may be cut anywhere that leaves room for a
		// secret which has only begun.
		w.rest = w.c.Mask(w.rest)
		cut = max(len(w.rest)-w.c.longest(), 0)
	}
	if cut == 0 {
		return len(p), nil
	}
	masked := w.c.Mask(slices.Clone(w.rest[:cut]))
	w.rest = slices.Clone(w.rest[cut:])
	if _, err := w.w.Write(masked); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush passes on an unfinished last line.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.c.Mask(w.rest)
	w.rest = nil
	_, err := w.w.Write(rest)
	return err
}
