package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// fetchTrees lays out head and base, and lints the head.
func (l *life) fetchTrees(ctx context.Context) error {
	if err := l.prepareDependencies(); err != nil {
		return err
	}
	clone, err := fetchJob(ctx, l.WorkDir, l.Job, l.Git)
	if err != nil {
		return err
	}
	head, err := l.open(ctx, clone, "head", l.Job.Commit)
	if err != nil {
		return err
	}
	l.result.Version = head.Version()
	base, err := l.chooseBase(ctx, clone, head)
	if err != nil {
		return err
	}
	if base != nil {
		if l.baseTree, err = l.open(ctx, clone, "base", base.Commit); err != nil {
			return fmt.Errorf("opening the upgrade base %s: %w", base.Version, err)
		}
		l.result.Base = base
	}
	releases, err := recipe.Releases(ctx, clone.dir)
	if err != nil {
		return err
	}
	l.headTree = head
	l.lint(ctx, head, l.baseTree, releases)
	return nil
}

// admitTrees renders base and head for this run's app and judges both, before
// anything of either is created (N3).
func (l *life) admitTrees(ctx context.Context) (err error) {
	if err := l.fetchDependencies(ctx); err != nil {
		return err
	}
	env := l.settings.Env
	var oldEnv []byte
	headOverlays, _ := overlaysFor(l.settings, nil)
	if l.baseTree != nil {
		base := l.result.Base
		overlays, stale := overlaysFor(l.settings, base)
		if stale != "" {
			l.warn(stale)
		}
		if l.base, err = l.render(l.baseTree, nil, env, overlays, !recipe.IsVersion(base.Version)); err != nil {
			return fmt.Errorf("the upgrade base %s: %w", base.Version, err)
		}
		// The head gets the base's env file, unchanged: that is what an operator has (U3).
		oldEnv, env = l.base.EnvFile, l.settings.UpgradeEnv
	}
	if l.head, err = l.render(l.headTree, oldEnv, env, headOverlays, true); err != nil {
		return err
	}
	for _, stack := range []*recipe.Stack{l.base, l.head} {
		if stack == nil {
			continue
		}
		l.names = append(l.names, ownNames(stack)...)
		for _, w := range stack.Warnings {
			l.warn(w.Message)
		}
	}
	return nil
}

// chooseBase finds what the upgrade starts from: what was asked for, what the
// enrolment states, the last green canonical, the newest release older than the
// head, the target branch (U4).
func (l *life) chooseBase(ctx context.Context, clone *checkout, head *recipe.Tree) (*ccci.Revision, error) {
	if l.Job.Options.Quick {
		return l.quickBase(ctx, clone, head)
	}
	if !l.Job.Options.Wants(ccci.StageUpgrade) {
		l.noBase = NotAsked
		return nil, nil
	}
	if reason := l.skipReason(ccci.StageUpgrade); reason != "" {
		l.noBase = reason
		return nil, nil
	}
	releases, err := recipe.Releases(ctx, clone.dir)
	if err != nil {
		return nil, err
	}
	if tag := l.Job.Options.From; tag != "" {
		return askedBase(releases, tag, head.Version(), l.Job.Commit)
	}
	if tag := l.settings.Upgrade.Base; tag != "" {
		release, err := recipe.FindRelease(releases, tag)
		if err != nil {
			return nil, err
		}
		if release.Commit == l.Job.Commit {
			return nil, ccci.Errorf(ccci.CodeInvalid, "release %s is the head itself: an upgrade from it proves nothing", tag).WithHint("name an older release")
		}
		return &ccci.Revision{Version: release.Tag, Commit: release.Commit, Reason: "stated by upgrade.base in recipe.yml"}, nil
	}
	if base := l.canonicalBase(ctx, clone, head); base != nil {
		return base, nil
	}
	release, reason, ok := recipe.ChooseBase(releases, head.Version(), l.Job.Commit)
	if ok {
		return &ccci.Revision{Version: release.Tag, Commit: release.Commit, Reason: reason}, nil
	}
	l.noBase = reason
	tip, err := clone.resolve(ctx, baseTip)
	if errors.Is(err, ccci.ErrNotFound) || err == nil && clone.sameTree(ctx, tip, l.Job.Commit) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &ccci.Revision{Version: l.Job.BaseRef, Commit: tip, Reason: reason + "; the tip of " + l.Job.BaseRef + " in its place"}, nil
}

// askedBase is the release that a person named. One that cannot be the base says nothing
// about the recipe: an Error with CodeConflict.
func askedBase(releases []recipe.Release, tag, headVersion string, head ccci.Commit) (*ccci.Revision, error) {
	release, err := recipe.FindRelease(releases, tag)
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeConflict, "%w", err).WithHint("%s", ccci.HintOf(err))
	}
	if why := release.Unusable(headVersion, head); why != "" {
		return nil, ccci.Errorf(ccci.CodeConflict, "no upgrade can start from release %s: %s", tag, why).WithHint("name an older release")
	}
	return &ccci.Revision{Version: release.Tag, Commit: release.Commit, Reason: "asked for"}, nil
}

// overlaysFor lists our compose files for one version, as absolute paths: for
// the upgrade base, or for the head when base is nil. A repair is merged into the
// one version that it was written for and into no other, least of all the head
// (U9); stale says so when the base is another one.
func overlaysFor(settings ccci.Recipe, base *ccci.Revision) (paths []string, stale string) {
	for _, overlay := range settings.Overlays {
		paths = append(paths, filepath.Join(settings.Dir, overlay))
	}
	repair := settings.Upgrade
	if base == nil || len(repair.Repair) == 0 {
		return paths, ""
	}
	if base.Version != repair.RepairFor {
		return paths, fmt.Sprintf("stale repair: upgrade.repair in recipe.yml is for %s and the upgrade starts from %s; it was ignored and can be taken away", repair.RepairFor, base.Version)
	}
	for _, overlay := range repair.Repair {
		paths = append(paths, filepath.Join(settings.Dir, overlay))
	}
	return paths, ""
}

// RunLabel marks every object of the daemon that is made for a run.
const RunLabel = "cc-ci.run"

// ownNames lists object names that do not follow the stack's naming.
func ownNames(stack *recipe.Stack) []string {
	var names []string
	for _, s := range stack.Secrets {
		names = append(names, s.Name)
	}
	for _, v := range stack.Config.Volumes {
		if v.Name != "" && !v.External.External {
			names = append(names, v.Name)
		}
	}
	for _, c := range stack.Config.Configs {
		if c.Name != "" && !c.External.External {
			names = append(names, c.Name)
		}
	}
	for _, n := range stack.Config.Networks {
		if n.Name != "" && !n.External.External {
			names = append(names, n.Name)
		}
	}
	return names
}

// lint judges the head. Its findings make the fifth level and no verdict.
func (l *life) lint(ctx context.Context, head, base *recipe.Tree, releases []recipe.Release) {
	findings := recipe.Lint(ctx, head, base, recipe.LintOptions{Releases: releases, Bounds: admission.Bounds})
	l.result.LintRan = true
	l.result.Lint = append(l.result.Lint, findings...)
	for _, f := range findings {
		l.sayf("lint: %s %s: %s", f.Severity, f.Rule, f.Message)
	}
}

// slug makes the last part of a check's name.
func slug(name string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteRune(r)
		default:
			dash = true
		}
	}
	if b.Len() == 0 {
		return "unnamed"
	}
	return b.String()
}
