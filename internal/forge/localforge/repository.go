package localforge

import (
	"context"
	"fmt"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var _ ccci.RepositoryReader = (*Forge)(nil)

// Repository implements [ccci.RepositoryReader].
func (f *Forge) Repository(ctx context.Context, repo ccci.RepoRef) (ccci.Repository, error) {
	if err := knows(ctx, f.db.Read, repo); err != nil {
		return ccci.Repository{}, f.db.Explain(fmt.Errorf("looking for %s: %w", repo, err))
	}
	path := f.path(repo)
	head, err := f.git.run(ctx, path, "symbolic-ref", "--short", "HEAD")
	if err != nil {
		return ccci.Repository{}, ccci.Errorf(ccci.CodeInfra, "asking for the default branch of %s: %w", repo, err)
	}
	return ccci.Repository{Ref: repo, Branch: strings.TrimSpace(head), CloneURL: path}, nil
}
