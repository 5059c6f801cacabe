package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// hook runs tests/<recipe>/hooks/<name>, when there is one, and reports whether
// the stage may go on. Hooks are ours, never the pull request's.
func (l *life) hook(ctx context.Context, s *ccci.Stage, name string) bool {
	if l.settings.Dir == "" {
		return true
	}
	path := filepath.Join(l.settings.Dir, "hooks", name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	return l.check(ctx, s, string(s.Name)+"/hook-"+name, func(ctx context.Context) error {
		if err != nil {
			return infra("looking for hook %s: %w", path, err)
		}
		if info.Mode()&0o111 == 0 {
			return ccci.Errorf(ccci.CodeInvalid, "hook %s is not executable", path).WithHint("chmod +x %s", path)
		}
		out, err := l.run(ctx, l.settings.Dir, path)
		if err != nil {
			message := "hook " + name + ": " + err.Error()
			lines := tail(out, 20)
			if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
				message += ": " + clip(last, 300)
			}
			return &checks.Failure{Message: message, Detail: lines, Of: "Output of the hook, its last " + lastLines(lines)}
		}
		return nil
	})
}

// goTests runs the *_test.go files of the enrolment; each test is a check.
func (l *life) goTests(ctx context.Context, s *ccci.Stage) {
	if l.settings.Dir == "" {
		return
	}
	if files, _ := filepath.Glob(filepath.Join(l.settings.Dir, "*_test.go")); len(files) == 0 {
		return
	}
	var attempts [][]ccci.Check // the rows of each
	l.confirmed(ctx, s, "checks/go-tests", func(ctx context.Context) error {
		goTool, err := exec.LookPath("go")
		if err != nil {
			return infra("the enrolment has Go tests and there is no go on PATH")
		}
		out, err := l.run(ctx, l.settings.Dir, goTool, "test", "-count=1", "-json", ".")
		rows := testRows(out)
		attempts = append(attempts, rows)
		if err != nil {
			lines := tail(plainOutput(out), 30)
			return &checks.Failure{Message: "the enrolment's Go tests: " + err.Error(), Detail: lines, Of: "Output of the tests, its last " + lastLines(lines)}
		}
		// The package itself passes when there is nothing in it to run (U23).
		if len(rows) == 0 {
			return &checks.Failure{Message: "the enrolment has Go test files and no test ran"}
		}
		return nil
	})
	for _, row := range testsOf(attempts) {
		s.Checks = append(s.Checks, row)
		l.sayCheck(row, nil)
	}
}

// testsOf makes one list of the rows of every attempt. What the second attempt did not come to
// stands as the first one left it.
func testsOf(attempts [][]ccci.Check) []ccci.Check {
	if len(attempts) < 2 {
		return slices.Concat(attempts...)
	}
	rows := slices.Clone(attempts[0])
	for _, again := range attempts[1] {
		i := slices.IndexFunc(rows, func(c ccci.Check) bool { return c.Name == again.Name })
		switch {
		case i < 0:
			rows = append(rows, again)
		case rows[i].Status == ccci.Fail && (again.Status == ccci.Pass || again.Status == ccci.Fail):
			rows[i] = bothAttempts(rows[i], again)
		case again.Status != ccci.Pass:
			rows[i] = again
		}
	}
	return rows
}

// testRows reads the events of go test -json into one check per test.
func testRows(out []byte) []ccci.Check {
	var rows []ccci.Check
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Time         time.Time
			Action, Test string
			Elapsed      float64
		}
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.Test == "" || strings.Contains(event.Test, "/") {
			continue
		}
		status, ok := map[string]ccci.CheckStatus{"pass": ccci.Pass, "fail": ccci.Fail, "skip": ccci.Unverified}[event.Action]
		if !ok {
			continue
		}
		row := ccci.Check{Name: "checks/go-" + ccci.CheckWord(event.Test), Status: status, Duration: time.Duration(event.Elapsed * float64(time.Second))}
		row.Started = event.Time.Add(-row.Duration)
		switch status {
		case ccci.Fail:
			row.Code, row.Message = ccci.CodeRecipe, event.Test+" failed"
		case ccci.Unverified: // U10, U23: a test that skips itself has verified nothing
			row.Message = event.Test + " skipped itself"
		}
		rows = append(rows, row)
	}
	return rows
}

func plainOutput(out []byte) []byte {
	var text []byte
	for line := range bytes.Lines(out) {
		var event struct{ Output string }
		if json.Unmarshal(line, &event) == nil {
			text = append(text, event.Output...)
		} else {
			text = append(text, line...)
		}
	}
	return text
}

// run starts a program of ours with what it may know of the run.
func (l *life) run(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, l.settings.Timeouts.Hook)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(append([]string{}, l.Env...),
		"CCCI_DOMAIN="+l.domain, "CCCI_STACK="+l.stackName(), "CCCI_RUN_ID="+string(l.Job.RunID),
		"CCCI_RECIPE="+l.Job.Recipe, "CCCI_MARKER="+l.marker("A"))
	if len(l.deps) > 0 {
		deps, err := json.Marshal(l.deps)
		if err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Env, "CCCI_DEPS="+string(deps))
	}
	// Its children end with it, and all of them with the run.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out := logTail{limit: hookOutput}
	cmd.Stdout = &out
	cmd.Stderr = &out
	err := cmd.Run()
	if ctx.Err() != nil && err != nil {
		return out.text(), errors.New("it did not end in time")
	}
	return out.text(), err
}

// hookOutput is how much of a program's output is kept, in bytes from its end: an endless
// one must not fill the harness's memory.
const hookOutput = 16 << 20

// tail returns the last n lines.
func tail(out []byte, n int) []string {
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}
