package ccci

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Marker says in a build's log that a stage began or ended. The harness prints
// one a line, at the line's beginning:
//
//	##[stage install begin]
//	##[stage install end pass 12.345s reason in plain words]
//	##[stage install end refused 0.100s what the recipe asks for]
//
// Who follows the log shows live stages by it. It is a picture, never the
// verdict: the verdict is in the [Result] alone, so that text in a log which
// imitates a marker can change nothing that lasts.
type Marker struct {
	Stage StageName
	Begin bool // else it is an end, and the fields below count

	Status   CheckStatus
	Refused  bool          // it failed since the recipe is refused; in place of "fail" the line has "refused"
	Duration time.Duration // kept to the millisecond
	Reason   string        // one line, at most MarkerReasonLimit bytes; may be empty
}

// MarkerReasonLimit is the length in bytes at which a marker's reason is cut.
const MarkerReasonLimit = 500

const (
	markerPrefix  = "##[stage "
	markerSuffix  = "]"
	markerRefused = "refused"
)

// String prints the marker as one line without its line end.
func (m Marker) String() string {
	if m.Begin {
		return markerPrefix + string(m.Stage) + " begin" + markerSuffix
	}
	status := string(m.Status)
	if m.Refused {
		status = markerRefused
	}
	line := markerPrefix + string(m.Stage) + " end " + status + " " +
		strconv.FormatFloat(m.Duration.Round(time.Millisecond).Seconds(), 'f', 3, 64) + "s"
	if reason := oneLine(m.Reason, MarkerReasonLimit); reason != "" {
		line += " " + reason
	}
	return line + markerSuffix
}

// Row is an ended stage as lists show it.
func (m Marker) Row() StageRow {
	return StageRow{Name: m.Stage, Status: m.Status, Reason: m.Reason, Refused: m.Refused, Duration: m.Duration}
}

// ParseMarker reads one line of a log. White space after the marker is
// forgiven, before it is not; false means that the line is no marker.
func ParseMarker(line string) (Marker, bool) {
	body, ok := strings.CutPrefix(strings.TrimRightFunc(line, unicode.IsSpace), markerPrefix)
	if !ok {
		return Marker{}, false
	}
	body, ok = strings.CutSuffix(body, markerSuffix)
	if !ok {
		return Marker{}, false
	}
	stage, rest, _ := strings.Cut(body, " ")
	m := Marker{Stage: StageName(stage)}
	if !slices.Contains(StageNames, m.Stage) {
		return Marker{}, false
	}
	if rest == "begin" {
		m.Begin = true
		return m, true
	}
	rest, ok = strings.CutPrefix(rest, "end ")
	if !ok {
		return Marker{}, false
	}
	status, rest, _ := strings.Cut(rest, " ")
	m.Status = CheckStatus(status)
	if m.Refused = status == markerRefused; m.Refused {
		m.Status = Fail
	}
	if !slices.Contains(CheckStatuses, m.Status) {
		return Marker{}, false
	}
	took, reason, _ := strings.Cut(rest, " ")
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(took, "s"), 64)
	if err != nil || !strings.HasSuffix(took, "s") || !(seconds >= 0 && seconds < 1e9) {
		return Marker{}, false
	}
	m.Duration = time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	m.Reason = oneLine(reason, MarkerReasonLimit)
	return m, true
}

// oneLine turns s into one line of printable text of at most limit bytes.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError
	}), " ")
	if len(s) <= limit {
		return s
	}
	cut := limit - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimRight(s[:cut], " ") + "…"
}

const logTime = "15:04:05 "

// LogTime is what the harness puts before each line of a run's log but markers and what continues
// the line before: the time in UTC, to the second.
func LogTime(now time.Time) string { return now.UTC().Format(logTime) }

// CutLogTime takes the time off a line of a log. clock is "" where there is none.
func CutLogTime(line string) (clock, text string) {
	if len(line) < len(logTime) {
		return "", line
	}
	if _, err := time.Parse(logTime, line[:len(logTime)]); err != nil {
		return "", line
	}
	return line[:len(logTime)-1], line[len(logTime):]
}
