package harness

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

const (
	maxReview      = 100              // rows of a review
	maxProposals   = 20               // enrolment files of one pull request that are read
	maxProposal    = 256 << 10        // bytes of one
	reviewPatience = 30 * time.Second // for the comparison as a whole
)

// review records what the pull request changes against its target branch that can run code or
// raise privilege (P2), and what is wrong with the settings that it proposes (P20). It is done
// before anything is judged or deployed, so that a run that is refused has it too; what cannot be
// compared is a note and no failure.
func (l *life) review(ctx context.Context, clone *checkout, head *recipe.Tree) {
	if l.Job.BaseRef == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reviewPatience)
	defer cancel()
	r := &ccci.Review{Against: l.Job.BaseRef, Changes: []ccci.Change{}, Proposed: []string{}, Findings: []ccci.Finding{}}
	l.result.Review = r
	if err := l.compareWithTarget(ctx, clone, head, r); err != nil {
		r.Note = l.clean(err.Error())
		l.sayf("the pull request is not compared with %s as a whole: %v", l.Job.BaseRef, err)
	}
	for _, c := range r.Changes[:min(len(r.Changes), maxReview)] { // in the log at once, so that the requester can still cancel
		l.sayf("changes against %s: %s %s", l.Job.BaseRef, c.Subject, c.What)
	}
	if more := len(r.Changes) - maxReview; more > 0 {
		r.Changes = append(r.Changes[:maxReview:maxReview], ccci.Change{Subject: "recipe", Kind: changed, What: fmt.Sprintf("%d more changes are not listed", more)})
	}
	l.showReview(ctx, *r)
}

// showReview hands on the review at once, for the comment of the run that goes on.
func (l *life) showReview(ctx context.Context, r ccci.Review) {
	if l.Reviewed == nil {
		return
	}
	r.Changes, r.Proposed, r.Findings = slices.Clone(r.Changes), slices.Clone(r.Proposed), slices.Clone(r.Findings)
	l.cleanValue(reflect.ValueOf(&r).Elem(), tighter[0]) // a comment shows less
	early := ccci.Result{Schema: l.result.Schema, Harness: l.result.Harness, RunID: l.result.RunID, Attempt: l.result.Attempt, Recipe: l.result.Recipe,
		PR: l.result.PR, Commit: l.result.Commit, Options: l.result.Options, Review: &r}
	if err := l.Reviewed(ctx, early); err != nil {
		l.sayf("what the commit changes is not shown before the end of the run: %v", err)
	}
}

func (l *life) compareWithTarget(ctx context.Context, clone *checkout, head *recipe.Tree, r *ccci.Review) error {
	tip, err := clone.resolve(ctx, baseTip)
	if err != nil {
		return err
	}
	// What the target branch got since is not the pull request's.
	if fork, err := clone.git(ctx, "merge-base", string(tip), string(head.Commit)); err == nil {
		tip = ccci.Commit(fork)
	}
	r.Commit = tip
	out, err := clone.git(ctx, "diff-tree", "-r", "-z", "--no-renames", "--name-only", string(tip), string(head.Commit))
	if err != nil {
		return err
	}
	files := strings.FieldsFunc(out, func(c rune) bool { return c == 0 })
	if len(files) == 0 {
		return nil
	}
	base, err := l.open(ctx, clone, "target", tip)
	if err != nil {
		r.Changes = append(r.Changes, programs(files)...)
		return fmt.Errorf("the target branch cannot be read: %w", err)
	}
	stacks, err := l.unjudged(base, head)
	if err == nil {
		r.Changes = append(r.Changes, gains(stacks[0], stacks[1])...)
	}
	r.Changes = append(r.Changes, programs(files)...)
	l.proposals(r, base, head, files)
	return err
}

// unjudged renders versions as they would be deployed, within admission's bounds and before its
// judgement: nothing of them is deployed.
func (l *life) unjudged(trees ...*recipe.Tree) ([]*recipe.Stack, error) {
	stacks := make([]*recipe.Stack, len(trees))
	for i, tree := range trees {
		o := recipe.RenderOptions{Domain: l.domain, ChaosVersion: tree.Commit.Short(), Proxy: l.Network}
		if err := admission.Bounds(tree, o); err != nil {
			return nil, fmt.Errorf("the recipe at %s cannot be read: %w", tree.Commit.Short(), err)
		}
		stack, err := tree.Render(o)
		if err != nil {
			return nil, fmt.Errorf("the recipe at %s cannot be read: %w", tree.Commit.Short(), err)
		}
		stacks[i] = stack
	}
	return stacks, nil
}

// otherCI begins the names of files that other programs run when they are pushed or merged.
var otherCI = []string{".drone.yml", ".woodpecker", ".gitea/workflows/", ".forgejo/workflows/", ".github/workflows/", ".gitlab-ci.yml"}

// programs lists changed files that other programs or people run; cc-ci runs none of them.
func programs(files []string) (all []ccci.Change) {
	for _, file := range files {
		what := ""
		switch {
		case file == "abra.sh":
			what = "is changed: abra runs its functions on operators' machines and in containers; cc-ci runs none"
		case underTests(file) && (strings.Contains(file, "/hooks/") || strings.HasSuffix(file, "_test.go")):
			what = "is changed: it would run on this host if the enrolment were taken over; in this run it does not"
		case slices.ContainsFunc(otherCI, func(begin string) bool { return strings.HasPrefix(file, begin) }):
			what = "is changed: another CI may run it"
		default:
			continue
		}
		all = append(all, ccci.Change{Subject: "file " + shorten(file), Kind: changed, What: what})
	}
	return all
}

func underTests(file string) bool { return strings.HasPrefix(file, "tests/") }

// proposals reads the enrolment files that the head has and the target branch has not, or has
// otherwise. None of them counts in this run: settings and waivers are the operator's.
func (l *life) proposals(r *ccci.Review, base, head *recipe.Tree, files []string) {
	for _, file := range files {
		if !underTests(file) || path.Base(file) != enrol.FileName {
			continue
		}
		if len(r.Proposed) == maxProposals {
			r.Note = cmp.Or(r.Note, fmt.Sprintf("only the first %d enrolment files were read", maxProposals))
			return
		}
		text, err := head.ReadFile(file, maxProposal)
		if err != nil { // removed, or a link
			continue
		}
		r.Proposed = append(r.Proposed, shorten(file))
		proposed, err := enrol.Parse(file, text)
		r.Findings = append(r.Findings, enrol.Mistakes(file, err)...)
		r.Findings = append(r.Findings, enrol.Mistakes(file, admission.CheckWaivers(file, proposed.Waivers, l.Now()))...)
		var had []ccci.Waiver
		if text, err := base.ReadFile(file, maxProposal); err == nil {
			if before, err := enrol.Parse(file, text); err == nil {
				had = before.Waivers
			}
		}
		r.Findings = r.Findings[:min(len(r.Findings), maxReview)]
		for _, w := range proposed.Waivers {
			w.Line = 0
			if slices.ContainsFunc(had, func(o ccci.Waiver) bool { o.Line = 0; return o == w }) {
				continue
			}
			r.Changes = append(r.Changes, ccci.Change{Subject: "waiver " + shorten(w.Rule), Kind: added,
				What: shorten(fmt.Sprintf("is asked for, for service %s until %s: %s", w.Service, w.Expires, w.Reason)), After: shorten(w.Value)})
		}
	}
}
