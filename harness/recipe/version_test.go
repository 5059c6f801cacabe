package recipe_test

import (
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func TestCompareVersions(t *testing.T) {
	// Each is older than the next.
	ordered := []string{
		"latest",
		"0.0.1", "1.13.4_1", "1.13.4_2", "2.4.8-d7d63b0d", "25.0.1", // before the scheme
		"0.1.0+1.0", "0.9.0+1.0", "0.10.0+1.0", "1.0.0+1.0-rc1", "1.0.0+1.0-rc2", "1.0.0+1.0.0rc3", "1.0.0+1.0", "1.0.0+1.0-p1", "1.0.0+1.0.1-rc1", "1.0.0+1.0.1",
		"1.0.0+v1.2.3", "1.0.0+1.10.0", "1.0.0+2024.01.5", "1.0.1+0.1", "2.0.1+1.0.6-social-amd64", "2.0.1+1.0.7-social-amd64", "10.0.0+1",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i != j {
				want = map[bool]int{true: -1, false: 1}[i < j]
			}
			if got := recipe.CompareVersions(a, b); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	for _, s := range []string{"latest", "", "v", "1", "main", "1.0.0+", "1.0.0+a b", "release/1.0", strings.Repeat("1.", 100) + "1"} {
		if recipe.IsVersion(s) {
			t.Errorf("%q counts as a version", s)
		}
	}
}

// U4: versions that differ only in how they are written are one.
func TestU4_SameVersion(t *testing.T) {
	for _, pair := range [][2]string{
		{"1.0.3+1.0.3", "v1.0.3"}, {"1.0.3+1.0.3", "v1.0.3+1.0.3"}, {"1.0.3", "v1.0.3"}, {"1.0.0+1.2", "1.0.0+v1.2.0"}, {"1.0.0+1.2", "1.0.0"}, {"1.0+1", "1.0.0+1"},
	} {
		if a, b := pair[0], pair[1]; !recipe.SameVersion(a, b) || !recipe.SameVersion(b, a) || recipe.Older(a, b) || recipe.Older(b, a) {
			t.Errorf("%s and %s are two versions", a, b)
		}
	}
	for _, pair := range [][2]string{{"1.0.2+1.0.3", "v1.0.3"}, {"1.0.2", "v1.0.3"}, {"1.0.0+1.2-alpine", "1.0.0+1.3"}, {"", "1.0.0"}, {"main", "next"}, {"", ""}} {
		if a, b := pair[0], pair[1]; recipe.SameVersion(a, b) || recipe.SameVersion(b, a) {
			t.Errorf("%s and %s are one version", a, b)
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0.0+1.2", "1.0.0+v1.2.0", "1.0.0+1.2-rc1")
	f.Add("1.2", "1.2.0", "1.2.a")
	f.Add("1+1", "1+1C", "01+1+0")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if x, y := recipe.CompareVersions(a, b), recipe.CompareVersions(b, a); x != -y {
			t.Fatalf("%q %q: %d and %d", a, b, x, y)
		}
		versions := []string{a, b, c}
		slices.SortFunc(versions, recipe.CompareVersions)
		if recipe.CompareVersions(versions[0], versions[2]) > 0 {
			t.Fatalf("no order: %q", versions)
		}
	})
}

func TestU4_ChooseBase(t *testing.T) {
	commit := func(c byte) ccci.Commit { return ccci.Commit(strings.Repeat(string(c), 40)) }
	releases := []recipe.Release{
		{Tag: "0.9.0+1.0", Commit: commit('1')},
		{Tag: "1.1.0+1.2", Commit: commit('3')},
		{Tag: "1.0.0+1.1", Commit: commit('2')},
		{Tag: "2.4.8", Commit: commit('0')}, // from before the scheme
	}
	bare := []recipe.Release{{Tag: "v1.0.3", Commit: commit('3')}, {Tag: "v1.0.2", Commit: commit('2')}}
	cases := map[string]struct {
		version  string
		head     ccci.Commit
		releases []recipe.Release
		want     string // "": none
		reason   string
	}{
		"head is newer than all":          {"1.2.0+1.3", commit('a'), releases, "1.1.0+1.2", "newest release older than 1.2.0+1.3"},
		"never X to X by version":         {"1.1.0+1.2", commit('a'), releases, "1.0.0+1.1", "newest release older"},
		"never X to X by commit":          {"1.2.0+1.3", commit('3'), releases, "1.0.0+1.1", "newest release older"},
		"head is older than the newest":   {"1.0.1+1.1", commit('a'), releases, "1.0.0+1.1", ""},
		"old schemes count last":          {"3.1.0+1.0", commit('a'), append(releases[:0:0], releases[3]), "2.4.8", ""},
		"a newer left part, no upstream":  {"0.1.0+1.0", commit('a'), releases, "", "no release is older than 0.1.0+1.0"},
		"tags without upstream: X to X":   {"1.0.3+1.0.3", commit('a'), bare, "v1.0.2", "newest release older"},
		"tags without upstream: newer":    {"1.0.2+1.0.2", commit('a'), bare, "", "no release is older than 1.0.2+1.0.2"},
		"a v is no other version":         {"v1.0.2", commit('a'), []recipe.Release{{Tag: "1.0.2", Commit: commit('1')}}, "", "no release is older"},
		"one upstream, written twice":     {"1.0.0+v1.2.0", commit('a'), []recipe.Release{{Tag: "1.0.0+1.2", Commit: commit('1')}}, "", "no release is older"},
		"nothing older":                   {"0.1.0+1.0", commit('a'), releases[:3], "", "no release is older than 0.1.0+1.0; the oldest is 0.9.0+1.0"},
		"head without a version":          {"", commit('a'), releases, "1.1.0+1.2", "states no version"},
		"head with a word for a version":  {"latest", commit('3'), releases, "1.0.0+1.1", "states no version"},
		"head without the upstream part":  {"1.0.1", commit('a'), releases, "1.0.0+1.1", ""},
		"no tags":                         {"1.0.0+1", commit('a'), nil, "", "no version tags"},
		"the only release is the head":    {"", commit('1'), releases[:1], "", "no release lies before the head"},
		"a commit that nobody can tell":   {"1.0.0+1.1", "", releases, "0.9.0+1.0", ""},
		"same version with another image": {"1.1.0+1.2-alpine", commit('a'), releases, "1.1.0+1.2", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var candidates []recipe.Candidate
			for _, r := range c.releases {
				k := recipe.Kinship{Same: r.Commit == c.head, Earlier: true}
				candidates = append(candidates, recipe.Candidate{Release: r, Kinship: k, Why: k.Unfit(r.Tag, c.version, false)})
			}
			got, reason, ok := recipe.ChooseBase(candidates, c.version)
			if got.Tag != c.want || ok != (c.want != "") || !strings.Contains(reason, c.reason) || reason == "" {
				t.Errorf("got %q %v because %q, want %q because %q", got.Tag, ok, reason, c.want, c.reason)
			}
		})
	}
	_, err := recipe.FindRelease(releases, "3.0.0+1")
	wantError(t, err, ccci.CodeNotFound, `no release "3.0.0+1"`)
	if r, err := recipe.FindRelease(releases, "1.0.0+1.1"); err != nil || r.Commit != commit('2') {
		t.Errorf("found %v, %v", r, err)
	}
}
