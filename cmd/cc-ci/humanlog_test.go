package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// U17: nothing that an app or a recipe says reaches the terminal as a command to it.
func TestU17_TerminalGetsTextAlone(t *testing.T) {
	hostile := "\x1b]0;owned\x07\x1b[2Jgone \x1b]8;;https://evil.example\x1b\\link\u009b31m \u202egnp.exe"
	var out, stderr bytes.Buffer
	log := newHumanLog(&out)
	if _, err := log.Write([]byte(hostile + "\n" + strings.Repeat("x", 10<<20))); err != nil {
		t.Fatal(err)
	}
	if len(log.rest) > longestLogLine {
		t.Errorf("%d bytes of a line are held back", len(log.rest))
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
	a := &app{stderr: &stderr}
	log, secrets, flush := a.maskingLogger(config.Config{})
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
