package harness

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// answers gives the enrolment a check, and the app one status for each request of it, and then 200.
func answers(w *world, c *Config, statuses ...int) (asked *int) {
	c.Settings.Checks = []ccci.Step{
		{Name: "orders", HTTP: &ccci.HTTPStep{Path: "/orders", Expect: ccci.HTTPExpect{Status: []int{200}}}},
		{Name: "after it", HTTP: &ccci.HTTPStep{Path: "/", Expect: ccci.HTTPExpect{Status: []int{200}}}},
	}
	asked = new(int)
	w.answer = func(r *http.Request) (int, string) {
		switch {
		case strings.HasPrefix(r.URL.Host, "nobody-"):
			return http.StatusNotFound, ""
		case r.URL.Path == "/orders":
			if *asked++; *asked <= len(statuses) {
				return statuses[*asked-1], ""
			}
		}
		return http.StatusOK, ""
	}
	return asked
}

// N14: a check that fails is asked once more. When it passes, it is flaky, and so is the run; when
// it fails, it failed twice. What comes after a flaky check is tested.
func TestN14_AFailureIsConfirmedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		asked    int
		status   ccci.Status
		check    ccci.CheckStatus
		attempts []ccci.CheckStatus
		after    ccci.CheckStatus
		level    int
	}{
		"passes":            {nil, 1, ccci.StatusPassed, ccci.Pass, nil, ccci.Pass, 5},
		"fails, passes":     {[]int{500}, 2, ccci.StatusFlaky, ccci.Flaky, []ccci.CheckStatus{ccci.Fail, ccci.Pass}, ccci.Pass, 3},
		"fails twice":       {[]int{500, 503}, 2, ccci.StatusFailed, ccci.Fail, []ccci.CheckStatus{ccci.Fail, ccci.Fail}, ccci.Pass, 3},
		"fails three times": {[]int{500, 503, 500}, 2, ccci.StatusFailed, ccci.Fail, []ccci.CheckStatus{ccci.Fail, ccci.Fail}, ccci.Pass, 3},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := example(t)
			w := newWorld()
			config := w.config(t, repo, head)
			asked := answers(w, &config, c.statuses...)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				check := r.Check("checks/orders")
				if *asked != c.asked || r.Status != c.status || check.Status != c.check || r.Level != c.level || r.Check("checks/after-it").Status != c.after {
					t.Errorf("asked %d times: run %s, level %d, check %+v", *asked, r.Status, r.Level, check)
				}
				var attempts []ccci.CheckStatus
				for i, a := range check.Attempts {
					attempts = append(attempts, a.Status)
					if (a.Message == "") != (a.Status == ccci.Pass) || i > 0 && a.Started.Sub(check.Attempts[0].Started) < confirmPause {
						t.Errorf("attempt %+v", a)
					}
				}
				if len(attempts) != len(c.attempts) || len(attempts) == 2 && (attempts[0] != c.attempts[0] || attempts[1] != c.attempts[1]) {
					t.Errorf("attempts %v", attempts)
				}
				if c.status == ccci.StatusPassed {
					return
				}
				if r.Cause == nil || r.Cause.Check != "checks/orders" || !strings.Contains(r.Cause.Message, "500") || check.FailedTwice() != (c.status == ccci.StatusFailed) {
					t.Errorf("cause %+v", r.Cause)
				}
				if c.status == ccci.StatusFlaky && (r.Verdict != ccci.VerdictInconclusive || r.Stage(ccci.StageChecks).Status != ccci.Flaky) {
					t.Errorf("verdict %s, stage %s", r.Verdict, r.Stage(ccci.StageChecks).Status)
				}
			})
		})
	}
}

// N14, U2: what changes the app is done once, and what cannot be otherwise is asked once.
func TestN14_WhatIsNotAskedAgain(t *testing.T) {
	broken := ccci.Errorf(ccci.CodeRecipe, "no")
	for name, c := range map[string]struct {
		change func(*world, *Config)
		check  string
	}{
		"a deployment": {func(w *world, _ *Config) { w.fail("deploy head", broken) }, "upgrade/converged"},
		"a backup":     {func(w *world, _ *Config) { w.fail("backup", broken) }, "backup/snapshot"},
		"a restore":    {func(w *world, _ *Config) { w.fail("restore", broken) }, "restore/restored"},
		"an image":     {func(w *world, _ *Config) { w.fail("pull head", broken) }, "upgrade/images"},
		"a router": {func(w *world, c *Config) {
			c.Job.Options.Stages = []ccci.StageName{ccci.StageInstall, ccci.StageChecks}
			w.answer, w.unrouted = notFound, [2]string{"no router matches", "set a label"}
		}, "install/serves"},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := example(t)
			w := newWorld()
			config := w.config(t, repo, head)
			c.change(w, &config)
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				if r.Cause == nil || r.Cause.Check != c.check || len(r.Check(c.check).Attempts) > 0 {
					t.Errorf("cause %+v, check %+v", r.Cause, r.Check(c.check))
				}
			})
		})
	}
}

// N14: an app that needs longer than its limit is asked for one minute more, and is flaky then. The
// run goes on, and its other stages are tested.
func TestN14_ASlowStartIsFlaky(t *testing.T) {
	for name, c := range map[string]struct {
		late   time.Duration // beyond the limit
		status ccci.Status
	}{
		"within a minute": {30 * time.Second, ccci.StatusFlaky},
		"later":           {3 * time.Minute, ccci.StatusFailed},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := example(t)
			w := newWorld()
			config := w.config(t, repo, head)
			config.Job.Options.Stages = []ccci.StageName{ccci.StageInstall, ccci.StageChecks}
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				w.answer = func(r *http.Request) (int, string) {
					if strings.HasPrefix(r.URL.Host, "nobody-") {
						return http.StatusNotFound, ""
					}
					if time.Since(start) < config.Settings.Timeouts.Healthy+c.late {
						return http.StatusBadGateway, ""
					}
					return http.StatusOK, ""
				}
				r := live(t, w, config, t.Context())
				if r.Status != c.status || r.Cause == nil || r.Cause.Check != "install/serves" || r.Level != 0 {
					t.Errorf("%s, level %d, cause %+v", r.Status, r.Level, r.Cause)
				}
				if tested := r.Stage(ccci.StageChecks).Status == ccci.Pass; tested != (c.status == ccci.StatusFlaky) {
					t.Errorf("checks: %+v", r.Stage(ccci.StageChecks))
				}
				if r.Duration > config.Settings.Timeouts.Healthy+2*confirmLimit {
					t.Errorf("it took %s", r.Duration)
				}
			})
		})
	}
}

// N14: the time of the run may be up while a check is confirmed. Its failure is an answer then.
func TestN14_TheEndOfTheRunConfirmsNothing(t *testing.T) {
	repo, head := example(t)
	w := newWorld()
	config := w.config(t, repo, head)
	asked := answers(w, &config, 500)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		again := w.answer
		w.answer = func(r *http.Request) (int, string) {
			status, location := again(r)
			if *asked == 1 {
				time.AfterFunc(confirmPause/2, func() { cancel(ErrDeadline) })
			}
			return status, location
		}
		r := live(t, w, config, ctx)
		if check := r.Check("checks/orders"); r.Status != ccci.StatusFailed || check.Status != ccci.Fail || len(check.Attempts) != 0 {
			t.Errorf("%s, %+v", r.Status, check)
		}
	})
}

// N14: of the recipe's own tests each is flaky by itself.
func TestN14_GoTestsOfTwoAttempts(t *testing.T) {
	row := func(name string, status ccci.CheckStatus) ccci.Check {
		return ccci.Check{Name: name, Status: status, Message: string(status)}
	}
	first := []ccci.Check{row("a", ccci.Pass), row("b", ccci.Fail), row("c", ccci.Fail), row("d", ccci.Pass), row("e", ccci.Fail)}
	second := []ccci.Check{row("a", ccci.Pass), row("b", ccci.Pass), row("c", ccci.Fail), row("d", ccci.Fail), row("f", ccci.Pass)}
	var got []string
	for _, c := range testsOf([][]ccci.Check{first, second}) {
		got = append(got, c.Name+" "+string(c.Status))
	}
	if want := "a pass, b flaky, c fail, d fail, e fail, f pass"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	if one := testsOf([][]ccci.Check{first}); len(one) != len(first) {
		t.Errorf("one attempt: %v", one)
	}
	if none := testsOf(nil); len(none) != 0 {
		t.Errorf("none: %v", none)
	}
}

func TestN14_Confirmable(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"an answer that is not expected": {&checks.Failure{Message: "no"}, true},
		"one that cannot change":         {&checks.Failure{Message: "no", Final: true}, false},
		"ours":                           {ccci.Errorf(ccci.CodeInfra, "no"), false},
		"the files are wrong":            {ccci.Errorf(ccci.CodeInvalid, "no"), false},
		"no browser":                     {checks.ErrNoBrowser, false},
		"nothing to prove":               {&unprovenError{}, false},
	} {
		var check ccci.Check
		describe(&check, c.err)
		if got := confirmable(check, c.err); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// N14: after a failure that was confirmed the verdict is known, and no other is. After a flaky check
// the next one is confirmed, and decides when it fails twice.
func TestN14_OnlyWhatDecidesIsConfirmed(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		asked    int
		want     string // of both checks, with how often each was asked if it was twice
		cause    string
	}{
		"both fail":             {[]int{500, 501, 502, 503}, 3, "fail 2, fail 0", "checks/orders"},
		"flaky, then a failure": {[]int{500, 200, 502, 503}, 4, "flaky 2, fail 2", "checks/orders-again"},
		"both flaky":            {[]int{500, 200, 502, 200}, 4, "flaky 2, flaky 2", "checks/orders"},
		"a failure, then fine":  {[]int{500, 501}, 3, "fail 2, pass 0", "checks/orders"},
	} {
		t.Run(name, func(t *testing.T) {
			repo, head := example(t)
			w := newWorld()
			config := w.config(t, repo, head)
			asked := answers(w, &config, c.statuses...)
			config.Settings.Checks[1] = config.Settings.Checks[0]
			config.Settings.Checks[1].Name = "orders again"
			synctest.Test(t, func(t *testing.T) {
				r := live(t, w, config, t.Context())
				first, second := r.Check("checks/orders"), r.Check("checks/orders-again")
				got := fmt.Sprintf("%s %d, %s %d", first.Status, len(first.Attempts), second.Status, len(second.Attempts))
				if got != c.want || *asked != c.asked || r.Cause == nil || r.Cause.Check != c.cause {
					t.Errorf("%s after %d requests, cause %+v", got, *asked, r.Cause)
				}
			})
		})
	}
}
