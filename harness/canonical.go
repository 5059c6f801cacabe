package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Keeper keeps the data of an app beyond its run, and gives it to an app of a later one (U20).
type Keeper interface {
	// Keep stores every volume of the stack, whose services must be stopped, and the
	// app's secrets, under the run's own name. Trouble is an Error with CodeInfra;
	// nothing is kept then.
	Keep(ctx context.Context, stack *recipe.Stack, secrets map[string]ccci.Secret) (ccci.Kept, error)
	// Secrets returns those of the app whose data a canonical has.
	Secrets(c ccci.Canonical) (map[string]ccci.Secret, error)
	// Fill makes the volumes of a stack of which nothing is deployed yet, and puts a
	// canonical's data into them. Trouble is an Error with CodeInfra; what was
	// made is removed with the app.
	Fill(ctx context.Context, stack *recipe.Stack, c ccci.Canonical) error
}

// Quick is the reason of the stages that a quick run leaves out.
const Quick = "quick: only the upgrade from the canonical is tested"

// lookUp returns the recipe's canonical; nil when there is none. It is read once in a run, since
// the base and each image that is pulled are compared with the same one.
func (l *life) lookUp(ctx context.Context) (*ccci.Canonical, error) {
	if l.lastGood == nil {
		c, err := l.readCanonical(ctx)
		l.lastGood = &lastGood{c, err}
	}
	return l.lastGood.canonical, l.lastGood.err
}

// lastGood is what reading the canonical gave.
type lastGood struct {
	canonical *ccci.Canonical
	err       error
}

func (l *life) readCanonical(ctx context.Context) (*ccci.Canonical, error) {
	if l.Canonical == nil {
		return nil, nil
	}
	c, err := l.Canonical(ctx)
	if errors.Is(err, ccci.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// warnOfMovedTags names the images that are others than those of the same reference in the
// recipe's canonical: the tag was moved since it was tested.
func (l *life) warnOfMovedTags(ctx context.Context, images []ccci.Image) {
	c, err := l.lookUp(ctx)
	if err != nil || c == nil {
		return // the choice of the base warned of the former
	}
	before := map[string]string{}
	for _, image := range c.Images {
		before[image.Reference] = image.Digest
	}
	for _, image := range images {
		if was := before[image.Reference]; was != "" && image.Digest != "" && was != image.Digest {
			l.warn(fmt.Sprintf("the image %s has changed behind its tag since run %s: %s → %s", image.Reference, c.Run, shortDigest(was), shortDigest(image.Digest)))
		}
	}
}

// shortDigest is enough of a digest to tell two apart, as docker images prints it.
func shortDigest(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(12, len(hex))]
}

// canonicalBase is the first choice of an upgrade's base (U4); nil when there is no
// canonical or it does not fit, which is no fault of anybody.
func (l *life) canonicalBase(ctx context.Context, clone *checkout, head *recipe.Tree) *ccci.Revision {
	c, err := l.lookUp(ctx)
	if err != nil {
		l.warn(fmt.Sprintf("the upgrade does not start from the canonical: %v", err))
		return nil
	}
	if c == nil {
		return nil
	}
	if why := l.unfit(ctx, clone, *c, head, false); why != "" {
		l.sayf("the upgrade does not start from the canonical %s: %s", c.Name(), why)
		return nil
	}
	return revisionOf(*c)
}

func revisionOf(c ccci.Canonical) *ccci.Revision {
	version := c.Release
	if version == "" {
		version = c.Branch
	}
	return &ccci.Revision{Version: version, Commit: c.Commit, Reason: fmt.Sprintf("%s is the last green canonical, of run %s", c.Name(), c.Run)}
}

// quickBase is the canonical that a quick run stands on. Without one that fits there
// is nothing to run, and that says nothing about the recipe: an Error with CodeConflict.
func (l *life) quickBase(ctx context.Context, clone *checkout, head *recipe.Tree) (*ccci.Revision, error) {
	c, err := l.lookUp(ctx)
	if err != nil {
		return nil, err
	}
	why := l.skipReason(ccci.StageUpgrade)
	switch {
	case why != "":
		why = "the upgrade, which is all that a quick run tests, is skipped: " + why
	case c == nil || l.Keeper == nil:
		why = "there is no canonical of " + l.Job.Recipe
	case c.Kept.Without != "":
		why = fmt.Sprintf("the canonical %s has no data: %s", c.Name(), c.Kept.Without)
	case len(l.settings.Depends) > 0:
		why = withoutDependencies
	default:
		if why = l.unfit(ctx, clone, *c, head, true); why != "" {
			why = fmt.Sprintf("the canonical is %s: %s", c.Name(), why)
		}
	}
	if why != "" {
		return nil, ccci.Errorf(ccci.CodeConflict, "a quick run is not possible: %s", why).WithHint("!testme without --quick tests everything")
	}
	l.canonical = c
	return revisionOf(*c), nil
}

// unfit says why an upgrade from the canonical to the head would prove nothing; "" when it would.
func (l *life) unfit(ctx context.Context, clone *checkout, c ccci.Canonical, head *recipe.Tree, quick bool) string {
	if _, err := clone.resolve(ctx, string(c.Commit)); err != nil {
		return "the repository has it no longer"
	}
	return recipe.Kinship{
		Same: c.Commit == l.Job.Commit, SameTree: clone.sameTree(ctx, c.Commit, l.Job.Commit),
		Earlier: clone.contains(ctx, l.Job.Commit, c.Commit), Later: clone.contains(ctx, c.Commit, l.Job.Commit),
	}.Unfit(c.Version, head.Version(), quick)
}

// installQuick deploys the canonical with its data in place of a fresh base.
func (l *life) installQuick(ctx context.Context, s *ccci.Stage) bool {
	return l.check(ctx, s, "install/images", func(ctx context.Context) error { return l.pull(ctx, l.instance, l.base, "base") }) &&
		l.check(ctx, s, "install/secrets", func(context.Context) error { return l.remember() }) &&
		l.check(ctx, s, "install/created", func(ctx context.Context) error { return l.create(ctx, l.instance, l.base) }) &&
		l.check(ctx, s, "install/filled", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, l.settings.Timeouts.Restore)
			defer cancel()
			return l.Keeper.Fill(ctx, l.base, *l.canonical)
		}) &&
		l.check(ctx, s, "install/converged", func(ctx context.Context) error { return l.deploy(ctx, l.base) }) &&
		l.serves(ctx, s, "install") &&
		l.check(ctx, s, "install/verify", func(ctx context.Context) error {
			l.markers["A"] = l.canonical.Kept.Marker
			l.plan, _ = l.backupPlan(l.base) // the canonical was kept with a plan, so its labels can be read
			l.canaries = canariesOf(l.base, l.plan)
			return l.verify(ctx, "A", l.canaries)
		})
}

// remember takes the secrets that the canonical's data was made with. Among those that were kept
// may be some of the version before it, which it has not.
func (l *life) remember() error {
	secrets, err := l.Keeper.Secrets(*l.canonical)
	if err != nil {
		return err
	}
	l.secrets = map[string]ccci.Secret{}
	for key, secret := range secrets {
		l.Censor.Add("secret "+key, secret)
		if slices.ContainsFunc(l.base.Secrets, func(s recipe.Secret) bool { return s.Key == key }) {
			l.secrets[key], l.runner.Vars.Secrets[key] = secret, secret.Reveal()
		}
	}
	return nil
}

const withoutDependencies = "the recipe depends on other apps, whose data is not kept"

// keep stores the app's data when the run may become a canonical. It changes no
// verdict: without data there is no new canonical, and a warning says why.
func (l *life) keep(ctx context.Context) {
	red := func(s ccci.Stage) bool { return s.Status != ccci.Pass && s.Status != ccci.Skip }
	if l.Job.Trigger != ccci.TriggerSweep || l.Keeper == nil || !l.Job.Options.Whole() || ctx.Err() != nil || slices.ContainsFunc(l.result.Stages, red) {
		return
	}
	stack, why := stopped(l.current)
	switch {
	case len(l.dependencies) > 0:
		why = withoutDependencies
	case why == "" && slices.ContainsFunc(slices.Concat(l.settings.Seed, l.settings.Change), saves):
		why = "its seed saves variables for later steps, which are not kept"
	}
	if why != "" {
		l.result.Kept = &ccci.Kept{Without: why}
		return
	}
	l.sayf("keeping the app's data")
	kept, err := l.keepData(ctx, stack)
	if err != nil {
		l.warn(fmt.Sprintf("the app's data was not kept: %v", err))
		return
	}
	l.result.Kept = &kept
}

// saves reports whether a step saves variables.
func saves(step ccci.Step) bool {
	return step.HTTP != nil && len(step.HTTP.Save) > 0 || step.Exec != nil && len(step.Exec.Save) > 0
}

// keepData seeds anew, since checks may have changed the data, and stores it while
// nothing writes to it: a database that is copied as it runs may be broken.
func (l *life) keepData(ctx context.Context, stopped *recipe.Stack) (ccci.Kept, error) {
	steps := l.settings.Change
	if steps == nil {
		steps = l.settings.Seed
	}
	if err := l.seed(ctx, "A", steps); err != nil {
		return ccci.Kept{}, err
	}
	if err := l.verify(ctx, "A", l.canaries); err != nil {
		return ccci.Kept{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, max(l.settings.Timeouts.Deploy, l.current.Timeout))
	defer cancel()
	if err := l.Deployer.Deploy(bounded, stopped); err != nil {
		return ccci.Kept{}, fmt.Errorf("stopping the app: %w", err)
	}
	bounded, cancel = context.WithTimeout(ctx, l.settings.Timeouts.Backup)
	defer cancel()
	kept, err := l.Keeper.Keep(bounded, l.current, l.secrets)
	kept.Marker = l.marker("A")
	return kept, err
}

// stopped is the stack with no task in any service, or the reason why it cannot be stopped.
func stopped(stack *recipe.Stack) (*recipe.Stack, string) {
	out, config := *stack, *stack.Config
	config.Services = slices.Clone(config.Services)
	for i := range config.Services {
		s := &config.Services[i]
		if s.Deploy.Mode != "" && s.Deploy.Mode != "replicated" {
			return nil, fmt.Sprintf("service %s has mode %s and cannot be stopped", s.Name, s.Deploy.Mode)
		}
		s.Deploy.Replicas = new(uint64)
	}
	out.Config = &config
	return &out, ""
}
