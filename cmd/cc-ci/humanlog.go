package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// humanLog shows a run's log to a person: stage markers become headings. They may be
// coloured; the words alone say the same. What a terminal would obey is
// taken off the lines, wherever they come from.
type humanLog struct {
	mu       sync.Mutex
	out      io.Writer
	coloured bool
	rest     []byte
	within   bool // rest goes on with a line that was cut

	only   ccci.StageName // lines of other stages, and between stages, are left out; "": none
	inside bool           // the stage has begun and not ended
	shown  bool           // a line was printed
}

func newHumanLog(out io.Writer, coloured bool) *humanLog {
	return &humanLog{out: out, coloured: coloured}
}

func (h *humanLog) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rest = append(h.rest, p...)
	for {
		line, rest, ended := bytes.Cut(h.rest, []byte("\n"))
		if !ended && len(h.rest) <= longestLogLine {
			return len(p), nil
		}
		if !ended {
			line, rest = h.rest[:longestLogLine], h.rest[longestLogLine:]
		}
		if err := h.print(string(line)); err != nil {
			return 0, err
		}
		h.rest, h.within = rest, !ended
	}
}

// Flush prints a last line that has no end.
func (h *humanLog) Flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.rest) == 0 {
		return nil
	}
	line := string(h.rest)
	h.rest = nil
	return h.print(line)
}

// print prints one line of the log, if it is wanted.
func (h *humanLog) print(line string) error {
	line = plain.Line(line)
	m, marker := ccci.ParseMarker(line)
	marker = marker && !h.within
	ends := marker && !m.Begin && m.Stage == h.only
	if marker && m.Begin {
		h.inside = m.Stage == h.only
	}
	wanted := h.only == "" || h.inside || ends
	if ends {
		h.inside = false
	}
	if !wanted {
		return nil
	}
	h.shown = true
	text := "  " + line
	if marker {
		text = h.heading(m)
	}
	_, err := fmt.Fprintln(h.out, text)
	return err
}

// longestLogLine is where a line without an end is cut, in bytes.
const longestLogLine = 64 << 10

// heading is a stage marker in words.
func (h *humanLog) heading(m ccci.Marker) string {
	text, c := string(m.Stage), bold
	if !m.Begin {
		text, c = fmt.Sprintf("%s: %s", m.Stage, m.Row().Word()), checkColour(m.Status)
		if m.Reason != "" {
			text += ": " + m.Reason
		}
		text = fmt.Sprintf("%s (%.1fs)", text, m.Duration.Seconds())
	}
	if !h.coloured {
		return text
	}
	return c.paint(text)
}
