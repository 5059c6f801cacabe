package dashboard

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// logLine is one line of a run's log as it is shown.
type logLine struct {
	Number int    // from 1
	Clock  string // when it was written, as 15:04:05 in UTC; "" where the log does not say it
	Text   string // without colours and control characters
	Bad    bool
	First  bool // where the jump to the first error leads
	// Omitted is how many lines were left out before this one.
	Omitted int
}

// logSection is a fold of the log: a stage, or what stands between stages.
type logSection struct {
	ID      string
	Attempt int // the attempt that begins with it; 0 when none does
	Title   string
	Stage   ccci.StageName // "" between stages
	Status  ccci.CheckStatus
	Refused bool
	Took    string
	Reason  string
	Open    bool
	Total   int // lines, with those left out
	Lines   []logLine
}

// Mark is the outcome of the fold's stage.
func (s *logSection) Mark() mark { return rowMark(ccci.StageRow{Status: s.Status, Refused: s.Refused}) }

// runLog is a log cut into folds.
type runLog struct {
	Sections []*logSection
	Lines    int
	Found    int // lines that match what was searched for
	HasError bool
	Offset   int64 // bytes of the log that the sections stand for: whole lines only
}

const (
	lineLimit    = 2000 // bytes of one line that are shown
	sectionHead  = 150  // lines that a long fold keeps at its beginning
	sectionTail  = 350  // and at its end
	sectionLimit = sectionHead + sectionTail
)

// logView is what a reader wants of a log. The zero value is all of it, shortened.
type logView struct {
	Query string // only lines that hold it; upper and lower case are the same
	Line  int    // a line to show with what stands around it; 0 for none
}

func readLogView(v url.Values) logView {
	view := logView{Query: strings.TrimSpace(v.Get("q"))}
	view.Query = strings.ToValidUTF8(view.Query[:min(len(view.Query), queryLimit)], "")
	view.Line, _ = strconv.Atoi(v.Get("line"))
	return view
}

// logFold reads a log line by line. The zero value is ready.
type logFold struct {
	view    logView
	wanted  string // the view's query in lower case
	log     runLog
	current *logSection
	attempt int // that begins with the next fold
}

// attemptLine is what an engine writes into the log before it starts a run once more.
var attemptLine = regexp.MustCompile(`^=== cc-ci: attempt ([0-9]{1,3}), `)

// ending is the title of what follows the last stage.
const ending = "Teardown and result"

// cutLog folds the whole lines of raw; what follows the last line end is left
// to be read again, unless whole says that nothing will follow.
func cutLog(raw []byte, whole bool, view logView) *runLog {
	f := logFold{view: view, wanted: strings.ToLower(view.Query)}
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\n')
		if i < 0 && !whole {
			break
		}
		n := i + 1
		if i < 0 {
			i, n = len(raw), len(raw)
		}
		f.add(string(raw[:i]))
		f.log.Offset += int64(n)
		raw = raw[n:]
	}
	if n := len(f.log.Sections); whole && n > 1 && f.log.Sections[n-1].Stage == "" {
		f.log.Sections[n-1].Title = ending
	}
	return f.close()
}

func (f *logFold) add(line string) {
	if m, ok := ccci.ParseMarker(line); ok {
		f.mark(m)
		return
	}
	f.log.Lines++
	clock, text := ccci.CutLogTime(plain(line))
	if m := attemptLine.FindStringSubmatch(text); m != nil {
		f.attempt, _ = strconv.Atoi(m[1])
		f.current = f.open("Preparation", "")
	}
	if f.current == nil {
		if strings.TrimSpace(text) == "" {
			return
		}
		title := "Preparation"
		if n := len(f.log.Sections); n > 0 {
			title = "After " + string(f.log.Sections[n-1].Stage)
			if last := f.log.Sections[n-1]; last.Stage == ccci.StageChecks || last.Status == ccci.Fail {
				title = ending
			}
		}
		f.current = f.open(title, "")
	}
	s := f.current
	s.Total++
	if f.wanted != "" {
		if !strings.Contains(strings.ToLower(text), f.wanted) {
			return
		}
		f.log.Found++
	}
	s.Lines = append(s.Lines, logLine{Number: f.log.Lines, Clock: clock, Text: text, Bad: looksBad(text)})
}

func (f *logFold) mark(m ccci.Marker) {
	if m.Begin {
		f.current = f.open(title(string(m.Stage)), m.Stage)
		return
	}
	s := f.current
	if s == nil || s.Stage != m.Stage { // an end without its begin: a fold of its own
		s = f.open(title(string(m.Stage)), m.Stage)
	}
	s.Status, s.Refused, s.Took, s.Reason = m.Status, m.Refused, duration(m.Duration), m.Reason
	f.current = nil
}

func (f *logFold) open(title string, stage ccci.StageName) *logSection {
	s := &logSection{ID: fmt.Sprintf("log-%d", len(f.log.Sections)+1), Title: title, Stage: stage, Attempt: f.attempt}
	f.attempt = 0
	f.log.Sections = append(f.log.Sections, s)
	return s
}

// close marks the first error and shortens long folds around it, and around the line that is asked
// for. Of a search, only folds in which something was found are left.
func (f *logFold) close() *runLog {
	if f.wanted != "" {
		f.log.Sections = slices.DeleteFunc(f.log.Sections, func(s *logSection) bool { return len(s.Lines) == 0 })
	} else {
		f.findFirst()
	}
	for _, s := range f.log.Sections {
		s.Open = s.Status == ccci.Fail || s == f.current || f.wanted != "" || s.has(f.view.Line)
		s.Lines = shorten(s.Lines, f.view.Line)
	}
	return &f.log
}

// has reports whether the fold holds the line with that number.
func (s *logSection) has(number int) bool {
	n := len(s.Lines)
	return n > 0 && s.Lines[0].Number <= number && number <= s.Lines[n-1].Number
}

// findFirst looks for the first line that reads like an error in the first
// fold that failed: earlier ones were overcome.
func (f *logFold) findFirst() {
	for _, s := range f.log.Sections {
		if s.Status != ccci.Fail || len(s.Lines) == 0 {
			continue
		}
		at := len(s.Lines) - 1
		for i, l := range s.Lines {
			if l.Bad {
				at = i
				break
			}
		}
		s.Lines[at].First, s.Lines[at].Bad = true, true
		f.log.HasError = true
		return
	}
}

// shorten leaves out the middle of a long fold, but for what stands around the
// first error and around the line with that number.
func shorten(lines []logLine, number int) []logLine {
	if len(lines) <= sectionLimit {
		return lines
	}
	var centres []int
	for i, l := range lines {
		if l.First || l.Number == number {
			centres = append(centres, i)
		}
	}
	kept := lines[:0:0]
	omitted := 0
	for i, l := range lines {
		near := slices.ContainsFunc(centres, func(at int) bool { return i >= at-20 && i <= at+40 })
		if i >= sectionHead && i < len(lines)-sectionTail && !near {
			omitted++
			continue
		}
		l.Omitted, omitted = omitted, 0
		kept = append(kept, l)
	}
	return kept
}

var badLine = regexp.MustCompile(`(?i)(^|[^a-z0-9_-])(error|errored|fail|failed|failure|fatal|panic|refused|rejected|timed out|cannot|unhealthy)([^a-z0-9_-]|$)`)

// badWords are in every line that badLine matches. They are found much faster.
var badWords = []string{"error", "fail", "fatal", "panic", "refused", "rejected", "timed out", "cannot", "unhealthy"}

var harmless = regexp.MustCompile(`(?i)(\b(0|no|without) (errors?|failures?|failed)\b|\b(errors?|failed|failures?)[=:] ?0\b)`)

// looksBad reports whether a line reads like an error. It only steers the eye.
func looksBad(text string) bool {
	lower := strings.ToLower(text)
	has := func(word string) bool { return strings.Contains(lower, word) }
	return slices.ContainsFunc(badWords, has) && badLine.MatchString(text) && !harmless.MatchString(text)
}

// escapes of terminals: control sequences, operating system commands with their
// text, and two-character escapes.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])`)

// plain returns a line as text that can do nothing to a page or a reader: no
// terminal escapes, no control characters, no characters that turn the writing
// direction, and at most lineLimit bytes. Of a line that was overwritten with
// carriage returns, the last state counts.
func plain(line string) string {
	line = strings.TrimRight(line, "\r")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	cut := false
	if len(line) > 4*lineLimit {
		line, cut = line[:4*lineLimit], true
	}
	if strings.IndexByte(line, 0x1b) >= 0 {
		line = escapes.ReplaceAllString(line, "")
	}
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < ' ', r >= 0x7f && r < 0xa0, r == utf8.RuneError,
			r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
			return '\uFFFD'
		}
		return r
	}, line)
	if len(line) > lineLimit {
		end := lineLimit
		for !utf8.RuneStart(line[end]) {
			end--
		}
		line, cut = line[:end], true
	}
	if cut {
		line += " …"
	}
	return line
}
