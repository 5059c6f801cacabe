package sweep

import (
	"slices"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// The histories of the table: a commit contains all before it in its line.
var histories = []string{"abcdef", "abX"}

func contains(commit, older ccci.Commit) bool {
	return slices.ContainsFunc(histories, func(line string) bool {
		at, before := -1, -1
		for i, c := range line {
			if string(c) == string(commit) {
				at = i
			}
			if string(c) == string(older) {
				before = i
			}
		}
		return before >= 0 && at >= before
	})
}

func TestU20_WhatIsNewer(t *testing.T) {
	for name, c := range map[string]struct {
		canonical, tip ccci.Commit
		releases       []ccci.Commit // newest first
		want           []ccci.Commit
	}{
		"nothing yet, no release":           {"", "b", nil, []ccci.Commit{"b"}},
		"nothing yet, the tip is released":  {"", "b", []ccci.Commit{"b", "a"}, []ccci.Commit{"b"}},
		"nothing yet, the tip is ahead":     {"", "c", []ccci.Commit{"b", "a"}, []ccci.Commit{"b", "c"}},
		"nothing moved":                     {"c", "c", []ccci.Commit{"b"}, nil},
		"a new tip":                         {"c", "d", []ccci.Commit{"b"}, []ccci.Commit{"d"}},
		"a new release and a new tip":       {"b", "d", []ccci.Commit{"c", "b"}, []ccci.Commit{"c", "d"}},
		"several releases":                  {"a", "d", []ccci.Commit{"d", "c", "b"}, []ccci.Commit{"d"}},
		"the tested tip was released":       {"c", "c", []ccci.Commit{"c", "b"}, nil},
		"an older commit was released":      {"d", "d", []ccci.Commit{"c"}, nil},
		"a release beside the branch":       {"b", "d", []ccci.Commit{"X"}, []ccci.Commit{"X"}},
		"it is the canonical, branch waits": {"X", "e", []ccci.Commit{"X"}, nil},
		"the branch was reset":              {"e", "X", nil, []ccci.Commit{"X"}},
		"the branch went back":              {"e", "c", nil, nil},
		"the canonical is gone":             {"?", "c", []ccci.Commit{"b"}, []ccci.Commit{"b", "c"}},
	} {
		var canonical *ccci.Canonical
		if c.canonical != "" {
			canonical = &ccci.Canonical{Commit: c.canonical}
		}
		var releases []recipe.Release
		for _, commit := range c.releases {
			releases = append(releases, recipe.Release{Tag: "1." + string(commit), Commit: commit})
		}
		var got []ccci.Commit
		for _, target := range newer(canonical, target{commit: c.tip, branch: "main"}, releases, contains) {
			got = append(got, target.commit)
			released := slices.Contains(c.releases, target.commit)
			if (target.release != "") != released || (target.branch != "") == released {
				t.Errorf("%s: %+v", name, target)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
