package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// A base that fails by itself says nothing about the head, which may well be what repairs it. The
// run leaves such a base, starts from an older release in its place and, when there is none that
// works, installs the head afresh: the upgrade is unverified then, and no other stage is.

const (
	// mostBases bounds how many bases a run tries, the first included.
	mostBases = 3
	// A run tries no further base after a part of its deadline, or after basesTime where it
	// has none.
	basesPart = 3
	basesTime = 20 * time.Minute
)

// choice is what the bases of a run are chosen from.
type choice struct {
	clone      *checkout
	candidates []recipe.Candidate
}

// baseError is a failure of the base while both base and head are judged.
type baseError struct{ error }

func (e *baseError) Unwrap() error { return e.error }

// openBase lays out the files of a base. One whose files are no recipe is broken, and the next is tried.
func (l *life) openBase(ctx context.Context, base *ccci.Revision) error {
	for base != nil {
		tree, err := l.open(ctx, l.choice.clone, fmt.Sprintf("base-%d", len(l.result.BrokenBases)), base.Commit)
		if err == nil {
			l.baseTree, l.result.Base = tree, base
			return nil
		}
		err = fmt.Errorf("opening the upgrade base %s: %w", base.Version, err)
		if l.canonical != nil || !theRecipes(ccci.CodeOf(err)) {
			return err
		}
		c := ccci.Check{Name: "install/fetch"}
		describe(&c, err)
		l.noteBroken(base, &c, err)
		base = l.olderBase()
	}
	return nil
}

// theRecipes reports whether the files of a version are to blame for an error.
func theRecipes(code ccci.Code) bool {
	return code == ccci.CodeRecipe || code == ccci.CodeInvalid || code == ccci.CodeRefused
}

// baseFailed reports whether the installation ended with a failure of the base alone.
func (l *life) baseFailed(ctx context.Context) bool {
	var of *baseError
	return l.result.Base != nil && l.first != nil && ctx.Err() == nil && theRecipes(l.first.Code) &&
		(l.head != nil || errors.As(l.firstErr, &of))
}

// leaveBase removes the base and opens the one that the installation starts from in its place, if
// there is one. It reports whether the installation may go on.
func (l *life) leaveBase(ctx context.Context, s *ccci.Stage) bool {
	version := l.result.Base.Version
	l.first, l.firstErr = nil, nil
	logs, enough := context.WithTimeout(ctx, keepLogsLimit)
	l.keepLogsOf(logs, l.instance, "logs/base-"+safeName(version)+"/", "Log of the base "+version+", ")
	enough()
	if !l.check(ctx, s, "install/base-removed", l.removeBase) {
		return false
	}
	l.forgetBase()
	return l.check(ctx, s, "install/next-base", func(ctx context.Context) error { return l.openBase(ctx, l.olderBase()) })
}

// noteBroken keeps why a base failed.
func (l *life) noteBroken(base *ccci.Revision, c *ccci.Check, err error) {
	broken := ccci.BrokenBase{Version: base.Version, Commit: base.Commit, What: l.whichBase(base), Cause: *causeOf(c, err)}
	l.result.BrokenBases = append(l.result.BrokenBases, broken)
	l.sayf("install of %s, %s, failed: %s", broken.Version, broken.What, broken.Cause.Message)
}

// whichBase says what a base is to the people of the recipe.
func (l *life) whichBase(base *ccci.Revision) string {
	switch {
	case l.canonical != nil:
		return "the last green canonical"
	case base.Version == l.Job.Options.From:
		return "the base that was asked for"
	case base.Version == l.settings.Upgrade.Base:
		return "the base that recipe.yml states"
	case !recipe.IsVersion(base.Version):
		return "the tip of the branch"
	}
	if last, _, ok := recipe.ChooseBase(l.choice.candidates, l.result.Version); ok && last.Tag == base.Version {
		return "the last release"
	}
	return "an older release"
}

// olderBase is the next release to start from; nil when there is none, when another base was
// asked for, or when the bases had their tries and their time.
func (l *life) olderBase() *ccci.Revision {
	limit := basesTime
	if l.Job.Deadline > 0 {
		limit = l.Job.Deadline / basesPart
	}
	tried := l.result.BrokenBases
	if len(tried) >= mostBases || l.Now().Sub(l.result.Started) > limit || l.Job.Options.From != "" || l.settings.Upgrade.Base != "" {
		return nil
	}
	last := tried[len(tried)-1].Version
	older := slices.DeleteFunc(slices.Clone(l.choice.candidates), func(c recipe.Candidate) bool {
		return slices.ContainsFunc(tried, func(b ccci.BrokenBase) bool { return b.Version == c.Tag || b.Commit == c.Commit }) ||
			recipe.IsVersion(last) && !recipe.Older(c.Tag, last)
	})
	release, _, ok := recipe.ChooseBase(older, l.result.Version)
	if !ok {
		return nil
	}
	return &ccci.Revision{Version: release.Tag, Commit: release.Commit, Reason: fmt.Sprintf("%s is the newest release before %s, which does not install", release.Tag, last)}
}

// removeBase removes the apps of the run and proves that nothing of them is left.
func (l *life) removeBase(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, teardownLimit)
	defer cancel()
	removed := map[string]int{}
	var problems []error
	stacks := []string{l.stackName()}
	l.removeApp(ctx, App{StackName: l.stackName(), Names: l.newNames()}, removed, &problems)
	for _, d := range slices.Backward(l.dependencies) {
		stacks = append(stacks, d.stackName())
		l.removeApp(ctx, App{StackName: d.stackName()}, removed, &problems)
	}
	if err := errors.Join(problems...); err != nil {
		return infra("removing the base: %w", err)
	}
	after, err := l.Deployer.Snapshot(ctx)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(after, func(o Object) bool {
		return slices.ContainsFunc(l.before, func(b Object) bool { return b.Kind == o.Kind && b.ID == o.ID }) ||
			!ofStacks(o, stacks) && !slices.Contains(l.names, o.Name)
	})
	if len(left) > 0 {
		var names []string
		for _, o := range left {
			names = append(names, o.Kind+" "+o.Name)
		}
		return ccci.Errorf(ccci.CodeRecipe, "the base left behind %s", someOf(names, 6))
	}
	return nil
}

// forgetBase brings the run back to before its first deployment.
func (l *life) forgetBase() {
	l.baseTree, l.base, l.head, l.result.Base = nil, nil, nil, nil
	l.current, l.secrets, l.canaries = nil, nil, nil
	for _, d := range l.dependencies {
		d.current, d.secrets = nil, nil
	}
	l.discarded = l.result.Deployments
	l.result.Images = []ccci.Image{}
}

// brokenUpgrade is why the upgrade is unverified after every base failed by itself; "" otherwise.
func (l *life) brokenUpgrade() string {
	if len(l.result.BrokenBases) == 0 || l.result.Base != nil {
		return ""
	}
	var names []string
	for _, b := range l.result.BrokenBases {
		names = append(names, b.Version)
	}
	if len(names) == 1 {
		return "the base is broken: " + names[0] + " does not install"
	}
	return "the bases are broken: " + strings.Join(names, ", ") + " do not install"
}
