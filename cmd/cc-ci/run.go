package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/blob/dirblob"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/engine/drone"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

type runCmd struct {
	Dir         string   `arg:"" optional:"" name:"recipe-dir" help:"Git checkout of the recipe."`
	Tests       string   `placeholder:"DIR" help:"Folder that holds <recipe>/recipe.yml; default: tests in the configuration, if it is there."`
	Enrolment   string   `placeholder:"NAME" help:"Enrolment whose settings, waivers and hooks apply; default: the one that checkouts in the configuration names for the directory, else the directory's name."`
	Base        string   `placeholder:"VERSION" help:"Release to upgrade from; default: the canonical, else the newest one older than the head."`
	Head        string   `default:"HEAD" placeholder:"REF" help:"Branch, tag or commit to test."`
	Uncommitted bool     `help:"Test the files as they are in the checkout, with changes and new files that are not committed; ignored files are left out."`
	Stages      []string `placeholder:"STAGE" help:"Only these stages: install, upgrade, backup, restore, checks. Install always runs."`
	Quick       bool     `help:"Only the upgrade from the recipe's canonical with its data; makes no level."`
	Out         string   `type:"path" placeholder:"DIR" help:"Folder for result.json, logs and screenshots; default: a new one in the data folder."`
	JSON        bool     `name:"json" help:"Print the result as JSON on standard output; progress goes to standard error."`
	Verbose     bool     `short:"v" help:"Print more of what goes on, as log: debug in the configuration does."`

	Job    string `hidden:"" type:"existingfile"`
	JobEnv string `hidden:"" placeholder:"NAME"` // the job is in this variable, as Drone hands it over
	Parent int    `hidden:""`
}

func (c *runCmd) Run(a *app) error {
	if c.Job != "" || c.JobEnv != "" {
		cfg, err := config.Read(a.configPath) // that of the engine, wherever this process was started
		if err != nil {
			return err
		}
		return c.engine(a, cfg)
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	return c.byHand(a, cfg)
}

// byHand tests a checkout on behalf of the person at the terminal.
func (c *runCmd) byHand(a *app, cfg config.Config) error {
	job, chosen, err := c.job(a.ctx, cfg)
	if err != nil {
		return err
	}
	tests := cfg.Tests
	if c.Tests != "" { // a name mistyped would quietly mean the generic suite
		tests = c.Tests
		if _, err := folder(tests); err != nil {
			return err
		}
	} else if within(job.CloneURL, tests) {
		chosen.left, tests = tests, ""
	}
	enrolment, err := enrol.Read(tests, job.Recipe)
	if err != nil {
		return err
	}
	if c.Quick {
		if err := startsQuick(a.ctx, cfg, job.Recipe); err != nil {
			return err
		}
	}
	return a.byHand(cfg, handRun{
		order: order{job: job, tests: tests, enrolment: enrolment}, out: c.Out, json: c.JSON, verbose: c.Verbose,
		announce: func(ctx context.Context, _ *platform, _ *order, log io.Writer) {
			if c.Uncommitted {
				fmt.Fprintf(log, "the files of %s are tested as they are, recorded as commit %s\n", job.CloneURL, job.Commit.Short())
			} else if c.Head == "HEAD" && uncommitted(ctx, job.CloneURL) {
				fmt.Fprintf(log, "%s has changes that are not committed; commit %s is tested, without them; --uncommitted tests them\n", job.CloneURL, job.Commit.Short())
			}
		},
		chosen: chosen,
	})
}

// handRun is a run for the person at the terminal.
type handRun struct {
	order
	chosen choice
	out    string // folder for what it finds; "": one in the data folder
	json   bool
	// verbose prints more lines of what goes on than the configuration asks for.
	verbose bool

	// announce says more before the run starts, on a machine that is ready, and may change the order.
	announce func(context.Context, *platform, *order, io.Writer)
	// compare ends the report; it may be nil.
	compare func(*ccci.Result, io.Writer)
}

// byHand runs it, and says how it went by the exit code.
func (a *app) byHand(cfg config.Config, h handRun) error {
	out := h.out
	if out == "" {
		out = filepath.Join(cfg.Data, byHandDir, string(h.job.RunID))
	}
	discard, err := makeOut(out)
	if err != nil {
		return err
	}
	ctx, life := a.begin()
	defer life.stop()
	screen := a.stdout
	if h.json {
		screen = a.stderr
	}
	log := newHumanLog(screen, a.colours(screen))
	h.chosen.announce(log, h.tests, h.enrolment)
	level, _ := cfg.Level() // Read has checked it
	if h.verbose {
		level = min(level, slog.LevelDebug)
	}
	logger, secrets, flush := maskingLogger(newHumanLog(screen, a.colours(screen)), level)
	defer flush()
	p, err := openPlatform(ctx, cfg, logger, platformOptions{Say: func(line string) { fmt.Fprintln(log, line) }, Secrets: secrets})
	if err != nil {
		discard()
		return orInterrupted(life, err)
	}
	defer p.Close(context.WithoutCancel(ctx))
	h.announce(ctx, p, &h.order, log)
	files, err := scratch.Make(string(h.job.RunID))
	if err != nil {
		return err
	}
	defer files.Remove()
	result, err := p.harness(ctx, h.order, files.Path, out, log)
	if err != nil {
		return err
	}
	if h.compare != nil {
		h.compare(result, log)
	}
	if h.json {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(result); err != nil {
			return fmt.Errorf("printing the result: %w", err)
		}
	} else {
		fmt.Fprintf(a.stdout, "result: %s\n", filepath.Join(out, ccci.ResultFile))
	}
	return ending(life, result)
}

// within reports whether dir exists and is in the tree at root.
func within(root, dir string) bool {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return false
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false
	}
	rel, err := filepath.Rel(root, dir)
	return err == nil && filepath.IsLocal(rel)
}

// byHandDir has, within the data folder, what runs by hand found.
const byHandDir = "by-hand"

// startsQuick refuses a quick run that has nothing to start from, before anything is made for it.
// Whether the canonical fits the head is found out in the run.
func startsQuick(ctx context.Context, cfg config.Config, recipe string) error {
	blobs, err := dirblob.OpenReader(blobsPath(cfg))
	if err != nil {
		return err
	}
	canonical, err := ccci.ReadCanonical(ctx, blobs, recipe)
	switch {
	case errors.Is(err, ccci.ErrNotFound):
		return ccci.Errorf(ccci.CodeNotFound, "there is no canonical of %s, so a quick run has nothing to start from", recipe).
			WithHint("leave --quick out to test everything; cc-ci sweep --recipe %s makes a canonical of an enrolled recipe", recipe)
	case err != nil:
		return err
	case canonical.Kept.Without != "":
		return ccci.Errorf(ccci.CodeNotFound, "the canonical of %s has no data to start from: %s", recipe, canonical.Kept.Without).
			WithHint("leave --quick out to test everything")
	}
	return nil
}

// outputRoom is what a run writes at least, in bytes: its log, its result, a picture.
const outputRoom = 1 << 20

// makeOut makes the output folder and proves that files can be written there,
// before a run spends minutes. discard takes what was made, and stayed empty, away.
func makeOut(out string) (discard func(), err error) {
	var made []string
	for dir := out; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		made = append(made, dir)
	}
	discard = func() {
		for _, dir := range made {
			_ = os.Remove(dir) // refused, as it should be, when something is in it
		}
	}
	probe := func() error {
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		f, err := os.CreateTemp(out, ".writable-")
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, outputRoom))
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err := probe(); err != nil {
		discard()
		if hint := diskHint(err); hint != "" {
			return nil, ccci.Errorf(ccci.CodeInfra, "writing to the output folder %s: %w", out, err).WithHint("%s", hint)
		}
		return nil, ccci.Errorf(ccci.CodeInvalid, "making the output folder: %w", err).WithHint("name one that you may write to with --out")
	}
	return discard, nil
}

func orInterrupted(l *life, err error) error {
	if end := l.exit(); end != nil {
		return end
	}
	return err
}

// ending maps a result to the exit code; the result itself was already told.
func ending(l *life, r *ccci.Result) error {
	if r.Status == ccci.StatusCancelled && l.exit() != nil {
		return l.exit()
	}
	return statusCode(r.Status)
}

// statusCode maps how a run ended to the exit code.
func statusCode(status ccci.Status) error {
	switch status {
	case ccci.StatusPassed:
		return nil
	case ccci.StatusFailed:
		return codeError(exitFailed)
	case ccci.StatusRefused:
		return codeError(exitRefused)
	case ccci.StatusInconclusive:
		return codeError(exitInconclusive)
	case ccci.StatusFlaky:
		return codeError(exitFlaky)
	}
	return codeError(exitInfra)
}

// job describes the wish in the form in which an engine gets it.
func (c *runCmd) job(ctx context.Context, cfg config.Config) (ccci.Job, choice, error) {
	if c.Dir == "" {
		return ccci.Job{}, choice{}, ccci.Errorf(ccci.CodeInvalid, "no recipe is named").WithHint("cc-ci run RECIPE_DIR, where RECIPE_DIR is a git checkout of a recipe")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return ccci.Job{}, choice{}, fmt.Errorf("finding %s: %w", c.Dir, err)
	}
	tree, err := recipe.Open(dir, "")
	if err != nil {
		return ccci.Job{}, choice{}, err
	}
	chosen, err := c.choose(cfg, tree)
	if err != nil {
		return ccci.Job{}, choice{}, err
	}
	commit, err := c.commit(ctx, dir)
	if err != nil {
		return ccci.Job{}, choice{}, err
	}
	if c.Base != "" {
		releases, err := recipe.Releases(ctx, dir)
		if err != nil {
			return ccci.Job{}, choice{}, err
		}
		if _, err := recipe.FindRelease(releases, c.Base); err != nil {
			return ccci.Job{}, choice{}, err
		}
	}
	stages, err := parseStages(c.Stages)
	if err != nil {
		return ccci.Job{}, choice{}, err
	}
	if c.Quick && (c.Base != "" || len(stages) > 0) {
		return ccci.Job{}, choice{}, ccci.Errorf(ccci.CodeInvalid, "a quick run chooses its base and its stages itself").WithHint("leave --base and --stages out, or --quick")
	}
	id, err := ccci.NewRunID(time.Now(), rand.Reader)
	if err != nil {
		return ccci.Job{}, choice{}, err
	}
	return ccci.Job{
		RunID: id, Recipe: chosen.name, Commit: commit, CloneURL: dir, Deadline: cfg.Engine.Deadline,
		Options: ccci.Options{Stages: stages, From: c.Base, Quick: c.Quick},
	}, chosen, nil
}

// commit is the commit under test of the checkout in dir.
func (c *runCmd) commit(ctx context.Context, dir string) (ccci.Commit, error) {
	if !c.Uncommitted {
		return revision(ctx, dir, c.Head)
	}
	if c.Head != "HEAD" {
		return "", ccci.Errorf(ccci.CodeInvalid, "--uncommitted tests the files of the checkout, --head another commit").WithHint("leave one of them out")
	}
	if _, err := revision(ctx, dir, c.Head); err != nil {
		return "", err
	}
	commit, err := gitcmd.CommitWorkingTree(ctx, dir, "uncommitted changes", time.Now())
	if err != nil {
		return "", ccci.Errorf(ccci.CodeInvalid, "recording the uncommitted changes of %s: %w", dir, err).
			WithHint("cc-ci must be able to read the files and to write to the repository's .git directory")
	}
	return ccci.Commit(commit), nil
}

func parseStages(names []string) ([]ccci.StageName, error) {
	var stages []ccci.StageName
	for _, name := range names {
		stage := ccci.StageName(strings.TrimSpace(name))
		if !slices.Contains(ccci.StageNames, stage) {
			return nil, unknownStage(name)
		}
		stages = append(stages, stage)
	}
	return stages, nil
}

func unknownStage(name string) error {
	var names []string
	for _, s := range ccci.StageNames {
		names = append(names, string(s))
	}
	return ccci.Errorf(ccci.CodeInvalid, "there is no stage %q", name).
		WithHint("%s", settings.Suggest(name, names, "the stages are "+strings.Join(names, ", ")))
}

// checkout refuses a folder that is not the root of a git checkout or
// repository: one within it would quietly stand for the whole.
func checkout(ctx context.Context, dir string) error {
	within, err := gitcmd.Run(ctx, dir, "rev-parse", "--show-prefix")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return err
	case err != nil:
		return ccci.Errorf(ccci.CodeInvalid, "%s is not a git checkout", dir).WithHint("clone the recipe, or make it one: git init && git add -A && git commit")
	case within != "":
		return ccci.Errorf(ccci.CodeInvalid, "%s is a folder within a git checkout, not one itself", dir).WithHint("copy it elsewhere and make it one: git init && git add -A && git commit")
	}
	return nil
}

// revision resolves what a person calls a commit of the checkout in dir.
func revision(ctx context.Context, dir, name string) (ccci.Commit, error) {
	if err := checkout(ctx, dir); err != nil {
		return "", err
	}
	if err := unambiguous(ctx, dir, name); err != nil {
		return "", err
	}
	commit, err := gitcmd.Run(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	if err != nil {
		return "", ccci.Errorf(ccci.CodeNotFound, "%s has no commit, branch or tag %q", dir, name).WithHint("git -C %s log --oneline --all shows what it has", dir)
	}
	return ccci.Commit(commit), nil
}

// abbreviated matches what can be the begin of a commit.
var abbreviated = regexp.MustCompile(`^[0-9a-f]{4,39}$`)

// unambiguous refuses a name that means several commits: that of a branch and of a tag, or one
// that is an abbreviated commit too. Git takes one of them with a warning at most.
func unambiguous(ctx context.Context, dir, name string) error {
	meanings := map[string]string{} // by commit
	note := func(what, revision string) {
		if commit, err := gitcmd.Run(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}"); err == nil && meanings[commit] == "" {
			meanings[commit] = fmt.Sprintf("%s (%s)", what, ccci.Commit(commit).Short())
		}
	}
	note("the branch "+name, "refs/heads/"+name)
	note("the tag "+name, "refs/tags/"+name)
	if out, err := gitcmd.Run(ctx, dir, "rev-parse", "--disambiguate="+name); err == nil && abbreviated.MatchString(name) && len(meanings) > 0 {
		for object := range strings.Lines(out) {
			note("an abbreviated commit", strings.TrimSpace(object))
		}
	}
	if len(meanings) < 2 {
		return nil
	}
	return ccci.Errorf(ccci.CodeInvalid, "%q is ambiguous: it is %s", name, strings.Join(slices.Sorted(maps.Values(meanings)), " and ")).
		WithHint("write refs/heads/%s, refs/tags/%s or the full commit", name, name)
}

// uncommitted reports whether the checkout has more than its commit. It never
// says so on doubt: it is a remark, no more.
func uncommitted(ctx context.Context, dir string) bool {
	out, err := gitcmd.Run(ctx, dir, "status", "--porcelain")
	return err == nil && out != ""
}

// told reads the job that an engine hands over, in a file or in a variable.
func (c *runCmd) told() (job ccci.Job, err error) {
	if c.JobEnv != "" {
		return drone.DecodeJob(os.Getenv(c.JobEnv))
	}
	text, err := os.ReadFile(c.Job)
	if err != nil {
		return job, fmt.Errorf("reading the job: %w", err)
	}
	if err := json.Unmarshal(text, &job); err != nil {
		return job, ccci.Errorf(ccci.CodeInvalid, "%s: reading the job: %w", c.Job, err)
	}
	return job, nil
}

// engine is the process that an engine starts: its job is a file or a variable,
// and what it found goes to the blobs, the result last. Drone does not know when a
// harness has torn down, so a harness of Drone's takes one of the machine's slots.
// An end by SIGTERM without a result says that nothing was made: a run that has begun leaves its
// result, and an error in publishing it has another exit code.
func (c *runCmd) engine(a *app, cfg config.Config) error {
	orphaned, err := dieWith(c.Parent)
	if err != nil {
		return err
	}
	job, err := c.told()
	if err != nil {
		return err
	}
	read := a.stdout
	ctx, life := a.beginServer(orphaned)
	defer life.stop()
	settings, err := enrol.Read(cfg.Tests, job.Recipe)
	if err != nil {
		return err
	}
	files, err := scratch.Make(string(job.RunID))
	if err != nil {
		return err
	}
	defer files.Remove()
	out := filepath.Join(files.Path, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		return fmt.Errorf("making an output folder: %w", err)
	}
	stdout := surviving(read, func() { life.cancel(harness.ErrOrphaned) })
	level, _ := cfg.Level() // Read has checked it
	logger, secrets, flush := maskingLogger(a.stderr, level)
	defer flush()
	options := platformOptions{Child: true, Say: func(line string) { fmt.Fprintln(stdout, line) }, Secrets: secrets}
	if c.JobEnv != "" {
		options.Slot = job.RunID
	}
	p, err := openPlatform(ctx, cfg, logger, options)
	if err != nil {
		return orInterrupted(life, err)
	}
	defer p.Close(context.WithoutCancel(ctx))
	if c.JobEnv != "" { // somebody may press "restart" in Drone
		if err := p.refuseEnded(ctx, job); err != nil {
			return err
		}
	}
	result, err := p.harness(ctx, order{job: job, tests: cfg.Tests, enrolment: settings, reviewed: p.publishReview}, files.Path, out, stdout)
	if err != nil {
		return err
	}
	if err := p.publish(context.WithoutCancel(ctx), result, out); err != nil {
		return err
	}
	return ending(life, result)
}

// order is one run for the harness, and how its recipe is enrolled.
type order struct {
	job       ccci.Job
	tests     string // folder with the enrolments
	enrolment ccci.Recipe

	reviewed func(context.Context, ccci.Result) error // nil: nothing follows the run

	repeat *harness.Repeat   // nil unless it repeats another run
	pins   map[string]string // images of that run, by what the recipe states
}

// harness is where a run by hand and one by an engine become the same. Its
// temporary files are in files, its findings in out.
func (p *platform) harness(ctx context.Context, o order, files, out string, log io.Writer) (*ccci.Result, error) {
	cfg, err := p.harnessConfig(o, files, out, log)
	if err != nil {
		return nil, err
	}
	return harness.Run(ctx, cfg)
}
