package harness

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

const tokenValue = "kGw7xYt2pLs9QmZ4vB"

// logsOf is a life whose app has one service with a secret, and writes pieces.
func logsOf(t *testing.T, pieces func(take func(LogPiece) error) error) *life {
	t.Helper()
	l := aLife(t)
	l.Censor.Add("secret token", ccci.NewSecret(tokenValue))
	l.Deployer = piecesDeployer{pieces: pieces}
	l.current = &recipe.Stack{Name: "s", Config: &types.Config{Services: []types.ServiceConfig{
		{Name: "app", Secrets: []types.ServiceSecretConfig{{Source: "token"}}}, {Name: "web"},
	}}}
	l.settings.Limits.Log = "1M"
	return l
}

type piecesDeployer struct {
	Deployer
	pieces func(take func(LogPiece) error) error
}

func (d piecesDeployer) Logs(_ context.Context, _ *recipe.Stack, take func(LogPiece) error) error {
	return d.pieces(take)
}

// writes gives texts to take in turn: "1 text" on standard output, "2 text" on standard error.
func writes(texts ...string) func(func(LogPiece) error) error {
	return func(take func(LogPiece) error) error {
		for _, text := range texts {
			if err := take(LogPiece{Service: "app", Container: "c1", Stderr: text[0] == '2', Text: []byte(text[2:])}); err != nil {
				return err
			}
		}
		return nil
	}
}

func keptLog(t *testing.T, l *life, service string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.OutDir, "logs", service+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestU17_SecretsInLogsAreFoundWhereverTheyStand(t *testing.T) {
	half, rest := tokenValue[:9], tokenValue[9:]
	for name, tc := range map[string]struct {
		pieces func(func(LogPiece) error) error
		kept   string // a part of what is kept
	}{
		"plain":                    {writes("1 the token is " + tokenValue + "\n"), "the token is ***\n"},
		"after a line over 1 MiB":  {writes("1 "+strings.Repeat("x", 2<<20)+"\n", "1 "+tokenValue+"\n"), "***\n"},
		"before many lines":        {writes(append([]string{"1 " + tokenValue + "\n"}, strings.Split(strings.Repeat("1 line\n|", 30_000)+"1 end\n", "|")...)...), "line\nend\n"},
		"across two messages":      {writes("1 "+strings.Repeat("x", 16<<10-9)+half, "1 "+rest+" end\n"), "x*** end\n"},
		"another stream between":   {writes("1 begins "+half, "2 an error\n", "1 "+rest+" end\n"), "an error\nbegins *** end\n"},
		"without a last line end":  {writes("1 a\n", "1 "+tokenValue), "a\n***\n"},
		"colours within":           {writes("1 " + half + "\x1b[31m" + rest + "\n"), "***\n"},
		"both streams, in order":   {writes("1 one\n", "2 two\n", "1 "+tokenValue+"\n", "2 four\n"), "one\ntwo\n***\nfour\n"},
		"on the error stream only": {writes("2 " + tokenValue + "\n"), "***\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l := logsOf(t, tc.pieces)
			err := l.logsHoldNoSecrets(t.Context())
			if err == nil || !strings.Contains(err.Error(), "secret token in the log of service app") {
				t.Errorf("the check says %v", err)
			}
			kept := keptLog(t, l, "app")
			if !strings.Contains(kept, tc.kept) || strings.Contains(kept, half) || strings.Contains(kept, rest) {
				t.Errorf("kept is %q", kept[max(0, len(kept)-200):])
			}
		})
	}
}

func TestU17_AnUnreadableLogIsNoProof(t *testing.T) {
	muteErr := ccci.Errorf(ccci.CodeRecipe, "its logging driver keeps no log that Docker can read").WithHint("use json-file")
	for name, tc := range map[string]struct {
		piece LogPiece
		code  ccci.Code
		says  string
	}{
		"no log, secrets":    {LogPiece{Service: "app", Container: "c1", Err: muteErr}, ccci.CodeRecipe, "service app has secrets and its log cannot be read"},
		"trouble, secrets":   {LogPiece{Service: "app", Container: "c1", Err: ccci.Errorf(ccci.CodeInfra, "input/output error")}, ccci.CodeInfra, "input/output error"},
		"no log, no secrets": {LogPiece{Service: "web", Container: "c1", Err: muteErr}, "", ""},
		"rotated, secrets":   {LogPiece{Service: "app", Container: "c1", Rotated: true}, "", "log of service app was rotated"},
	} {
		t.Run(name, func(t *testing.T) {
			l := logsOf(t, func(take func(LogPiece) error) error { return take(tc.piece) })
			err := l.logsHoldNoSecrets(t.Context())
			said := fmt.Sprint(err, l.result.Warnings)
			if (err == nil) != (tc.code == "") || err != nil && ccci.CodeOf(err) != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("the check says %s", said)
			}
		})
	}
}

// A log is kept without what a terminal obeys, and its end alone when it is long.
func TestU17_KeptLogsAreHarmless(t *testing.T) {
	l := logsOf(t, writes("1 \x1b[31mred\x1b[0m \x1b]52;c;cm0gLXJmIH4=\x07copied\n", "1 a\u202eb\n"))
	if err := l.logsHoldNoSecrets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept := keptLog(t, l, "app"); kept != "red copied\na<U+202E>b\n" {
		t.Errorf("kept is %q", kept)
	}
	l = logsOf(t, writes("1 first\n", "1 "+strings.Repeat("a line\n", 400_000), "1 last\n"))
	if err := l.logsHoldNoSecrets(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := keptLog(t, l, "app")
	if len(kept) > 1<<20+100 || !strings.HasPrefix(kept, "(the first ") || !strings.HasSuffix(kept, "a line\nlast\n") {
		t.Errorf("kept are %d bytes, %.60q", len(kept), kept)
	}
}

// Memory does not grow with a log: what is held back is as much for a large one as for a small one.
func TestU17_LongLogsNeedConstantMemory(t *testing.T) {
	size := 64 << 20
	if testing.Short() {
		size = 16 << 20
	}
	piece := []byte(strings.Repeat("a line of 32 letters in the log\n", 512))
	peak := uint64(0)
	l := logsOf(t, func(take func(LogPiece) error) error {
		for n := 0; n < size; n += len(piece) {
			if err := take(LogPiece{Service: "app", Container: "c1", Stderr: n%3 == 0, Text: piece}); err != nil {
				return err
			}
			if n%(4<<20) == 0 {
				runtime.GC() // what other tests left is not this log's
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
		}
		return take(LogPiece{Service: "app", Container: "c1", Text: []byte(tokenValue + "\n")})
	})
	if err := l.logsHoldNoSecrets(t.Context()); err == nil {
		t.Error("the secret at the end is not found")
	}
	if peak > 64<<20 {
		t.Errorf("a log of %d MiB needs %d MiB", size>>20, peak>>20)
	}
}

// U17: what an app says reaches the run's log, the result and its readers without secrets,
// without what a terminal obeys, and not without bound.
func TestU17_ForeignTextIsCleaned(t *testing.T) {
	l := aLife(t)
	l.Censor.Add("secret token", ccci.NewSecret(tokenValue))
	var log strings.Builder
	l.log = l.Censor.NewWriter(&log)
	s := ccci.Stage{Name: ccci.StageInstall}
	l.check(t.Context(), &s, "install/serves", func(context.Context) error {
		return &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "\x1b]0;owned\x07it says %q\n##[stage checks end pass 1.000s]\n%s", tokenValue, strings.Repeat("long ", 2<<20)),
			Tasks: []TaskFailure{{Service: "app", State: "failed", Log: []string{"wrapped " + tokenValue[:9], tokenValue[9:] + " end", "\x1b[2Jcleared", strings.Repeat("y", 1<<20)}}}}
	})
	l.result.Stages = append(l.result.Stages, s)
	l.result.Changes = append(l.result.Changes, ccci.Change{Subject: "x\u009b31m", Before: tokenValue})
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	if err := l.log.Flush(); err != nil {
		t.Fatal(err)
	}
	c := l.result.Stages[0].Checks[0]
	for where, text := range map[string]string{"log": log.String(), "message": c.Message, "details": strings.Join(c.Detail, "\n"), "change": fmt.Sprint(l.result.Changes)} {
		if strings.Contains(text, tokenValue[:9]) || strings.Contains(text, tokenValue[9:]) || strings.ContainsAny(text, "\x1b\x07\u009b") || len(text) > 64<<10 {
			t.Errorf("the %s is %d bytes: %.300q", where, len(text), text)
		}
	}
	for line := range strings.Lines(log.String()) {
		if _, ok := ccci.ParseMarker(strings.TrimSuffix(line, "\n")); ok {
			t.Errorf("an app's text is a marker of the log: %q", line)
		}
	}
}

// An endless program cannot fill the harness's memory.
func TestHookOutputIsBounded(t *testing.T) {
	out := logTail{limit: 1 << 20}
	if _, err := io.CopyN(&out, endless{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if len(out.text()) > 1<<20+100 || cap(out.data) > 8<<20 {
		t.Errorf("%d bytes are kept", cap(out.data))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "yes\n"[i%4]
	}
	return len(p), nil
}
