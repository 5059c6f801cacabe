package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
)

type reproCmd struct {
	Name     string   `arg:"" optional:"" name:"run" help:"Run in this machine's data folder, https address of a run's page, or a result.json with repro.tar beside it."`
	Checkout []string `placeholder:"DIR" help:"Git checkout of the recipe, in place of what the archive has; as RECIPE=DIR that of a dependency."`
	Tests    string   `placeholder:"DIR" help:"Folder that holds <recipe>/recipe.yml, in place of the enrolments in the archive."`
	Trust    bool     `name:"trust-enrolment" help:"Run hooks and Go tests of an archive that is not this machine's own, and let its waivers hold. Read them first."`
	Out      string   `type:"path" placeholder:"DIR" help:"Folder for result.json, logs and screenshots; default: a new one in the data folder."`
	JSON     bool     `name:"json" help:"Print the result as JSON on standard output; all else goes to standard error."`
	Verbose  bool     `short:"v" help:"Print more of what goes on, as log: debug in the configuration does."`
}

func (reproCmd) Help() string {
	return "Takes the commit, the upgrade base, the images, the enrolment and the options of the run, names what differs from then, and says at the end whether " +
		"the verdict is the same. The exit code is that of the new run, as of cc-ci run."
}

func (c *reproCmd) Run(a *app) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if c.Name == "" {
		return ccci.Errorf(ccci.CodeInvalid, "no run is named").WithHint("cc-ci repro RUN, where RUN is a run of this machine, the address of a run's page, or a result.json")
	}
	past, err := findRun(cfg, c.Name)
	if err != nil {
		return err
	}
	before, err := past.result(a.ctx)
	if err != nil {
		return err
	}
	if before.Options.Quick {
		return ccci.Errorf(ccci.CodeConflict, "run %s cannot be repeated: a quick run starts from the canonical's data, which is not kept with a run", before.RunID).
			WithHint("cc-ci run --quick on the machine that has the canonical")
	}
	files, err := scratch.Make("repro")
	if err != nil {
		return err
	}
	defer files.Remove()
	r := repetition{cmd: c, cfg: cfg, past: past, before: before, dir: files.Path}
	h, err := r.prepare(a.ctx)
	if err != nil {
		return err
	}
	return a.byHand(cfg, h)
}

// repetition is a run that repeats another one.
type repetition struct {
	cmd    *reproCmd
	cfg    config.Config
	past   pastRun
	before *ccci.Result
	dir    string         // for what is laid out
	kept   *repro.Archive // nil when the run has none

	deviations []string
}

func (r *repetition) deviate(format string, args ...any) {
	line := plain.Line(fmt.Sprintf(format, args...))
	if !slices.Contains(r.deviations, line) {
		r.deviations = append(r.deviations, line)
	}
}

// prepare makes everything ready that needs no Docker.
func (r *repetition) prepare(ctx context.Context) (handRun, error) {
	if err := r.openArchive(ctx); err != nil {
		return handRun{}, err
	}
	checkouts, err := r.checkouts()
	if err != nil {
		return handRun{}, err
	}
	tests, enrolment, err := r.enrolment()
	if err != nil {
		return handRun{}, err
	}
	repository, err := r.repository(ctx, checkouts)
	if err != nil {
		return handRun{}, err
	}
	if err := r.dependencies(ctx, checkouts, &enrolment); err != nil {
		return handRun{}, err
	}
	id, err := ccci.NewRunID(time.Now(), rand.Reader)
	if err != nil {
		return handRun{}, err
	}
	return handRun{
		order: order{
			job: ccci.Job{
				RunID: id, Recipe: r.before.Recipe, Commit: r.before.Commit, CloneURL: repository,
				Deadline: r.cfg.Engine.Deadline, Options: r.before.Options,
			},
			tests: tests, enrolment: enrolment, repeat: r.base(),
		},
		chosen: choice{name: r.before.Recipe, by: cmp.Or(r.cmd.Tests, "the run"), typ: r.before.Recipe},
		out:    r.cmd.Out, json: r.cmd.JSON, verbose: r.cmd.Verbose, announce: r.announce, compare: r.compare,
	}, nil
}

func (r *repetition) openArchive(ctx context.Context) error {
	dir := filepath.Join(r.dir, "archive")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("laying out the archive: %w", err)
	}
	kept, err := r.past.archive(ctx, r.before, dir)
	if errors.Is(err, ccci.ErrNotFound) {
		if len(r.cmd.Checkout) == 0 || r.cmd.Tests == "" {
			return ccci.Errorf(ccci.CodeNotFound, "%s has no %s: %w", r.past.at, ccci.ReproArchive, err).
				WithHint("put it beside the result, or name a checkout of the recipe and the enrolments: --checkout DIR --tests DIR")
		}
		r.deviate("the run has no %s: its environment is not known", ccci.ReproArchive)
		return nil
	}
	r.kept = kept
	return err
}

// checkouts are those that were named, by recipe.
func (r *repetition) checkouts() (map[string]string, error) {
	dirs := map[string]string{}
	for _, text := range r.cmd.Checkout {
		recipe, dir, ok := strings.Cut(text, "=")
		if !ok || !enrol.ValidName(recipe) {
			recipe, dir = r.before.Recipe, text
		}
		dir, err := folder(dir)
		if err != nil {
			return nil, err
		}
		dirs[recipe] = dir
	}
	return dirs, nil
}

// enrolment is how the recipe was enrolled, and the folder with that. Programs and waivers of
// a foreign archive would hold on this machine, so a person has to allow them.
func (r *repetition) enrolment() (tests string, _ ccci.Recipe, err error) {
	if r.cmd.Tests != "" {
		if tests, err = folder(r.cmd.Tests); err != nil {
			return "", ccci.Recipe{}, err
		}
		r.deviate("the enrolment is that of %s, and not the one of then", tests)
		e, err := enrol.Read(tests, r.before.Recipe)
		return tests, e, err
	}
	if r.kept == nil {
		return "", ccci.Recipe{}, ccci.Errorf(ccci.CodeNotFound, "the enrolment of then is not known").WithHint("name the folder with the enrolments: --tests DIR")
	}
	tests = r.kept.Tests()
	read := func(recipe string) (ccci.Recipe, error) {
		if why := r.kept.Lacks("tests/" + recipe); why != "" {
			return ccci.Recipe{}, ccci.Errorf(ccci.CodeNotFound, "the enrolment of %s is not whole: %s", recipe, why).
				WithHint("name the folder with the enrolments: --tests DIR")
		}
		return enrol.Read(tests, recipe)
	}
	e, err := read(r.before.Recipe)
	if err != nil {
		return "", ccci.Recipe{}, err
	}
	powers := powersOf(e)
	for _, d := range e.Depends {
		other, err := read(d.Recipe)
		if err != nil {
			return "", ccci.Recipe{}, err
		}
		powers = append(powers, waiversOf(other)...)
	}
	if len(powers) > 0 && !r.past.ours && !r.cmd.Trust {
		return "", ccci.Recipe{}, ccci.Errorf(ccci.CodeRefused, "the enrolment of %s is not this machine's own and has what would act on it: %s", r.past.at, plain.Line(strings.Join(powers, "; "))).
			WithHint("read tests/ in its %s (tar -xf), then repeat this with --trust-enrolment; or use enrolments of your own with --tests DIR", ccci.ReproArchive)
	}
	for _, what := range r.kept.Replaced {
		r.deviate("the archive has a dummy in place of the value of %s", what)
	}
	return tests, e, nil
}

// powersOf lists what an enrolment does on the machine itself: programs, and what it waives.
func powersOf(e ccci.Recipe) []string {
	var all []string
	for _, name := range programsOf(e.Dir) {
		all = append(all, "program "+name)
	}
	return append(all, waiversOf(e)...)
}

func waiversOf(e ccci.Recipe) []string {
	var all []string
	for _, w := range e.Waivers {
		all = append(all, fmt.Sprintf("waiver of %s for service %s of %s", w.Rule, w.Service, e.Name))
	}
	return all
}

// repository is where the commit under test is fetched from.
func (r *repetition) repository(ctx context.Context, checkouts map[string]string) (string, error) {
	if dir, ok := checkouts[r.before.Recipe]; ok {
		commits := []ccci.Commit{r.before.Commit}
		if base := r.before.FirstBase(); base != nil {
			commits = append(commits, base.Commit)
		}
		for _, commit := range commits {
			if _, err := revision(ctx, dir, string(commit)); err != nil {
				return "", err
			}
		}
		r.deviate("the recipe is read from %s, whose tags may be others than then", dir)
		return dir, nil
	}
	if r.kept == nil {
		return "", ccci.Errorf(ccci.CodeNotFound, "the run has no %s with the recipe", ccci.ReproArchive).WithHint("name a checkout of %s that has commit %s: --checkout DIR", r.before.Recipe, r.before.Commit)
	}
	if why := r.kept.Lacks("recipe.bundle"); why != "" {
		return "", ccci.Errorf(ccci.CodeNotFound, "the recipe is not in the archive: %s", why).WithHint("name a checkout that has commit %s: --checkout DIR", r.before.Commit)
	}
	dir := r.repositoryDir(r.before.Recipe)
	return dir, r.kept.Repository(ctx, dir, gitLimits(r.cfg.Git))
}

func (r *repetition) repositoryDir(recipe string) string {
	return filepath.Join(r.dir, "repositories", recipe)
}

// dependencies makes the enrolment take the releases of then. It never takes a repository that
// the archive names.
func (r *repetition) dependencies(ctx context.Context, checkouts map[string]string, e *ccci.Recipe) error {
	e.Depends = slices.Clone(e.Depends)
	for i := range e.Depends {
		d := &e.Depends[i]
		dir, named := checkouts[d.Recipe]
		if !named {
			dir = r.repositoryDir(d.Recipe)
		}
		d.Source = dir
		at := slices.IndexFunc(r.before.Dependencies, func(then ccci.Dependent) bool { return then.Recipe == d.Recipe })
		if at < 0 {
			continue // the run ended before it was fetched
		}
		d.Version = r.before.Dependencies[at].Version
		if named {
			r.deviate("dependency %s is read from %s", d.Recipe, dir)
			continue
		}
		err := error(ccci.ErrNotFound)
		if r.kept != nil {
			err = r.kept.Dependency(ctx, d.Recipe, dir, gitLimits(r.cfg.Git))
		}
		if errors.Is(err, ccci.ErrNotFound) {
			return ccci.Errorf(ccci.CodeNotFound, "dependency %s is not in the archive", d.Recipe).
				WithHint("name a checkout that has release %s: --checkout %s=DIR", d.Version, d.Recipe)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// base is what the upgrade was tried from first, or why from nothing. A run that did not choose
// leaves the choice to the rule, which ends as it did then; so does one that leaves a broken base.
func (r *repetition) base() *harness.Repeat {
	base, upgrade := r.before.FirstBase(), r.before.Stage(ccci.StageUpgrade)
	switch {
	case base != nil:
		first := *base
		first.Reason = cmp.Or(first.Reason, "it was the first choice of run "+string(r.before.RunID))
		return &harness.Repeat{Base: &first}
	case upgrade.Status == ccci.Skip:
		return &harness.Repeat{NoBase: upgrade.Reason}
	}
	return nil
}

// announce says what is repeated and where the machine differs, before anything is started.
func (r *repetition) announce(ctx context.Context, p *platform, o *order, w io.Writer) {
	if then := r.before.Harness; then != version() {
		r.deviate("cc-ci: %s then, %s now", then, version())
	}
	if r.kept != nil {
		for _, line := range repro.Environment(r.kept.Environment, p.environment()) {
			r.deviate("%s", line)
		}
	}
	for _, waiver := range o.enrolment.Waivers {
		if waiver.Expired(time.Now()) && !waiver.Expired(r.before.Started) {
			r.deviate("the waiver of %s for service %s expired on %s and no longer holds", waiver.Rule, waiver.Service, waiver.Expires)
		}
	}
	pins, deviations := p.pin(ctx, r.before.Images)
	for _, line := range deviations {
		r.deviate("%s", line)
	}
	o.pins = pins
	fmt.Fprintf(w, "repeating run %s of %s: %s at %s, %s\n", r.before.RunID, plain.Line(r.past.at), r.before.Recipe, r.before.Commit.Short(), plain.Line(repro.Verdict(r.before)))
	r.tell(w)
}

func (r *repetition) tell(w io.Writer) {
	for _, line := range r.deviations {
		fmt.Fprintf(w, "deviation: %s\n", line)
	}
	if len(r.deviations) == 0 {
		fmt.Fprintln(w, "deviation: none is known")
	}
}

// compare says whether the run came out as then.
func (r *repetition) compare(after *ccci.Result, w io.Writer) {
	for _, line := range append(repro.Images(r.before, after), repro.Settings(r.before, after)...) {
		r.deviate("%s", line)
	}
	r.tell(w)
	differ := repro.Differences(r.before, after)
	switch {
	case !repro.Same(r.before, after):
		fmt.Fprintf(w, "another verdict: %s; it was %s\n", repro.Verdict(after), plain.Line(repro.Verdict(r.before)))
	case len(differ) > 0:
		fmt.Fprintf(w, "same verdict: %s, but some checks differ\n", repro.Verdict(after))
	default:
		fmt.Fprintf(w, "same verdict: %s\n", repro.Verdict(after))
	}
	for _, line := range differ {
		fmt.Fprintf(w, "  %s\n", plain.Line(line))
	}
}
