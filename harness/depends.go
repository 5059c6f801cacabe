package harness

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/repro"
)

// dependency is an app that the recipe under test needs: deployed before it in
// the same run, and removed after it (U10).
type dependency struct {
	*instance
	wish  ccci.Dependency
	stack *recipe.Stack

	clone    *checkout       // nil until it was fetched
	enrolled repro.Enrolment // as it was at the start
}

// dependencyError is trouble with a dependency. It is never the fault of the
// recipe under test, and never green.
type dependencyError struct {
	recipe string
	err    error
}

func (e *dependencyError) Error() string { return "dependency " + e.recipe + ": " + e.err.Error() }
func (e *dependencyError) Unwrap() error { return e.err }

// prepareDependencies reads how each is enrolled, and names its app: what is
// known of it before anything is deployed may stand in env files.
func (l *life) prepareDependencies() error {
	for _, wish := range l.settings.Depends {
		settings, err := l.Enrolment(wish.Recipe)
		if err != nil {
			return &dependencyError{wish.Recipe, err}
		}
		if len(settings.Depends) > 0 {
			return &dependencyError{wish.Recipe, ccci.Errorf(ccci.CodeInvalid, "it has dependencies of its own, which are not deployed").
				WithHint("depend on a recipe that needs no other")}
		}
		// Its own digits: two recipes may begin with the same letters.
		id := ccci.RunID(string(l.Job.RunID) + "/" + wish.Recipe)
		d := &dependency{instance: newInstance(l.Config, id, wish.Recipe, settings), wish: wish, enrolled: enrolmentOf(settings)}
		l.deps[wish.Recipe+".domain"] = d.domain
		l.deps[wish.Recipe+".host"] = d.stackName() + "_app"
		l.dependencies = append(l.dependencies, d)
	}
	return nil
}

// fetchDependencies lays out the release of each.
func (l *life) fetchDependencies(ctx context.Context) error {
	for _, d := range l.dependencies {
		if d.stack != nil { // as for the base before
			continue
		}
		if err := l.fetchDependency(ctx, d); err != nil {
			return &dependencyError{d.recipe, err}
		}
	}
	return nil
}

func (l *life) fetchDependency(ctx context.Context, d *dependency) error {
	clone, err := fetch(ctx, filepath.Join(l.WorkDir, "dependencies", d.recipe), d.source(l.Job.CloneURL), l.Git)
	if err != nil {
		return err
	}
	d.clone = clone
	releases, err := recipe.Releases(ctx, clone.dir)
	if err != nil {
		return err
	}
	if len(releases) == 0 {
		return ccci.Errorf(ccci.CodeNotFound, "its repository %s has no release", d.source(l.Job.CloneURL))
	}
	release := releases[0]
	if d.wish.Version != "" {
		if release, err = recipe.FindRelease(releases, d.wish.Version); err != nil {
			return err
		}
	}
	tree, err := d.open(ctx, clone, "release", release.Commit)
	if err != nil {
		return err
	}
	overlays, _ := overlaysFor(d.settings, nil)
	if d.stack, err = d.render(tree, nil, d.settings.Env, overlays, false); err != nil {
		return err
	}
	for _, w := range d.stack.Warnings {
		l.warn("dependency " + d.recipe + ": " + w.Message)
	}
	l.result.Dependencies = append(l.result.Dependencies, ccci.Dependent{Recipe: d.recipe, Version: release.Tag, Commit: release.Commit, Domain: d.domain})
	return nil
}

// source is where the repository of a dependency is: beside that of the recipe
// under test, unless the enrolment says otherwise.
func (d *dependency) source(beside string) string {
	if d.wish.Source != "" {
		return d.wish.Source
	}
	beside = strings.TrimRight(beside, "/")
	suffix := ""
	if strings.HasSuffix(beside, ".git") {
		suffix = ".git"
	}
	return beside[:strings.LastIndex(beside, "/")+1] + d.recipe + suffix
}

// deployDependencies brings each up, in the order in which they are listed, and
// sets it up for the recipe under test.
func (l *life) deployDependencies(ctx context.Context, s *ccci.Stage) bool {
	for _, d := range l.dependencies {
		d.makeRunner()
		d.runner.Vars.App = l.domain
		questions := slices.Concat(
			[]question{{"images", func(ctx context.Context) error { return l.pull(ctx, d.instance, d.stack, "dependency") }},
				{"created", func(ctx context.Context) error { return l.create(ctx, d.instance, d.stack) }},
				{"converged", func(ctx context.Context) error { return d.deploy(ctx, d.stack) }}},
			d.readiness(),
			[]question{{"setup", func(ctx context.Context) error { return l.setUp(ctx, d) }}},
		)
		for _, q := range questions {
			if !l.check(ctx, s, "install/dep-"+ccci.CheckWord(d.recipe)+"-"+q.name, func(ctx context.Context) error {
				if err := q.ask(ctx); err != nil {
					return &dependencyError{d.recipe, err}
				}
				return nil
			}) {
				return false
			}
		}
	}
	return true
}

// setUp makes in a dependency what the recipe under test needs of it, and keeps
// what it learns for templates.
func (l *life) setUp(ctx context.Context, d *dependency) error {
	for _, step := range d.wish.Setup {
		if step.Browser != nil {
			browser, err := l.startedBrowser()
			if err != nil {
				return err
			}
			d.runner.Target.Browser = browser
		}
		if err := d.runner.Run(ctx, step); err != nil {
			return inStep(step.Name, err)
		}
	}
	for name, value := range d.runner.Vars.Vars {
		l.deps[d.recipe+"."+name] = value
	}
	for key, secret := range d.secrets {
		l.deps[fmt.Sprintf("%s.secret.%s", d.recipe, key)] = secret.Reveal()
	}
	return nil
}
