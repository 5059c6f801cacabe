package admission

import (
	"cmp"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Admit is the one door between a checkout and a deployment: it bounds the raw
// compose files, renders the stack and judges it, in this order. It returns the
// stack that may be deployed, or an error that lists everything that is refused.
// It creates nothing.
func Admit(tree *recipe.Tree, o recipe.RenderOptions, lim Limits, p Policy) (*recipe.Stack, error) {
	env, err := tree.AppEnv(o)
	if err != nil {
		return nil, err
	}
	files, err := tree.ComposeFiles(env)
	if err != nil {
		return nil, err
	}
	if err := CheckFiles(tree.Dir, files, lim, env.Lookup); err != nil {
		return nil, err
	}
	stack, err := tree.Render(o)
	if err != nil {
		// A refusal with a rule says more than a loader that does not know the key.
		refused := Error(JudgeFiles(&recipe.Stack{Dir: tree.Dir, Files: files, Env: env}, p))
		return nil, cmp.Or(refused, err)
	}
	refusals, notes := judgeStack(stack, p)
	if err := Error(refusals); err != nil {
		return nil, err
	}
	stack.Warnings = append(stack.Warnings, notes...)
	return stack, nil
}
