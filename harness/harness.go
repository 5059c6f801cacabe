package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/censor"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

// Why a run was told to end. They are causes of the context given to Run.
var (
	ErrCancelled = errors.New("the run was cancelled")
	ErrDeadline  = errors.New("the run exceeded its deadline")
	ErrOrphaned  = errors.New("the process that started the run is gone")
)

// Config is everything that one run needs.
type Config struct {
	Job      ccci.Job
	Settings ccci.Recipe
	// Enrolment reads how another recipe is enrolled, for a dependency on it.
	Enrolment func(recipe string) (ccci.Recipe, error)
	CIDomain  string // runs live at <app>.<CIDomain>
	Network   string // the proxy's network
	// Entrypoints are those of the proxy, for TCP, that are there for whichever recipe asks.
	Entrypoints []string
	WorkDir     string // for checkouts; this run's own, removed at its end
	OutDir      string // where result.json and the artifacts go; must exist
	LockDir     string // kernel locks of runs; shared by all runs of the machine
	Version     string // of cc-ci

	Git gitcmd.Limits // of what is fetched; fields that are 0 have their defaults

	Deployer Deployer
	Router   Router
	Backup   Backup
	Keeper   Keeper // nil: no data is kept, and none is there
	// Canonical reads the recipe's canonical, or returns ErrNotFound; nil: there is none.
	Canonical func(context.Context) (ccci.Canonical, error)
	// Reviewed gets the result when its review was made, before anything of the recipe is judged or
	// deployed; nil: nobody reads it so early.
	Reviewed func(context.Context, ccci.Result) error
	// Repeat is set for a run that repeats another one.
	Repeat *Repeat
	// Environment is what is kept of the machine and the configuration, for who repeats the run.
	Environment map[string]string
	// Browser starts a browser that reaches the hosts of the run and nothing else; they
	// may grow while it runs. It is called once, beside the deployment.
	Browser func(context.Context, *checks.Hosts) (checks.Browser, func(), error)

	Log    io.Writer // for people; every line passes the censor first
	Censor *censor.Censor
	Env    []string // for hooks and Go tests: PATH, HOME, DOCKER_HOST and the like
	Now    func() time.Time
	Rand   io.Reader

	reached *checks.Hosts // of every app of the run
}

// exceededError ends a run that takes more than it may: the recipe's doing.
type exceededError struct{ error }

func (e *exceededError) Unwrap() error { return e.error }

// life is one run while it lives.
type life struct {
	*instance // the recipe under test
	log       *censor.Writer
	result    *ccci.Result
	first     *ccci.Check // the first check that failed
	firstErr  error       // what it returned
	// interrupted is the check that the end of the run interrupted, with what it had seen until then.
	interrupted *ccci.Check

	dependencies []*dependency // in the order in which they are deployed

	before    Snapshot // what the daemon had before the run
	choice    choice   // what the base is chosen from
	discarded int      // apps that were created and belong to bases that were left

	clone    *checkout       // nil until it was fetched
	enrolled repro.Enrolment // as it was at the start

	names        []string // objects that do not follow a stack's naming
	headTree     *recipe.Tree
	baseTree     *recipe.Tree // nil without an upgrade base
	head, base   *recipe.Stack
	markers      map[string]string // by letter: what was seeded
	canaries     []canary
	plan         BackupPlan
	snapshot     string
	stored       map[string]int  // how much of each volume it has
	unproven     []string        // why stages could show nothing; no fault of the recipe
	noBase       string          // why there is no upgrade base
	firstRelease bool            // there is none because no release comes before the head
	lastGood     *lastGood       // see lookUp; nil until it was asked for
	canonical    *ccci.Canonical // what a quick run stands on
	logsKept     bool            // the logs of the recipe under test are among the artifacts
	pictured     []byte          // the picture before the upgrade

	background sync.WaitGroup
	browser    *browserStart
	prepared   chan error // of Backup.Prepare; nil until that was begun
}

type browserStart struct {
	done    chan struct{}
	browser checks.Browser
	stop    func()
	err     error
}

// Run tests the recipe and always tears down. The result is complete and already
// written to OutDir, whatever happened; the error is of writing it alone.
func Run(ctx context.Context, c Config) (*ccci.Result, error) {
	// The log is kept with the artifacts too: engines forget theirs.
	kept, err := os.Create(filepath.Join(c.OutDir, logName))
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "writing the run's log: %w", err).WithHint("name an output folder that can be written to")
	}
	defer kept.Close()
	l := &life{
		instance: newInstance(&c, c.Job.RunID, c.Job.Recipe, c.Settings),
		log:      c.Censor.NewWriter(io.MultiWriter(c.Log, kept)), markers: map[string]string{},
	}
	l.result = &ccci.Result{
		Schema: ccci.ResultSchema, Harness: c.Version, RunID: c.Job.RunID, Attempt: max(c.Job.Attempt, 1), Recipe: c.Job.Recipe, PR: c.Job.PR,
		Commit: c.Job.Commit, Options: c.Job.Options, Trigger: c.Job.Trigger, Domain: l.domain, Started: c.Now(),
		Lint: []ccci.Finding{}, Images: []ccci.Image{}, Changes: []ccci.Change{}, Artifacts: []ccci.Artifact{}, Warnings: []string{},
		Settings: enrol.Effective(c.Settings),
	}
	defer l.log.Flush()
	defer os.RemoveAll(c.WorkDir)
	l.enrolled = enrolmentOf(c.Settings)
	l.sayf("run %s: recipe %s at %s as %s", c.Job.RunID, c.Job.Recipe, c.Job.Commit.Short(), l.domain)

	if c.Job.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Job.Deadline, ErrDeadline)
		defer cancel()
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case err := <-c.Deployer.Exceeded():
			l.sayf("%v", err)
			end(&exceededError{err})
		case <-ctx.Done():
		}
	}()
	l.live(ctx)
	l.keepArchive(context.WithoutCancel(ctx))
	l.conclude(ctx)
	end(nil)
	<-watched
	l.result.Artifacts = append(l.result.Artifacts, ccci.Artifact{Path: logName, Title: "Log of the run", Kind: "report", Size: l.logSize(kept)})
	return l.result, l.write()
}

const logName = "run.log"

// logSize is the size of the kept log so far, in bytes.
func (l *life) logSize(kept *os.File) int64 {
	if err := l.log.Flush(); err != nil {
		return 0
	}
	info, err := kept.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// live holds the app's lock from before the first object until after the last.
func (l *life) live(ctx context.Context) {
	lock, err := LockRun(ctx, l.LockDir, l.Job.RunID)
	if err != nil {
		l.stage(ctx, ccci.StageInstall, func(ctx context.Context, s *ccci.Stage) {
			l.check(ctx, s, "install/lock", func(context.Context) error { return err })
		})
		return
	}
	defer lock.Release()

	before, err := l.Deployer.Snapshot(ctx)
	if err != nil {
		l.stage(ctx, ccci.StageInstall, func(ctx context.Context, s *ccci.Stage) {
			l.check(ctx, s, "install/daemon", func(context.Context) error { return err })
		})
		return
	}
	l.before = before
	l.startBackground(ctx)
	for _, stage := range []struct {
		name ccci.StageName
		run  func(context.Context, *ccci.Stage)
	}{
		{ccci.StageInstall, l.install},
		{ccci.StageUpgrade, l.upgrade},
		{ccci.StageBackup, l.backup},
		{ccci.StageRestore, l.restore},
		{ccci.StageChecks, l.checks},
	} {
		l.stage(ctx, stage.name, stage.run)
	}
	l.compare()
	l.noteRefused()
	logs, enough := context.WithTimeout(context.WithoutCancel(ctx), keepLogsLimit)
	l.keepLogs(logs)
	enough()
	l.keep(ctx)
	l.teardown(context.WithoutCancel(ctx))
}

// keepLogsLimit bounds the reading of logs at the end. Whoever ends a run waits minutes for its
// teardown, which comes after.
const keepLogsLimit = time.Minute

// startBackground begins what takes time and depends on nothing.
func (l *life) startBackground(ctx context.Context) {
	l.background.Go(func() { l.Deployer.Prepare(ctx) })
	l.browser = &browserStart{done: make(chan struct{})}
	l.background.Go(func() {
		defer close(l.browser.done)
		if l.Browser == nil {
			l.browser.err = errors.New("this machine has none")
			return
		}
		l.browser.browser, l.browser.stop, l.browser.err = l.Browser(ctx, l.reached)
	})
}

// prepareBackup begins, once, to make the repository. That takes seconds of a processor, so it is begun
// while swarm is waited for in the upgrade, or else as early as it is known that there is none.
func (l *life) prepareBackup(ctx context.Context) {
	if l.prepared != nil || !l.Job.Options.Wants(ccci.StageBackup) || l.skipReason(ccci.StageBackup) != "" {
		return
	}
	l.prepared = make(chan error, 1)
	l.background.Go(func() { l.prepared <- l.Backup.Prepare(ctx) })
}

// startedBrowser waits for the browser.
func (l *life) startedBrowser() (checks.Browser, error) {
	<-l.browser.done
	if l.browser.err != nil {
		return nil, fmt.Errorf("%w: %w", checks.ErrNoBrowser, l.browser.err)
	}
	return l.browser.browser, nil
}

// withBrowser hands the browser to the steps.
func (l *life) withBrowser() (err error) {
	l.runner.Target.Browser, err = l.startedBrowser()
	return err
}

// stage runs one stage unless it is not wanted, skipped, or has nothing to
// stand on, and records how it went.
func (l *life) stage(ctx context.Context, name ccci.StageName, run func(context.Context, *ccci.Stage)) {
	s := ccci.Stage{Name: name, Started: l.Now(), Checks: []ccci.Check{}}
	switch {
	case !l.Job.Options.Wants(name):
		s.Status, s.Reason = ccci.Unverified, NotAsked
	case l.blocked(name) != "":
		s.Status, s.Reason = ccci.Unverified, l.blocked(name)
	case ctx.Err() != nil:
		s.Status, s.Reason = ccci.Unverified, "not run: "+context.Cause(ctx).Error()
	case l.skipReason(name) != "":
		s.Status, s.Reason = ccci.Skip, l.skipReason(name)
	default:
		l.mark(ccci.Marker{Stage: name, Begin: true})
		run(ctx, &s)
		if name == l.last() {
			l.lastLook(ctx, &s)
		}
		if s.Status != ccci.Skip {
			s.Settle()
		}
	}
	s.Duration = l.Now().Sub(s.Started)
	l.result.Stages = append(l.result.Stages, s)
	l.mark(ccci.Marker{Stage: name, Status: s.Status, Refused: s.Refused(), Duration: s.Duration, Reason: s.Reason})
}

// last is the last stage that is asked for and not skipped.
func (l *life) last() (last ccci.StageName) {
	for _, name := range ccci.StageNames {
		if l.Job.Options.Wants(name) && l.skipReason(name) == "" {
			last = name
		}
	}
	return last
}

// lastLook ends the last stage of every run, also of one that skips itself. A stage that failed
// may have left nothing to wait for; the checks' own failures say nothing of that.
func (l *life) lastLook(ctx context.Context, s *ccci.Stage) {
	failed := slices.ContainsFunc(s.Checks, func(c ccci.Check) bool {
		return !c.Status.Worked() && !slices.Contains(l.unproven, c.Message)
	})
	if l.current == nil || failed && s.Name != ccci.StageChecks {
		return
	}
	before := s.Checks
	if l.check(ctx, s, string(s.Name)+"/still-running", l.stillRuns) {
		if s.Status == ccci.Skip {
			s.Checks = before
		}
		return
	}
	s.Status, s.Reason = "", ""
}

// NotAsked is the reason of a stage that the command left out. Such a stage is
// unverified, so that it holds the level down, and does not turn the run red.
const NotAsked = ccci.WordNotAskedFor

// blocked names the earlier stage without which this one would prove nothing.
func (l *life) blocked(name ccci.StageName) string {
	needs := map[ccci.StageName][]ccci.StageName{
		ccci.StageUpgrade: {ccci.StageInstall},
		ccci.StageBackup:  {ccci.StageInstall, ccci.StageUpgrade},
		ccci.StageRestore: {ccci.StageInstall, ccci.StageUpgrade, ccci.StageBackup},
		ccci.StageChecks:  {ccci.StageInstall, ccci.StageUpgrade, ccci.StageRestore},
	}
	for _, s := range l.result.Stages {
		if s.Reason == NotAsked || s.Reason != "" && s.Reason == l.brokenUpgrade() || s.Status.Worked() || s.Status == ccci.Skip || slices.Contains(l.unproven, s.Reason) || !slices.Contains(needs[name], s.Name) {
			continue
		}
		// The checks still say something after a backup that failed, for then
		// nothing was restored over the app.
		if name == ccci.StageChecks && s.Name == ccci.StageRestore && s.Status == ccci.Unverified {
			continue
		}
		return fmt.Sprintf("not run: %s did not pass", s.Name)
	}
	return ""
}

func (l *life) skipReason(name ccci.StageName) string {
	if l.Job.Options.Quick && (name == ccci.StageBackup || name == ccci.StageRestore) {
		return Quick
	}
	for _, skip := range l.settings.Skip {
		if skip.Stage == name {
			return skip.Reason
		}
	}
	return ""
}

// check asks one question and records the answer. It reports whether it passed.
func (l *life) check(ctx context.Context, s *ccci.Stage, name string, ask func(context.Context) error) bool {
	c, err := l.ask(ctx, name, ask)
	return l.record(s, c, err)
}

// ask asks one question once.
func (l *life) ask(ctx context.Context, name string, ask func(context.Context) error) (ccci.Check, error) {
	c := ccci.Check{Name: name, Status: ccci.Pass, Started: l.Now()}
	stop := l.sayWaiting(name)
	err := ask(ctx)
	stop()
	c.Duration = l.Now().Sub(c.Started)
	if err != nil {
		describe(&c, err)
		c.Message, c.Detail, c.DetailOf = l.clean(c.Message), l.cleanLines(c.Detail), l.clean(c.DetailOf)
		if ctx.Err() != nil { // what is torn from under a question is no answer
			if l.interrupted == nil {
				asked := c
				l.interrupted = &asked
			}
			c.Status, c.Message = ccci.Unverified, fmt.Sprintf("%s (%s)", context.Cause(ctx), c.Message)
		} else if unproven := (*unprovenError)(nil); errors.As(err, &unproven) {
			l.unproven = append(l.unproven, c.Message)
		}
	}
	return c, err
}

// record keeps the answer to a question. It reports whether the run may go on from it.
func (l *life) record(s *ccci.Stage, c ccci.Check, err error) bool {
	s.Checks = append(s.Checks, c)
	if c.Status == ccci.Fail && l.first == nil {
		l.first, l.firstErr = &c, err
	}
	l.sayCheck(c, err)
	return c.Status.Worked()
}

// patience is how often a question that takes long shows that it is still asked.
const patience = 15 * time.Second

// sayWaiting reports now and then that a question is still open.
func (l *life) sayWaiting(name string) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(patience)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case <-tick.C:
				l.sayf("...        %s: still waiting after %s", name, ccci.DurationWords(time.Duration(n)*patience))
			}
		}
	})
	return func() { close(done); ended.Wait() }
}

// describe fills in a check that did not pass.
func describe(c *ccci.Check, err error) {
	c.Status, c.Message, c.Code = ccci.Fail, err.Error(), ccci.CodeOf(err)
	var failure *checks.Failure
	var deploy *DeployError
	var unproven *unprovenError
	var refused *admission.RefusedError
	var said interface{ Lines() []string } // of a program that failed, see [Backup]
	switch {
	case errors.As(err, &refused):
		c.Message = strings.Replace(c.Message, refused.Error(), refused.Summary(), 1)
	case errors.As(err, &unproven):
		c.Status, c.Code = ccci.Unverified, ""
	case errors.Is(err, checks.ErrNoBrowser), errors.Is(err, checks.ErrNoPicture):
		c.Status, c.Code = ccci.Unverified, ccci.CodeInfra
	case errors.As(err, &failure):
		c.Code, c.Detail, c.DetailOf = ccci.CodeRecipe, failure.Detail, failure.Of
	case errors.As(err, &deploy):
		for _, task := range deploy.Tasks {
			c.Detail = append(c.Detail, fmt.Sprintf("%s: %s: %s", task.Service, task.State, task.Message))
			for _, line := range task.Log {
				c.Detail = append(c.Detail, "  "+line)
			}
		}
		c.DetailOf = tasksAndLogs(deploy.Tasks)
		if line := lastWords(deploy); line != "" {
			c.Message += "; " + line
		}
	case errors.As(err, &said):
		c.Detail, c.DetailOf = said.Lines(), "Output of the program that failed"
	}
	var dependency *dependencyError
	if errors.As(err, &dependency) {
		c.Code = ccci.CodeInfra
	}
}

// lastWords quotes the last line of the first task that said something: the daemon knows an exit code,
// the app knows why.
func lastWords(e *DeployError) string {
	for _, task := range e.Tasks {
		for _, line := range slices.Backward(task.Log) {
			if line = strings.TrimSpace(line); line != "" {
				return fmt.Sprintf("service %s said last: %s", task.Service, clip(line, 300))
			}
		}
	}
	return ""
}

// tasksAndLogs says what the lines are that a check has of failed tasks.
func tasksAndLogs(tasks []TaskFailure) string {
	switch {
	case len(tasks) == 0:
		return ""
	case len(tasks) > 1:
		return "Tasks that failed, with the last lines of their logs"
	case len(tasks[0].Log) == 0:
		return "Task of service " + tasks[0].Service
	}
	return fmt.Sprintf("Task of service %s, and the last %s of its log", tasks[0].Service, lastLines(tasks[0].Log))
}

// lastLines counts lines behind "the last" or "its last", as "20 lines".
func lastLines(lines []string) string {
	if len(lines) == 1 {
		return "line"
	}
	return fmt.Sprintf("%d lines", len(lines))
}

func (l *life) sayCheck(c ccci.Check, err error) {
	line := fmt.Sprintf("%-10s %s (%.1fs)", c.Row().Word(), c.Name, c.Duration.Seconds())
	if c.FailedTwice() {
		line += ": failed twice"
	}
	if c.Message != "" {
		line += ": " + c.Message
	}
	l.sayf("%s", line)
	if len(c.Detail) > 0 && c.DetailOf != "" {
		l.sayf("           %s:", c.DetailOf)
	}
	for _, detail := range c.Detail {
		l.sayf("           | %s", detail)
	}
	var refused *admission.RefusedError
	if errors.As(err, &refused) {
		for line := range strings.Lines(refused.Error()) {
			l.sayf("           | %s", strings.TrimRight(line, "\n"))
		}
	}
	if hint := hintOf(err); hint != "" {
		l.sayf("           hint: %s", hint)
	}
}

// sayf adds to the run's log, with the time. A text of several lines, which may be the app's, cannot look like a
// line of ours.
func (l *life) sayf(format string, args ...any) {
	text := l.clean(fmt.Sprintf(format, args...))
	fmt.Fprintln(l.log, ccci.LogTime(l.Now())+strings.ReplaceAll(text, "\n", "\n           | "))
}

// mark adds a marker to the run's log. It has to begin its line.
func (l *life) mark(m ccci.Marker) { fmt.Fprintln(l.log, l.clean(m.String())) }

func (l *life) warn(text string) {
	text = l.clean(text)
	if !slices.Contains(l.result.Warnings, text) {
		l.result.Warnings = append(l.result.Warnings, text)
		l.sayf("warning: %s", text)
	}
}

// write saves the result, masked, as the last file of the run.
func (l *life) write() error {
	l.cleanResult()
	path := filepath.Join(l.OutDir, ccci.ResultFile)
	return writeResult(path, l.result)
}

// marker is a text that nothing else in an app holds.
func (l *life) marker(letter string) string {
	if m, ok := l.markers[letter]; ok {
		return m
	}
	var b [4]byte
	if _, err := io.ReadFull(l.Rand, b[:]); err != nil {
		panic(fmt.Sprintf("reading randomness: %v", err)) // crypto/rand never fails
	}
	l.markers[letter] = fmt.Sprintf("ccci-%s-%x", strings.ToLower(letter), b)
	return l.markers[letter]
}
