package recipe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// Kinship is what git knows about the base of an upgrade and the head.
type Kinship struct {
	Same, SameTree bool // they are one commit; they hold the same files
	Earlier, Later bool // the base is in the head's history; the head is in that of the base
}

// Unfit says why an upgrade from a base of a version to the head would prove nothing; "" when it
// would prove something. This is the rule (U4): never the head itself, nor its files, nor its
// version, nor what is built upon it; older than the head by its version, or, where one of them
// states none, by history. A quick run may cross commits of one version, for it tests what a pull
// request changes, which seldom is the version; the head must build on the canonical then.
func (k Kinship) Unfit(version, headVersion string, quick bool) string {
	known := IsVersion(version) && IsVersion(headVersion)
	switch why := k.never(); {
	case why != "":
		return why
	case known && Older(version, headVersion):
		return ""
	case known && !(quick && k.Earlier && SameVersion(version, headVersion)):
		return fmt.Sprintf("its version %s is not older than the head's %s", version, headVersion)
	case !k.Earlier:
		return "the head is not built upon it"
	}
	return ""
}

// never says why no version could make the base older than the head.
func (k Kinship) never() string {
	switch {
	case k.Same:
		return "it is the head itself"
	case k.SameTree:
		return "it has the very files of the head"
	case k.Later:
		return "it is built upon the head"
	}
	return ""
}

// Candidate is a release as the base of an upgrade to a head.
type Candidate struct {
	Release
	Kinship
	Why string // why no upgrade can start from it; "" when one can
}

// Candidates judges the releases of the repository in repoDir as bases of an upgrade to head,
// in their order. Files that are no commit have the head "": they are built upon every release.
func Candidates(ctx context.Context, repoDir string, releases []Release, head ccci.Commit, headVersion string) ([]Candidate, error) {
	kinship := func(Release) Kinship { return Kinship{Earlier: true} }
	if head != "" {
		var err error
		if kinship, err = kinships(ctx, repoDir, head); err != nil {
			return nil, err
		}
	}
	var candidates []Candidate
	for _, r := range releases {
		k := kinship(r)
		candidates = append(candidates, Candidate{r, k, k.Unfit(r.Tag, headVersion, false)})
	}
	return candidates, nil
}

// kinships asks git once about all tags.
func kinships(ctx context.Context, repoDir string, head ccci.Commit) (func(Release) Kinship, error) {
	tags := func(args ...string) (map[string]string, error) {
		out, err := gitcmd.Run(ctx, repoDir, append([]string{"for-each-ref", "--format=%(refname:strip=2)%09%(tree)%(*tree)"}, append(args, "refs/tags")...)...)
		if err != nil {
			return nil, fmt.Errorf("comparing the version tags with commit %s: %w", head.Short(), err)
		}
		trees := map[string]string{}
		for line := range strings.Lines(out) {
			tag, tree, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
			trees[tag] = tree
		}
		return trees, nil
	}
	later, err := tags("--contains=" + string(head))
	if err != nil {
		return nil, err
	}
	earlier, err := tags("--merged=" + string(head))
	if err != nil {
		return nil, err
	}
	all, err := tags()
	if err != nil {
		return nil, err
	}
	files, err := gitcmd.Run(ctx, repoDir, "rev-parse", "--verify", "--end-of-options", string(head)+"^{tree}")
	if err != nil {
		return nil, fmt.Errorf("reading commit %s: %w", head.Short(), err)
	}
	return func(r Release) Kinship {
		_, isLater := later[r.Tag]
		_, isEarlier := earlier[r.Tag]
		return Kinship{Same: r.Commit == head, SameTree: all[r.Tag] == files, Earlier: isEarlier, Later: isLater}
	}, nil
}

// First reports whether no release comes before the head, so that there is nothing to upgrade from.
func First(candidates []Candidate) bool {
	return !slices.ContainsFunc(candidates, func(c Candidate) bool { return c.Earlier && c.never() == "" })
}

// Unbumped returns the release whose version a head still states, with other files.
func Unbumped(candidates []Candidate, headVersion string) (Release, bool) {
	i := slices.IndexFunc(candidates, func(c Candidate) bool { return c.never() == "" && SameVersion(c.Tag, headVersion) })
	if i < 0 {
		return Release{}, false
	}
	return candidates[i].Release, true
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
	candidates, err := Candidates(ctx, repoDir, releases, head, version)
	if err != nil {
		return ccci.Bases{}, err
	}
	bases := ccci.Bases{Unusable: map[string]string{}}
	for _, c := range candidates {
		if c.Why != "" {
			bases.Unusable[c.Tag] = c.Why
		} else {
			bases.Usable = append(bases.Usable, c.Tag)
		}
	}
	return bases, nil
}
