package recipe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

// Release is a git tag that is a version of the recipe.
type Release struct {
	Tag    string
	Commit ccci.Commit // what the tag points at in the end
	// Annotated is false for a lightweight tag, which abra's lint refuses (R014).
	Annotated bool
}

// Releases lists the version tags of the repository in repoDir, newest first. A
// repository without any gives none. Tags that are no versions are left out.
func Releases(ctx context.Context, repoDir string) ([]Release, error) {
	out, err := gitcmd.Run(ctx, repoDir, "for-each-ref", "refs/tags",
		"--format=%(refname:strip=2)%09%(objecttype)%09%(objectname)%09%(*objecttype)%09%(*objectname)")
	if err != nil {
		return nil, fmt.Errorf("listing the version tags of %s: %w", repoDir, err)
	}
	var releases []Release
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(fields) != 5 || !IsVersion(fields[0]) {
			continue
		}
		release := Release{Tag: fields[0], Annotated: fields[1] == "tag"}
		kind, commit := fields[1], ccci.Commit(fields[2])
		if release.Annotated {
			kind, commit = fields[3], ccci.Commit(fields[4])
		}
		if kind != "commit" || !commit.Valid() {
			continue
		}
		release.Commit = commit
		releases = append(releases, release)
	}
	slices.SortStableFunc(releases, func(a, b Release) int { return CompareVersions(b.Tag, a.Tag) })
	return releases, nil
}

// FindRelease returns the release with a tag, or an Error with CodeNotFound that
// lists what there is.
func FindRelease(releases []Release, tag string) (Release, error) {
	var known []string
	for _, r := range releases {
		if r.Tag == tag {
			return r, nil
		}
		known = append(known, r.Tag)
	}
	err := ccci.Errorf(ccci.CodeNotFound, "the recipe has no release %q", tag)
	if len(known) == 0 {
		return Release{}, err.WithHint("it has no version tags at all; are they in this clone?")
	}
	if len(known) > 8 {
		known = append(known[:8], "…")
	}
	return Release{}, err.WithHint("it has %s", strings.Join(known, ", "))
}

// ChooseBase picks the base of an upgrade: the newest release that one can start from. reason says
// why this one, or, when ok is false, why there is none; the caller then falls back on the
// target branch or skips.
func ChooseBase(candidates []Candidate, headVersion string) (base Release, reason string, ok bool) {
	if len(candidates) == 0 {
		return Release{}, "the recipe has no version tags", false
	}
	sorted := slices.SortedStableFunc(slices.Values(candidates), func(a, b Candidate) int { return CompareVersions(b.Tag, a.Tag) })
	known, oldest := IsVersion(headVersion), ""
	for _, c := range sorted {
		switch {
		case c.Why == "" && known:
			return c.Release, fmt.Sprintf("%s is the newest release older than %s", c.Tag, headVersion), true
		case c.Why == "":
			return c.Release, fmt.Sprintf("%s is the newest release; the head states no version to compare with", c.Tag), true
		case c.never() == "":
			oldest = c.Tag
		}
	}
	if known && oldest != "" {
		return Release{}, fmt.Sprintf("no release is older than %s; the oldest is %s", headVersion, oldest), false
	}
	return Release{}, "no release lies before the head", false
}
