package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// U17: nothing that an app or a recipe says reaches the terminal as a command to it.
func TestU17_TerminalGetsTextAlone(t *testing.T) {
	hostile := "\x1b]0;owned\x07\x1b[2Jgone \x1b]8;;https://evil.example\x1b\\link\u009b31m \u202egnp.exe"
	var out, stderr bytes.Buffer
	log := newHumanLog(&out, false)
	if _, err := log.Write([]byte(hostile + "\n" + strings.Repeat("x", 160*longestLogLine))); err != nil {
		t.Fatal(err)
	}
	if len(log.rest) > longestLogLine {
		t.Errorf("%d bytes of a line are held back", len(log.rest))
	}
	// What follows where a long line was cut begins no stage.
	for _, text := range []string{"##[stage checks end pass 1.000s]", "\n##[stage install begin]\n"} {
		if _, err := log.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if text := out.String(); strings.Contains(text, "checks: ") || !strings.HasSuffix(text, "\ninstall\n") {
		t.Errorf("the log ends with %q", text[max(0, len(text)-200):])
	}
	exitCode(ccci.Errorf(ccci.CodeRecipe, "the app says %s", hostile).WithHint("%s", hostile), &stderr)
	exitCode(errors.New(hostile), &stderr)
	for where, text := range map[string]string{"log": out.String(), "errors": stderr.String()} {
		if strings.ContainsAny(text, "\x1b\x07\u009b\u202e") || !strings.Contains(text, "gone link<U+009B>31m <U+202E>gnp.exe") {
			t.Errorf("the %s are %.200q", where, text)
		}
	}
}

// U17: an engine puts a run's standard error into the build's log, so the logger of a run masks
// what the run's own log masks.
func TestU17_LoggerOfARunMasksItsSecrets(t *testing.T) {
	var stderr bytes.Buffer
	log, secrets, flush := maskingLogger(&stderr, slog.LevelInfo)
	secrets.Add("token", ccci.NewSecret("kGw7xYt2pLs9QmZ4"))
	log.Warn("restic warns", "output", "cannot read kGw7xYt2pLs9QmZ4")
	if got := stderr.String(); !strings.Contains(got, "cannot read ***") || strings.Contains(got, "kGw7") {
		t.Errorf("standard error has %q", got)
	}
	log.Warn("ends like one kGw7xYt2")
	flush()
	if got := stderr.String(); !strings.Contains(got, "ends like one") {
		t.Errorf("a line is lost: %q", got)
	}
}

// Lines of the logger have the form of the run's own, wherever they fall.
func TestU17_LoggerOfARunWritesLinesOfTheReport(t *testing.T) {
	var out bytes.Buffer
	report := newHumanLog(&out, false)
	log, _, flush := maskingLogger(newHumanLog(&out, false), slog.LevelInfo)
	write := func(text string) {
		if _, err := report.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	write("##[stage install begin]\nbegun and ")
	log.With("run", "1").Info("pulling an image", "image", "wiki:1", "why", "not here")
	log.Debug("not asked for")
	log.WithGroup("g").Warn("no memory\x1b[2J", "free", 3)
	log.Error("gone")
	flush()
	write("ended\n")
	want := "install\n" +
		"  pulling an image (run=1 image=wiki:1 why=\"not here\")\n" +
		"  warning: no memory (g.free=3)\n" +
		"  error: gone\n" +
		"  begun and ended\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// N7: a stage in which the recipe was refused is called so in the log and in the table of stages, in
// the terminal as elsewhere.
func TestN7_TheTerminalCallsARefusedStageRefused(t *testing.T) {
	const why = "the recipe asks for 2 settings"
	var out bytes.Buffer
	log := newHumanLog(&out, false)
	m := ccci.Marker{Stage: ccci.StageInstall, Status: ccci.Fail, Refused: true, Reason: why}
	if _, err := log.Write([]byte(m.String() + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := stagesTable(ccci.Run{Status: ccci.StatusRefused, Stages: []ccci.StageRow{m.Row()}}).print(&out, false); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "failed") || !strings.Contains(got, "install: refused: "+why) || !strings.Contains(got, "install  refused  ") {
		t.Errorf("the terminal says\n%s", got)
	}
}

// logs --stage prints one stage with its headings, and a last line without an end.
func TestP19_OneStageOfALog(t *testing.T) {
	var out bytes.Buffer
	log := newHumanLog(&out, true)
	log.only = ccci.StageUpgrade
	text := "before\n##[stage install begin]\nin install\n##[stage install end pass 1s]\n##[stage upgrade begin]\nin upgrade\n##[stage upgrade end fail 2s no answer]\nafter"
	if _, err := log.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := log.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[1mupgrade\x1b[0m\n  in upgrade\n\x1b[31mupgrade: failed: no answer (2.0s)\x1b[0m\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	whole := newHumanLog(&out, false)
	out.Reset()
	if _, err := whole.Write([]byte("one\ntwo")); err != nil || out.String() != "  one\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := whole.Flush(); err != nil || out.String() != "  one\n  two\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// A28: cc-ci status of a recipe speaks of the last run that came to a verdict.
func TestA28_StatusSpeaksOfTheLastVerdict(t *testing.T) {
	run := func(id ccci.RunID, status ccci.Status, level int) ccci.Run {
		return ccci.Run{ID: id, Recipe: "wiki", Trigger: ccci.TriggerSweep, Branch: "main", Status: status, Level: level}
	}
	var out bytes.Buffer
	a := &app{stdout: &out, color: colorNever}
	if err := (&statusCmd{}).recipe(a, nil, []ccci.Run{run("260301-120100-aaaaaa", ccci.StatusErrored, 0), run("260301-120000-aaaaaa", ccci.StatusPassed, 5)}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "passed, level 5\n") || !strings.Contains(got, "260301-120100-aaaaaa, infrastructure errored") {
		t.Errorf("got\n%s", got)
	}
}
