package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
)

// aLife is a run that has observed nothing yet.
func aLife(t testing.TB) *life {
	t.Helper()
	c := Config{Deployer: worldDeployer{world: newWorld()}, Router: worldRouter{newWorld()}, Backup: worldBackup{newWorld()},
		Now: time.Now, Rand: countingReader{}, Censor: &censor.Censor{}, OutDir: t.TempDir()}
	l := &life{instance: &instance{Config: &c, domain: "app.ci.example.org"}, markers: map[string]string{}, result: &ccci.Result{Domain: "app.ci.example.org"}}
	l.log = c.Censor.NewWriter(io.Discard)
	l.settings.Timeouts.Hook = time.Minute
	return l
}

func TestN7_StatusAndVerdict(t *testing.T) {
	passing := func(context.Context) error { return nil }
	failing := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	theirs := ccci.Errorf(ccci.CodeRecipe, "the app is broken")
	ours := errors.New("no space left on device")
	for _, c := range []struct {
		name        string
		ask         []func(context.Context) error
		end         error // why the run was told to end
		unverified  string
		leftover    bool
		removal     error
		deployments int
		status      ccci.Status
		verdict     ccci.Verdict
		cause       string
	}{
		{"all good", nil, nil, "", false, nil, 1, ccci.StatusPassed, ccci.VerdictPassed, ""},
		{"recipe", []func(context.Context) error{failing(theirs)}, nil, "", false, nil, 1, ccci.StatusFailed, ccci.VerdictFailed, "install/0"},
		{"infrastructure", []func(context.Context) error{failing(ours)}, nil, "", false, nil, 1, ccci.StatusErrored, ccci.VerdictErrored, "install/0"},
		{"conflict", []func(context.Context) error{failing(ccci.Errorf(ccci.CodeConflict, "it exists"))}, nil, "", false, nil, 1, ccci.StatusErrored, ccci.VerdictErrored, "install/0"},
		{"refused", []func(context.Context) error{failing(ccci.Errorf(ccci.CodeRefused, "privileged"))}, nil, "", false, nil, 0, ccci.StatusRefused, ccci.VerdictRefused, "install/0"},
		{"the first decides: recipe", []func(context.Context) error{passing, failing(theirs), failing(ours)}, nil, "", false, nil, 1, ccci.StatusFailed, ccci.VerdictFailed, "install/1"},
		{"the first decides: ours", []func(context.Context) error{passing, failing(ours), failing(theirs)}, nil, "", false, nil, 1, ccci.StatusErrored, ccci.VerdictErrored, "install/1"},
		{"expectation", []func(context.Context) error{failing(&checks.Failure{Message: "404"})}, nil, "", false, nil, 1, ccci.StatusFailed, ccci.VerdictFailed, "install/0"},
		{"no browser", []func(context.Context) error{passing, failing(checks.ErrNoBrowser)}, nil, "", false, nil, 1, ccci.StatusErrored, ccci.VerdictErrored, "install/1"},
		{"leftover", nil, nil, "", true, nil, 1, ccci.StatusFailed, ccci.VerdictFailed, "teardown/clean"},
		{"removal", nil, nil, "", false, ours, 1, ccci.StatusErrored, ccci.VerdictErrored, "teardown/clean"},
		{"removal and leftover", nil, nil, "", true, ours, 1, ccci.StatusErrored, ccci.VerdictErrored, "teardown/clean"},
		{"recipe and removal", []func(context.Context) error{failing(theirs)}, nil, "", false, ours, 1, ccci.StatusFailed, ccci.VerdictFailed, "install/0"},
		{"deadline", nil, ErrDeadline, "", false, nil, 1, ccci.StatusInconclusive, ccci.VerdictInconclusive, "run/ended"},
		{"a failure before the deadline", []func(context.Context) error{failing(theirs)}, ErrDeadline, "", false, nil, 1, ccci.StatusFailed, ccci.VerdictFailed, "install/0"},
		{"cancelled", nil, ErrCancelled, "", false, nil, 1, ccci.StatusCancelled, ccci.VerdictInconclusive, "run/ended"},
		{"orphaned", nil, ErrOrphaned, "", false, nil, 1, ccci.StatusErrored, ccci.VerdictErrored, "run/ended"},
		{"not asked for", nil, nil, NotAsked, false, nil, 1, ccci.StatusPassed, ccci.VerdictPassed, ""},
		{"U23 unverified", nil, nil, "nothing was checked", false, nil, 1, ccci.StatusErrored, ccci.VerdictErrored, "checks"},
		{"U2 no app", nil, nil, "", false, nil, 0, ccci.StatusErrored, ccci.VerdictErrored, "run/deployments"},
		{"U2 two apps", nil, nil, "", false, nil, 2, ccci.StatusErrored, ccci.VerdictErrored, "run/deployments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			l := aLife(t)
			l.stage(ctx, ccci.StageInstall, func(ctx context.Context, s *ccci.Stage) {
				for i, ask := range append(c.ask, passing) {
					l.check(ctx, s, "install/"+string(rune('0'+i)), ask)
				}
			})
			if c.unverified != "" {
				l.result.Stages = append(l.result.Stages, ccci.Stage{Name: ccci.StageChecks, Status: ccci.Unverified, Reason: c.unverified})
			}
			w := newWorld()
			if c.leftover {
				w.left = Snapshot{{Kind: "volume", ID: "1", Name: "stray-" + string(l.Job.RunID)}}
			}
			w.looks = 1
			if c.removal != nil {
				w.fail("remove", c.removal)
			}
			l.Deployer = worldDeployer{world: w}
			l.teardown(ctx)
			l.result.Deployments = c.deployments
			if c.end != nil {
				cancel(c.end)
			}
			l.conclude(ctx)
			r := l.result
			if r.Status != c.status || r.Verdict != c.verdict {
				t.Errorf("status %s, verdict %q; want %s, %q", r.Status, r.Verdict, c.status, c.verdict)
			}
			cause := ""
			if r.Cause != nil {
				cause = r.Cause.Check
			}
			if cause != c.cause {
				t.Errorf("cause %q, want %q", cause, c.cause)
			}
		})
	}
}

// A stage in which nothing was asked is not green.
func TestU23_StageWithoutChecksIsUnverified(t *testing.T) {
	l := aLife(t)
	l.stage(t.Context(), ccci.StageInstall, func(context.Context, *ccci.Stage) {})
	if s := l.result.Stages[0]; s.Status != ccci.Unverified || s.Reason != "nothing was checked" {
		t.Errorf("%s: %s", s.Status, s.Reason)
	}
}

// What the end of the run tears from under a question is no answer.
func TestN7_CheckCutShortIsUnverified(t *testing.T) {
	l := aLife(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	l.stage(ctx, ccci.StageInstall, func(ctx context.Context, s *ccci.Stage) {
		l.check(ctx, s, "install/slow", func(ctx context.Context) error {
			cancel(ErrDeadline)
			return ccci.Errorf(ccci.CodeRecipe, "it does not answer")
		})
	})
	c := l.result.Stages[0].Checks[0]
	if c.Status != ccci.Unverified || !strings.Contains(c.Message, "deadline") || l.first != nil {
		t.Errorf("%+v, first %+v", c, l.first)
	}
}

// A16: whoever ends the run, it itself at its limit or the engine, which has the same limit and an earlier
// clock: the cause names what was waited for.
func TestN7_TheCheckThatTheEndInterruptedIsTheCause(t *testing.T) {
	const hour = time.Hour
	answered := &checks.Failure{Message: "/ answered 503"}
	for name, c := range map[string]struct {
		end     error
		after   time.Duration
		err     error
		status  ccci.Status
		message string
	}{
		"deadline":              {ErrDeadline, hour, answered, ccci.StatusInconclusive, "not finished when the run reached its limit of 1 h 0 min: / answered 503"},
		"deadline, no answer":   {ErrDeadline, hour, context.DeadlineExceeded, ccci.StatusInconclusive, "not finished when the run reached its limit of 1 h 0 min"},
		"Drone's deadline":      {ErrOrphaned, hour - 3*time.Second, answered, ccci.StatusInconclusive, "not finished when the run reached its limit of 1 h 0 min: / answered 503"},
		"an engine's deadline":  {ErrCancelled, hour - 3*time.Second, answered, ccci.StatusInconclusive, "not finished when the run reached its limit of 1 h 0 min: / answered 503"},
		"the engine's death":    {ErrOrphaned, hour / 2, answered, ccci.StatusErrored, "not finished when the run was ended: / answered 503"},
		"cancelled":             {ErrCancelled, hour / 2, answered, ccci.StatusCancelled, "not finished when the run was ended: / answered 503"},
		"cancelled, no answer":  {ErrCancelled, hour / 2, context.Canceled, ccci.StatusCancelled, "not finished when the run was ended"},
		"cancelled, in a fetch": {ErrCancelled, hour / 2, fmt.Errorf("fetching: %w", context.Canceled), ccci.StatusCancelled, "not finished when the run was ended: fetching"},
	} {
		t.Run(name, func(t *testing.T) {
			l := aLife(t)
			now := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
			l.Now, l.result.Started, l.Job.Deadline = func() time.Time { return now }, now, hour
			ctx, cancel := context.WithCancelCause(t.Context())
			l.stage(ctx, ccci.StageInstall, func(ctx context.Context, s *ccci.Stage) {
				l.check(ctx, s, "install/serves", func(context.Context) error {
					now = now.Add(c.after)
					cancel(c.end)
					return c.err
				})
			})
			now = now.Add(5 * time.Minute) // of teardown
			l.conclude(ctx)
			if r := l.result; r.Status != c.status || r.Cause == nil || r.Cause.Check != "install/serves" || r.Cause.Message != c.message {
				t.Errorf("%s, cause %+v", r.Status, r.Cause)
			}
		})
	}
}

func TestDescribeTellsWhatTheTasksSaid(t *testing.T) {
	l := aLife(t)
	var s ccci.Stage
	log := make([]string, 60)
	l.check(t.Context(), &s, "install/converged", func(context.Context) error {
		return &DeployError{Err: ccci.Errorf(ccci.CodeRecipe, "app restarts again and again"), Tasks: []TaskFailure{
			{Service: "app", State: "failed", Message: "exit code 3", Log: append([]string{"cannot open /data", "no such table: users"}, log...)},
		}}
	})
	c := s.Checks[0]
	if c.Status != ccci.Fail || c.Code != ccci.CodeRecipe || len(c.Detail) != 40 || c.Detail[0] != "app: failed: exit code 3" || c.Detail[1] != "  cannot open /data" ||
		c.Message != "app restarts again and again; service app said last: no such table: users" {
		t.Errorf("%+v", c)
	}
}

// spoken is a failed program of the app, as a backup adapter returns one.
type spoken struct{ error }

func (spoken) Lines() []string { return []string{"pg_dump: error: connection failed"} }

func TestDescribeShowsWhatAProgramOfTheAppPrinted(t *testing.T) {
	l := aLife(t)
	var s ccci.Stage
	l.check(t.Context(), &s, "backup/snapshot", func(context.Context) error {
		return errors.Join(&spoken{ccci.Errorf(ccci.CodeRecipe, "the pre-hook ended with exit code 1")})
	})
	if c := s.Checks[0]; len(c.Detail) != 1 || c.Detail[0] != "pg_dump: error: connection failed" {
		t.Errorf("%+v", c)
	}
}

// U17: neither the result nor an artifact holds a secret.
func TestU17_ResultAndArtifactsAreMasked(t *testing.T) {
	l := aLife(t)
	l.Censor.Add("token", ccci.NewSecret("hunter2hunter2"))
	l.artifact("logs/app.log", "Log of app", "log", []byte("the token is hunter2hunter2"))
	l.result.Warnings = []string{"hunter2hunter2"}
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"result.json", "logs/app.log"} {
		text, err := os.ReadFile(filepath.Join(l.OutDir, file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), "***") {
			t.Errorf("%s: %s", file, text)
		}
	}
	left, err := filepath.Glob(filepath.Join(l.OutDir, ".result-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	l.OutDir = filepath.Join(l.OutDir, "gone")
	if err := l.write(); err == nil {
		t.Error("writing into no folder is no error")
	}
}
