package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

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
	l.clone = clone
	head, err := l.open(ctx, clone, "head", l.Job.Commit)
	if err != nil {
		return err
	}
	l.result.Version = head.Version()
	l.review(ctx, clone, head)
	releases, err := recipe.Releases(ctx, clone.dir)
	if err != nil {
		return err
	}
	candidates, err := recipe.Candidates(ctx, clone.dir, releases, l.Job.Commit, head.Version())
	if err != nil {
		return err
	}
	base, err := l.chooseBase(ctx, clone, head, candidates)
	if err != nil {
		return err
	}
	l.headTree, l.choice = head, choice{clone, candidates}
	if err := l.openBase(ctx, base); err != nil {
		return err
	}
	options := recipe.LintOptions{Releases: releases, Bounds: admission.Bounds}
	if r, ok := recipe.Unbumped(candidates, head.Version()); ok {
		options.Unbumped = &r
	}
	l.lint(ctx, head, l.baseTree, options)
	return nil
}

// admitTrees renders base and head for this run's app and judges both, before
// anything of either is created (N3).
func (l *life) admitTrees(ctx context.Context) (err error) {
	l.base, l.head = nil, nil
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
			return &baseError{fmt.Errorf("the upgrade base %s: %w", base.Version, err)}
		}
		// The head gets the base's env file, unchanged: that is what an operator has (U3).
		oldEnv, env = l.base.EnvFile, l.settings.UpgradeEnv
	}
	if l.head, err = l.render(l.headTree, oldEnv, env, headOverlays, true); err != nil {
		return err
	}
	if !l.web && len(l.settings.Ready) == 0 {
		l.warn(withoutWeb)
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
func (l *life) chooseBase(ctx context.Context, clone *checkout, head *recipe.Tree, candidates []recipe.Candidate) (*ccci.Revision, error) {
	if l.Repeat != nil {
		l.noBase = l.Repeat.NoBase
		return l.Repeat.Base, nil
	}
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
	if tag := l.Job.Options.From; tag != "" {
		base, err := namedBase(candidates, tag, "asked for")
		if err != nil { // says nothing about the recipe
			return nil, ccci.Errorf(ccci.CodeConflict, "%w", err).WithHint("%s", ccci.HintOf(err))
		}
		return base, nil
	}
	if tag := l.settings.Upgrade.Base; tag != "" {
		return namedBase(candidates, tag, "stated by upgrade.base in recipe.yml")
	}
	if base := l.canonicalBase(ctx, clone, head); base != nil {
		return base, nil
	}
	release, reason, ok := recipe.ChooseBase(candidates, head.Version())
	if ok {
		return &ccci.Revision{Version: release.Tag, Commit: release.Commit, Reason: reason}, nil
	}
	l.noBase, l.firstRelease = reason, recipe.First(candidates)
	return l.tipBase(ctx, clone, head, reason)
}

// tipBase is the last choice of a base: the tip of the target branch, unless that is the head
// already, holds it, or is of a newer version. reason is why no release is the base.
func (l *life) tipBase(ctx context.Context, clone *checkout, head *recipe.Tree, reason string) (*ccci.Revision, error) {
	tip, err := clone.resolve(ctx, baseTip)
	if errors.Is(err, ccci.ErrNotFound) || err == nil && clone.sameTree(ctx, tip, l.Job.Commit) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if clone.contains(ctx, tip, l.Job.Commit) {
		l.noBase = fmt.Sprintf("%s; %s is built upon the head", reason, l.Job.BaseRef)
		return nil, nil
	}
	tree, err := l.open(ctx, clone, "tip", tip)
	if err != nil {
		return nil, fmt.Errorf("opening the tip of %s: %w", l.Job.BaseRef, err)
	}
	if version := tree.Version(); recipe.IsVersion(version) && recipe.IsVersion(head.Version()) && recipe.Older(head.Version(), version) {
		l.noBase = fmt.Sprintf("%s; the version %s of %s is newer than the head's %s", reason, version, l.Job.BaseRef, head.Version())
		return nil, nil
	}
	return &ccci.Revision{Version: l.Job.BaseRef, Commit: tip, Reason: reason + "; the tip of " + l.Job.BaseRef + " in its place"}, nil
}

// namedBase is the release that a person or the enrolment named.
func namedBase(candidates []recipe.Candidate, tag, reason string) (*ccci.Revision, error) {
	var releases []recipe.Release
	for _, c := range candidates {
		if c.Tag == tag && c.Why != "" {
			return nil, ccci.Errorf(ccci.CodeInvalid, "no upgrade can start from release %s: %s", tag, c.Why).WithHint("name an older release")
		}
		releases = append(releases, c.Release)
	}
	release, err := recipe.FindRelease(releases, tag)
	if err != nil {
		return nil, err
	}
	return &ccci.Revision{Version: release.Tag, Commit: release.Commit, Reason: reason}, nil
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

// lint judges the head. Its findings make the fifth level, and what abra refuses makes the verdict.
func (l *life) lint(ctx context.Context, head, base *recipe.Tree, options recipe.LintOptions) {
	findings := recipe.Lint(ctx, head, base, options)
	l.result.LintRan = true
	l.result.Lint = append(l.result.Lint, findings...)
	for _, f := range findings {
		l.sayf("lint: %s %s: %s", f.Severity, f.Rule, f.Message)
	}
}
