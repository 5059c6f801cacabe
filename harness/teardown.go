package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// teardownLimit bounds the teardown, which runs whatever became of the run.
const teardownLimit = 5 * time.Minute

// teardown removes everything the run made and proves it (A19, N6).
func (l *life) teardown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, teardownLimit)
	defer cancel()
	started := l.Now()
	l.sayf("teardown of %s", l.stackName())
	proof := &ccci.Teardown{Removed: map[string]int{}}
	l.result.Teardown = proof
	var problems []error
	note := func(what string, err error) { problems = noted(problems, what, err) }
	// What runs beside the stages first comes to its end, so that it cannot
	// make anything after the last look.
	l.background.Wait()
	if l.browser != nil && l.browser.stop != nil {
		l.browser.stop()
	}
	note("closing the backup", l.Backup.Close(ctx))
	remove := func(app App) { l.removeApp(ctx, app, proof.Removed, &problems) }
	stacks := []string{l.stackName()}
	if len(l.dependencies) > 0 {
		// What needs another goes first; by its stack alone, for the run's label is on all.
		remove(App{StackName: l.stackName()})
		for _, d := range slices.Backward(l.dependencies) {
			stacks = append(stacks, d.stackName())
			remove(App{StackName: d.stackName()})
		}
	}
	remove(App{RunID: l.Job.RunID, StackName: l.stackName(), Names: l.newNames()})
	after, err := l.Deployer.Snapshot(ctx)
	note("listing what is left", err)
	if err == nil {
		var unclear []string
		proof.Leftovers, unclear = Leftovers(l.before, after, l.Job.RunID, stacks...)
		if len(unclear) > 0 {
			l.warn("appeared on the daemon during the run, and bears neither its label nor its name: " + someOf(unclear, 6))
		}
	}
	var texts []string
	for _, err := range problems {
		texts = append(texts, err.Error())
	}
	proof.Error = strings.Join(texts, "; ")
	proof.Clean = len(proof.Leftovers) == 0 && proof.Error == ""
	proof.Duration = l.Now().Sub(started)

	c := ccci.Check{Name: "teardown/clean", Status: ccci.Pass, Started: started, Duration: proof.Duration}
	switch {
	case proof.Error != "":
		c.Status, c.Code, c.Message = ccci.Fail, ccci.CodeInfra, proof.Error
	case !proof.Clean:
		c.Status, c.Code, c.Message = ccci.Fail, ccci.CodeRecipe, "the run left behind "+strings.Join(proof.Leftovers, ", ")
	}
	if c.Status == ccci.Fail && l.first == nil {
		l.first, l.firstErr = &c, nil
	}
	l.sayCheck(c, nil)
}

// newNames are the names that the run's stacks declared, without those of objects that the daemon had before the
// run. Such an object is the operator's, as a volume that other apps share: that a recipe declares its name
// makes it no app's own. Its kind does not matter, since what the run itself made bears its label and needs no name.
func (l *life) newNames() []string {
	return slices.DeleteFunc(slices.Clone(l.names), func(name string) bool {
		return slices.ContainsFunc(l.before, func(o Object) bool { return o.Name == name })
	})
}

// removeApp removes the routes and the objects of an app, and counts them.
func (l *life) removeApp(ctx context.Context, app App, removed map[string]int, problems *[]error) {
	if app.StackName != "" {
		*problems = noted(*problems, "removing the routes", l.Router.Unroute(ctx, app.StackName))
	}
	gone, err := l.Deployer.Remove(ctx, app)
	*problems = noted(*problems, "removing the app", err)
	for kind, n := range gone {
		removed[kind] += n
	}
}

// noted adds an error, if it is one, with what was done.
func noted(problems []error, what string, err error) []error {
	if err == nil {
		return problems
	}
	return append(problems, fmt.Errorf("%s: %w", what, err))
}

// ofStacks reports whether an object belongs to one of the stacks, by its label or its name.
func ofStacks(o Object, stacks []string) bool {
	return slices.ContainsFunc(stacks, func(stack string) bool {
		return o.Stack == stack || strings.HasPrefix(o.Name, stack+"_")
	})
}

// Leftovers compares the daemon after a run with what it was before, as "kind name".
// Left is what the run left: what bears its label, its identifier in the name, or the name
// of one of its stacks. Unclear is what appeared meanwhile and bears no label of anybody's:
// another program on this machine may have made it. What belongs to other runs
// and other stacks, which live beside this one, is in neither.
func Leftovers(before, after Snapshot, run ccci.RunID, stacks ...string) (left, unclear []string) {
	had := map[string]bool{}
	for _, o := range before {
		had[o.Kind+" "+o.ID] = true
	}
	for _, o := range after {
		ours := o.Run == string(run) || ofStacks(o, stacks)
		foreign := o.Run != "" || o.Stack != ""
		switch {
		case had[o.Kind+" "+o.ID]:
		case ours || !foreign && strings.Contains(o.Name, string(run)):
			left = append(left, o.Kind+" "+o.Name)
		case !foreign:
			unclear = append(unclear, o.Kind+" "+o.Name)
		}
	}
	slices.Sort(left)
	slices.Sort(unclear)
	return left, unclear
}

// someOf joins at most n names.
func someOf(names []string, n int) string {
	if len(names) > n {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
	}
	return strings.Join(names, ", ")
}
