package ccci

import (
	"strings"
	"testing"
	"time"
)

func TestMarkerRoundTrip(t *testing.T) {
	for _, tc := range []struct {
		line string
		want Marker
	}{
		{"##[stage install begin]", Marker{Stage: StageInstall, Begin: true}},
		{"##[stage install end pass 12.345s]", Marker{Stage: StageInstall, Status: Pass, Duration: 12345 * time.Millisecond}},
		{"##[stage upgrade end fail 0.000s version 2.2.3 answers [404]]", Marker{Stage: StageUpgrade, Status: Fail, Reason: "version 2.2.3 answers [404]"}},
		{"##[stage install end refused 0.100s the recipe asks for 2 settings]", Marker{Stage: StageInstall, Status: Fail, Refused: true, Duration: 100 * time.Millisecond, Reason: "the recipe asks for 2 settings"}},
		{"##[stage backup end skip 3600.500s no volumes]", Marker{Stage: StageBackup, Status: Skip, Duration: time.Hour + 500*time.Millisecond, Reason: "no volumes"}},
		{"##[stage checks end unverified 1.000s the run ended before it]", Marker{Stage: StageChecks, Status: Unverified, Duration: time.Second, Reason: "the run ended before it"}},
	} {
		got, ok := ParseMarker(tc.line)
		if !ok || got != tc.want {
			t.Errorf("ParseMarker(%q) = %+v, %v; want %+v", tc.line, got, ok, tc.want)
		}
		if s := tc.want.String(); s != tc.line {
			t.Errorf("String() = %q, want %q", s, tc.line)
		}
		if got, ok := ParseMarker(tc.line + "\r\n"); !ok || got != tc.want {
			t.Errorf("a line end spoils %q", tc.line)
		}
	}
}

func TestParseMarkerRefuses(t *testing.T) {
	for _, line := range []string{
		"", "##[stage", "##[stage ]", "##[stage install]", "##[stage install begin", " ##[stage install begin]",
		"##[stage instal begin]", "##[stage install begin now]", "##[stage install end]", "##[stage install end ok 1.000s]",
		"##[stage install end pass]", "##[stage install end pass 1.000]", "##[stage install end pass -1.000s]",
		"##[stage install end pass NaNs]", "##[stage install end pass 1e300s]", "app | ##[stage install begin]",
	} {
		if m, ok := ParseMarker(line); ok {
			t.Errorf("ParseMarker(%q) = %+v, want no marker", line, m)
		}
	}
}

func TestMarkerStaysOneLine(t *testing.T) {
	m := Marker{Stage: StageInstall, Status: Fail, Reason: "first\nsecond\x00 \u2028third " + strings.Repeat("ä", 600)}
	line := m.String()
	if strings.ContainsAny(line, "\n\r\x00\u2028") || !strings.HasPrefix(line, "##[stage install end fail 0.000s first second third ä") {
		t.Errorf("String() = %q", line)
	}
	got, ok := ParseMarker(line)
	if !ok || len(got.Reason) > MarkerReasonLimit || !strings.HasSuffix(got.Reason, "…") {
		t.Errorf("ParseMarker(%q) = %+v, %v", line, got, ok)
	}
}

func FuzzParseMarker(f *testing.F) {
	f.Add("##[stage install end pass 12.345s reason]")
	f.Add("##[stage checks begin]")
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := ParseMarker(line)
		if !ok {
			return
		}
		again, ok := ParseMarker(m.String())
		if !ok || again != m {
			t.Errorf("%q parses to %+v, which prints as %q and parses to %+v", line, m, m.String(), again)
		}
	})
}

func TestLogTime(t *testing.T) {
	at := time.Date(2026, 3, 14, 23, 4, 5, 0, time.FixedZone("", 3600))
	clock, text := CutLogTime(LogTime(at) + "passed     install/health (0.3s)")
	if clock != "22:04:05" || text != "passed     install/health (0.3s)" {
		t.Errorf("%q %q", clock, text)
	}
	for _, line := range []string{"", "12:00", "25:00:00 no time", "12:00:00", "           | more", Marker{Stage: StageInstall, Begin: true}.String()} {
		if clock, text := CutLogTime(line); clock != "" || text != line {
			t.Errorf("%q: %q %q", line, clock, text)
		}
	}
}
