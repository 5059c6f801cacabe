package admission

import (
	"cmp"
	"errors"
	"regexp"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Admit is the one door between a checkout and a deployment: it bounds the raw
// compose files, renders the stack and judges it, in this order. It returns the
// stack that may be deployed, or an error that lists everything that is refused.
// It creates nothing.
func Admit(tree *recipe.Tree, o recipe.RenderOptions, lim Limits, p Policy) (*recipe.Stack, error) {
	env, files, err := bounded(tree, o, lim)
	if err != nil {
		return nil, hintNever(err)
	}
	o.Proxy = p.Network
	stack, err := tree.Render(o)
	if err != nil {
		// A refusal with a rule says more than a loader that does not know the key.
		refused := Error(JudgeFiles(&recipe.Stack{Name: recipe.StackName(o.Domain), Domain: o.Domain, Recipe: tree.Recipe, Dir: tree.Dir, Files: files, Env: env}, p))
		return nil, cmp.Or(refused, err)
	}
	refusals, notes := judgeStack(stack, p)
	if err := Error(refusals); err != nil {
		return nil, err
	}
	stack.Warnings = append(stack.Warnings, notes...)
	return stack, nil
}

var namedRule = regexp.MustCompile(`\(rule ([a-z-]+)\)$`)

// hintNever adds to a refusal of the raw files that no waiver lifts it.
func hintNever(err error) error {
	var e *ccci.Error
	if !errors.As(err, &e) || e.Code != ccci.CodeRefused {
		return err
	}
	m := namedRule.FindStringSubmatch(e.Message)
	if m == nil {
		return err
	}
	if !never(m[1]) {
		return err
	}
	return e.WithHint("%s", strings.TrimPrefix(e.Hint+"; "+neverHint(m[1]), "; "))
}

// Bounds returns an error when the raw compose files of a tree are too much to be rendered.
func Bounds(tree *recipe.Tree, o recipe.RenderOptions) error {
	_, _, err := bounded(tree, o, DefaultLimits())
	return err
}

func bounded(tree *recipe.Tree, o recipe.RenderOptions, lim Limits) (env recipe.Env, files []string, err error) {
	if env, err = tree.AppEnv(o); err != nil {
		return env, nil, err
	}
	if files, err = tree.ComposeFiles(env); err != nil {
		return env, nil, err
	}
	return env, files, CheckFiles(tree.Dir, files, lim, env.Lookup)
}
