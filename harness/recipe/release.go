package recipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
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
	out, err := git(ctx, repoDir, "for-each-ref", "refs/tags",
		"--format=%(refname:strip=2)%09%(objecttype)%09%(objectname)%09%(*objecttype)%09%(*objectname)")
	if err != nil {
		return nil, fmt.Errorf("listing the version tags of %s: %w", repoDir, err)
	}
	var releases []Release
	for line := range strings.Lines(string(out)) {
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

// ChooseBase picks the release that an upgrade to the head starts from: the newest
// one older than headVersion, never one at the head's own commit and never the
// head's own version, as X→X proves nothing. Without a usable headVersion it is the
// newest release at another commit. reason says why this one, or, when ok is
// false, why there is none; the caller then falls back on the target branch or skips.
func ChooseBase(releases []Release, headVersion string, head ccci.Commit) (base Release, reason string, ok bool) {
	if len(releases) == 0 {
		return Release{}, "the recipe has no version tags", false
	}
	sorted := slices.SortedStableFunc(slices.Values(releases), func(a, b Release) int { return CompareVersions(b.Tag, a.Tag) })
	known := IsVersion(headVersion)
	for _, r := range sorted {
		switch {
		case head != "" && r.Commit == head:
			continue
		case !known:
			return r, fmt.Sprintf("%s is the newest release; the head states no version to compare with", r.Tag), true
		case olderThanHead(r.Tag, headVersion):
			return r, fmt.Sprintf("%s is the newest release older than %s", r.Tag, headVersion), true
		}
	}
	if known {
		return Release{}, fmt.Sprintf("no release is older than %s; the oldest is %s", headVersion, sorted[len(sorted)-1].Tag), false
	}
	return Release{}, "every release is the head itself", false
}

// olderThanHead compares like with like: a head without a plus is compared by
// the left parts, or every release of the recipe would count as newer.
func olderThanHead(tag, head string) bool {
	if !strings.Contains(head, "+") {
		tag, _, _ = strings.Cut(tag, "+")
	}
	return CompareVersions(tag, head) < 0
}

// git runs one git command that reads. Neither the machine's nor the user's
// configuration counts, and nothing that the repository configures is executed.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*",
	}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0",
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, ccci.Errorf(ccci.CodeInfra, "git is not installed: %w", err).WithHint("install git")
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		return nil, fmt.Errorf("git %s: %s: %w", args[0], shorten(text), err)
	}
	return nil, fmt.Errorf("git %s: %w", args[0], err)
}
