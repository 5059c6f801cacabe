package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// conclude derives status, level and cause from what was observed. It is the
// only place that decides a verdict.
func (l *life) conclude(ctx context.Context) {
	r := l.result
	r.Finished = l.Now()
	r.Duration = r.Finished.Sub(r.Started)
	r.PeakMemory = l.Deployer.PeakMemory()
	r.ComputeLevel()
	if l.first != nil {
		r.Cause = causeOf(l.first, l.firstErr)
		l.compareWithBase()
	}
	r.Status = l.status(ctx)
	r.Verdict = r.Status.Verdict()
	_, level := ccci.LevelWords(r.Level, r.Rows())
	line := fmt.Sprintf("verdict: %s, %s", r.VerdictWord(), level)
	if r.LevelReason != "" {
		line += "; not higher: " + r.LevelReason
	}
	l.sayf("%s", line)
	if r.Cause != nil {
		l.sayf("cause: %s: %s", r.Cause.Check, r.Cause.Message)
		if r.Cause.Hint != "" {
			l.sayf("hint: %s", r.Cause.Hint)
		}
	}
}

func (l *life) status(ctx context.Context) ccci.Status {
	r := l.result
	if end := context.Cause(ctx); end != nil {
		var exceeded *exceededError
		if errors.As(end, &exceeded) {
			r.Cause = &ccci.Cause{Check: "run/limits", Code: ccci.CodeRecipe, Message: end.Error(), Hint: ccci.HintOf(end)}
			if ccci.CodeOf(end) == ccci.CodeInfra { // not this run's doing alone
				r.Cause.Code = ccci.CodeInfra
				return ccci.StatusErrored
			}
			return ccci.StatusFailed
		}
		if errors.Is(end, ErrDeadline) || l.cutAtLimit() {
			return l.late()
		}
		if r.Cause == nil {
			r.Cause = &ccci.Cause{Check: "run/ended", Message: end.Error()}
			l.nameInterrupted(r.Cause, "the run was ended")
			r.Cause.Code = ccci.CodeInfra
		}
		if errors.Is(end, ErrCancelled) {
			return ccci.StatusCancelled
		}
		return ccci.StatusErrored
	}
	if l.first != nil {
		if l.canonical != nil && r.Upgrades == 0 && len(r.BrokenBases) > 0 {
			r.Cause.Code, r.Cause.Hint = "", "!testme without --quick tests the commit afresh and from the releases"
			return ccci.StatusInconclusive
		}
		return statusOf(l.first.Code)
	}
	if why := l.brokenUpgrade(); why != "" && r.Options.From != "" { // nothing else was asked for
		r.Cause = &ccci.Cause{Check: string(ccci.StageUpgrade), Message: why, Hint: "!testme without from= chooses a base that installs"}
		return ccci.StatusInconclusive
	}
	for _, s := range r.Stages {
		if s.Status == ccci.Unverified && withoutPicture(s) {
			l.warn("the app's page was not opened: " + s.Reason)
			continue
		}
		if s.Status == ccci.Unverified && s.Reason != NotAsked && !slices.Contains(l.unproven, s.Reason) && s.Reason != l.brokenUpgrade() {
			r.Cause = &ccci.Cause{Check: string(s.Name), Code: ccci.CodeInfra, Message: s.Reason}
			for _, c := range s.Checks {
				if c.Status == ccci.Unverified {
					r.Cause.Check = c.Name
				}
			}
			return ccci.StatusErrored
		}
	}
	// U2: one app, created once, and each dependency once. Anything else means that
	// what was observed is not what the stages say.
	if want := l.discarded + 1 + len(l.dependencies); r.Deployments != want {
		r.Cause = &ccci.Cause{Check: "run/deployments", Code: ccci.CodeInfra, Message: fmt.Sprintf("%d apps were created instead of %d", r.Deployments, want)}
		return ccci.StatusErrored
	}
	for _, f := range r.Lint {
		if f.AbraRefuses { // what works here and no operator can deploy is no pass
			r.Cause = &ccci.Cause{Check: "lint/" + ccci.CheckWord(f.Rule), Code: ccci.CodeRecipe, Message: f.At() + f.Message, Hint: "abra does not deploy the recipe until this is fixed: " + f.Hint}
			return ccci.StatusFailed
		}
	}
	if flaky := r.Flaky(); len(flaky) > 0 { // what passed only when asked again is no pass (N14)
		c := flaky[0]
		r.Cause = &ccci.Cause{Check: c.Name, Message: c.Message, Detail: c.Detail, DetailOf: c.DetailOf,
			Hint: "let the check wait for what it needs, with retry: in its step or a probe under ready: in recipe.yml, or fix the app"}
		return ccci.StatusFlaky
	}
	return ccci.StatusPassed
}

// pageCheck looks at the app's page for a picture of ours. No step of the recipe needs it, so that a
// browser that is missing, or steps that lead to the picture alone, leave it unverified and decide nothing (U16).
const pageCheck = "checks/page"

// withoutPicture reports whether a picture of ours is all that a stage lacks.
func withoutPicture(s ccci.Stage) bool {
	lacks := 0
	for _, c := range s.Checks {
		if c.Status == ccci.Unverified {
			if c.Name != pageCheck {
				return false
			}
			lacks++
		}
	}
	return lacks > 0
}

// causeOf makes a cause of a check that failed.
func causeOf(c *ccci.Check, err error) *ccci.Cause {
	cause := &ccci.Cause{Check: c.Name, Code: c.Code, Message: c.Message, Hint: hintOf(err), Detail: c.Detail, DetailOf: c.DetailOf}
	var refused *admission.RefusedError
	if errors.As(err, &refused) { // each finding has its own
		cause.Findings, cause.Hint = refused.Findings(), ""
	}
	return cause
}

// hintOf is the way out that an error names.
func hintOf(err error) string {
	if hint := ccci.HintOf(err); hint != "" {
		return hint
	}
	var failure *checks.Failure
	if errors.As(err, &failure) {
		return failure.Hint
	}
	return ""
}

// compareWithBase says what to look for where a head that does not install fails as its base did: the
// change is not likely to be the reason then.
func (l *life) compareWithBase() {
	c, bases := l.result.Cause, l.result.BrokenBases
	if len(bases) == 0 || l.base != nil || l.canonical != nil || !strings.HasPrefix(c.Check, "install/") || statusOf(c.Code) != ccci.StatusFailed {
		return
	}
	if b := l.result.LikeBase(); b != nil {
		c.Hint = strings.TrimPrefix(fmt.Sprintf("%s; look for what this commit and %s both use, such as a configuration key or an image that was removed", c.Hint, b.Version), "; ")
	}
}

// statusOf is that of a run whose first failure has a code.
func statusOf(code ccci.Code) ccci.Status {
	switch code {
	case ccci.CodeInfra, ccci.CodeConflict:
		return ccci.StatusErrored
	case ccci.CodeRefused:
		return ccci.StatusRefused
	}
	return ccci.StatusFailed
}

// late is the status of a run whose time was up. A failure before that is an answer; what was
// still waited for is none, and the cause names it.
func (l *life) late() ccci.Status {
	if l.first != nil {
		return statusOf(l.first.Code)
	}
	limit := "time"
	if l.Job.Deadline > 0 {
		limit = ccci.DurationWords(l.Job.Deadline)
	}
	end := "the run reached its limit of " + limit
	l.result.Cause = &ccci.Cause{Check: "run/ended", Message: end}
	l.nameInterrupted(l.result.Cause, end)
	return ccci.StatusInconclusive
}

// engineAhead is by how much the clock of an engine, which ends runs at the same limit, may be ahead
// of the run's: the start of the process and of what it needs, and whole seconds. It is at most a sixth
// of the limit, which no configuration has below a minute.
const engineAhead = 10 * time.Second

// cutAtLimit reports whether a check was interrupted so close to the run's limit that it was the
// engine that ended the run by it.
func (l *life) cutAtLimit() bool {
	asked, limit := l.interrupted, l.Job.Deadline
	return asked != nil && limit > 0 && asked.Started.Add(asked.Duration).Sub(l.result.Started) >= limit-min(engineAhead, limit/6)
}

// nameInterrupted makes the check that was asked when the run ended the cause, if there was one.
func (l *life) nameInterrupted(c *ccci.Cause, end string) {
	asked := l.interrupted
	if asked == nil {
		return
	}
	c.Check, c.Detail, c.DetailOf = asked.Name, asked.Detail, asked.DetailOf
	c.Message = "not finished when " + end
	words := strings.TrimSuffix(strings.TrimSuffix(asked.Message, context.DeadlineExceeded.Error()), context.Canceled.Error())
	if words = strings.TrimSuffix(words, ": "); words != "" {
		c.Message += ": " + words
	}
}

// artifact saves a file of the run, masked when it is text.
func (l *life) artifact(path, title, kind string, content []byte) {
	if kind != "screenshot" && kind != "difference" {
		content = l.Censor.Mask(content)
	}
	full := filepath.Join(l.OutDir, filepath.FromSlash(path))
	err := os.MkdirAll(filepath.Dir(full), 0o755)
	if err == nil {
		err = os.WriteFile(full, content, 0o644)
	}
	if err != nil {
		l.warn(fmt.Sprintf("saving %s: %v", path, err))
		return
	}
	saved := ccci.Artifact{Path: path, Title: title, Kind: kind, Size: int64(len(content))}
	if i := slices.IndexFunc(l.result.Artifacts, func(a ccci.Artifact) bool { return a.Path == path }); i >= 0 { // of a check that was asked again
		l.result.Artifacts[i] = saved
		return
	}
	l.result.Artifacts = append(l.result.Artifacts, saved)
}

// writeResult writes a result, which is clean already, whole or not at all.
func writeResult(path string, r *ccci.Result) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".result-")
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(text, '\n'))
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// safeName makes a file name of a service's or a step's name.
func safeName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, s)
}
