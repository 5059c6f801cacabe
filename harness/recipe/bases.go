package recipe

import (
	"context"
	"fmt"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Unusable says why no upgrade to a head, which states headVersion, can start from a
// release; "" when one can. Without a usable headVersion every release but that
// of the head itself can be the base.
func (r Release) Unusable(headVersion string, head ccci.Commit) string {
	switch {
	case r.Commit == head:
		return "it is the commit under test itself"
	case IsVersion(headVersion) && !Older(r.Tag, headVersion):
		return "it is not older than " + headVersion + ", the version under test"
	}
	return ""
}

// Bases tells which releases of the repository in repoDir an upgrade to head can start
// from. A head that is no recipe states no version: its run will say what it lacks.
func Bases(ctx context.Context, repoDir string, head ccci.Commit) (ccci.Bases, error) {
	releases, err := Releases(ctx, repoDir)
	if err != nil {
		return ccci.Bases{}, err
	}
	var version string
	tree, remove, err := AtCommit(ctx, repoDir, head)
	defer remove()
	if err == nil {
		version = tree.Version()
	} else if code := ccci.CodeOf(err); code != ccci.CodeInvalid && code != ccci.CodeRefused {
		return ccci.Bases{}, fmt.Errorf("reading the version of %s: %w", head.Short(), err)
	}
	bases := ccci.Bases{Unusable: map[string]string{}}
	for _, r := range releases {
		if why := r.Unusable(version, head); why != "" {
			bases.Unusable[r.Tag] = why
		} else {
			bases.Usable = append(bases.Usable, r.Tag)
		}
	}
	return bases, nil
}
