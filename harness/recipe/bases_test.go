package recipe_test

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

func TestU4_WhatTheCanonicalMayBeTheBaseOf(t *testing.T) {
	plain, side := recipe.Kinship{Earlier: true}, recipe.Kinship{}
	for name, c := range map[string]struct {
		recipe.Kinship
		version, headVersion string
		quick                bool
		why                  string
	}{
		"older by its version":                 {plain, "1.0.0+1", "1.1.0+1", false, ""},
		"older by its version, on a side":      {side, "1.0.0+1", "1.1.0+1", false, ""},
		"older by its version, and later":      {recipe.Kinship{Later: true}, "1.0.0+1", "1.1.0+1", false, "built upon the head"},
		"the head states no version":           {plain, "1.0.0+1", "", false, ""},
		"it states none itself":                {plain, "", "1.0.0+1", false, ""},
		"no version and on a side":             {side, "", "", false, "not built upon it"},
		"the head itself":                      {recipe.Kinship{Same: true, SameTree: true, Earlier: true, Later: true}, "1.0.0+1", "1.1.0+1", false, "the head itself"},
		"the files of the head":                {recipe.Kinship{SameTree: true, Earlier: true}, "1.0.0+1", "1.1.0+1", false, "the very files"},
		"X to X":                               {plain, "1.1.0+1", "1.1.0+1", false, "is not older"},
		"X to X, written with a v":             {plain, "1.1.0+1", "v1.1.0+1", false, "is not older"},
		"X to X, without the upstream part":    {plain, "v1.1.0", "1.1.0+1.1", false, "is not older"},
		"newer":                                {plain, "1.2.0+1", "1.1.0+1", false, "is not older"},
		"newer, without the upstream part":     {plain, "v1.0.3", "1.0.2+1.0.2", false, "is not older"},
		"like with like":                       {plain, "1.2.0+3", "1.2.0", false, "is not older"},
		"quick: older":                         {plain, "1.0.0+1", "1.1.0+1", true, ""},
		"quick: of one version":                {plain, "1.1.0+1", "1.1.0+1", true, ""},
		"quick: of one version, on a side":     {side, "1.1.0+1", "1.1.0+1", true, "is not older"},
		"quick: newer":                         {plain, "1.2.0+1", "1.1.0+1", true, "is not older"},
		"quick: the head itself":               {recipe.Kinship{Same: true}, "1.1.0+1", "1.1.0+1", true, "the head itself"},
		"quick: the files of the head":         {recipe.Kinship{SameTree: true, Earlier: true}, "1.1.0+1", "1.1.0+1", true, "the very files"},
		"quick: no version, and on a side":     {side, "", "", true, "not built upon it"},
		"quick: no version, and built upon it": {plain, "", "", true, ""},
	} {
		got := c.Unfit(c.version, c.headVersion, c.quick)
		if (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("%s: %q, want %q", name, got, c.why)
		}
	}
}

// U4: what a head can be upgraded from lies before it in history, or at least beside it.
func TestU4_Candidates(t *testing.T) {
	dir := unpack(t, "page")
	git(t, dir, "init", "-q")
	commit := func(note string, tags ...string) ccci.Commit {
		write(t, dir, "note", note)
		git(t, dir, "add", ".")
		git(t, dir, "commit", "-q", "--allow-empty", "-m", note)
		for _, tag := range tags {
			git(t, dir, "tag", "-a", "-m", tag, tag)
		}
		return ccci.Commit(git(t, dir, "rev-parse", "HEAD"))
	}
	commit("one", "1.0.0+1")
	git(t, dir, "checkout", "-q", "-b", "side")
	commit("side", "1.0.1+1")
	git(t, dir, "checkout", "-q", "-")
	commit("same files", "1.1.0+1")
	head := commit("same files", "1.2.0+1")
	commit("later", "1.0.2+1") // a fix of an old release, cut from what came after the head
	releases, err := recipe.Releases(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	reasons := func(head ccci.Commit, version string) string {
		candidates, err := recipe.Candidates(t.Context(), dir, releases, head, version)
		if err != nil {
			t.Error(err)
		}
		var reasons []string
		for _, c := range candidates {
			reasons = append(reasons, c.Tag+" "+c.Why)
		}
		return strings.Join(reasons, "\n")
	}
	const beside = "the head is not built upon it"
	for _, c := range []struct {
		head          ccci.Commit
		version, want string
	}{
		{head, "1.2.0+1", "1.2.0+1 it is the head itself\n1.1.0+1 it has the very files of the head\n1.0.2+1 it is built upon the head\n1.0.1+1 \n1.0.0+1 "},
		// Without a version to compare, only history tells what is older.
		{head, "latest", "1.2.0+1 it is the head itself\n1.1.0+1 it has the very files of the head\n1.0.2+1 it is built upon the head\n1.0.1+1 " + beside + "\n1.0.0+1 "},
		{"", "1.1.0+1", "1.2.0+1 its version 1.2.0+1 is not older than the head's 1.1.0+1\n1.1.0+1 its version 1.1.0+1 is not older than the head's 1.1.0+1\n1.0.2+1 \n1.0.1+1 \n1.0.0+1 "},
		{"", "latest", "1.2.0+1 \n1.1.0+1 \n1.0.2+1 \n1.0.1+1 \n1.0.0+1 "},
	} {
		if got := reasons(c.head, c.version); got != c.want {
			t.Errorf("of %q at %q:\n%s\nwant\n%s", c.version, c.head, got, c.want)
		}
	}
	if _, err := recipe.Candidates(t.Context(), dir, releases, ccci.Commit(strings.Repeat("0", 40)), "1"); err == nil {
		t.Error("a commit that is not there has releases before it")
	}
}
