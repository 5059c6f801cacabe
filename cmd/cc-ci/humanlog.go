package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

// humanLog shows a run's log to a person: stage markers become headings. On a
// terminal they are coloured; the words alone say the same. What a terminal would obey is
// taken off the lines, wherever they come from.
type humanLog struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	rest   []byte
}

func newHumanLog(out io.Writer) *humanLog {
	screen := out
	if s, ok := out.(*survivor); ok {
		screen = s.w
	}
	f, ok := screen.(*os.File)
	return &humanLog{out: out, colour: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""}
}

func (h *humanLog) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rest = append(h.rest, p...)
	for {
		line, rest, ok := bytes.Cut(h.rest, []byte("\n"))
		if !ok && len(h.rest) > longestLogLine {
			line, rest, ok = h.rest[:longestLogLine], h.rest[longestLogLine:], true
		}
		if !ok {
			return len(p), nil
		}
		h.rest = rest
		if _, err := fmt.Fprintln(h.out, h.render(string(line))); err != nil {
			return 0, err
		}
	}
}

// longestLogLine is where a line without an end is cut, in bytes.
const longestLogLine = 64 << 10

func (h *humanLog) render(line string) string {
	line = plain.Line(line)
	m, ok := ccci.ParseMarker(line)
	if !ok {
		return "  " + line
	}
	if m.Begin {
		return h.paint("1", string(m.Stage))
	}
	text := fmt.Sprintf("%s: %s", m.Stage, m.Status.Word())
	if m.Reason != "" {
		text += ": " + m.Reason
	}
	colour := map[ccci.CheckStatus]string{ccci.Pass: "32", ccci.Fail: "31", ccci.Skip: "33", ccci.Unverified: "33", ccci.Flaky: "33"}[m.Status]
	return h.paint(colour, fmt.Sprintf("%s (%.1fs)", text, m.Duration.Seconds()))
}

func (h *humanLog) paint(code, text string) string {
	if !h.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
