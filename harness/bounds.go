package harness

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// firstLine is the first line of a text, at most most bytes of it.
func firstLine(text string, most int) string {
	line, _, more := strings.Cut(text, "\n")
	if more && len(line) <= most {
		return line + "…"
	}
	return clip(line, most)
}

// within bounds what the app decides the length of. That it takes longer is the recipe's
// doing, as long as the run itself is not over.
func within(ctx context.Context, limit time.Duration, setting string, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(limited)
	var told *DeployError
	if err == nil || limited.Err() == nil || ctx.Err() != nil || errors.As(err, &told) {
		return err
	}
	return &ccci.Error{
		Code:    ccci.CodeRecipe,
		Message: fmt.Sprintf("it did not end within %s: %s", ccci.DurationWords(limit), clip(err.Error(), 300)),
		Hint:    "look at what it waits for or how much it handles; timeouts." + setting + " in recipe.yml is the limit",
		Err:     err,
	}
}
