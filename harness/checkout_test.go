package harness

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
)

func TestA8_ExactlyThatCommitIsCheckedOut(t *testing.T) {
	repo, head := example(t)
	dir := t.TempDir()
	c, err := fetchJob(t.Context(), dir, ccci.Job{Commit: head, CloneURL: repo, BaseRef: "main"}, gitcmd.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	// The branch moves on while the run is under way.
	gitOut(t, repo, "checkout", "--quiet", "upgrade-0.2.0+1.1.0")
	gitOut(t, repo, "commit", "--quiet", "--allow-empty", "--message=later")

	tree, err := c.tree(t.Context(), "head", head)
	if err != nil {
		t.Fatal(err)
	}
	if got := gitOut(t, tree, "rev-parse", "HEAD"); got != string(head) {
		t.Errorf("checked out %s instead of %s", got, head)
	}
	text, err := os.ReadFile(filepath.Join(tree, "compose.yml"))
	if err != nil || !strings.Contains(string(text), "version=0.2.0+1.1.0") {
		t.Errorf("%v: %s", err, text)
	}
	base, err := c.resolve(t.Context(), "0.1.0+1.0.0")
	if err != nil {
		t.Fatalf("the tags were not fetched: %v", err)
	}
	tip, err := c.resolve(t.Context(), baseTip)
	if err != nil || tip != base {
		t.Errorf("the target branch is at %s, want %s: %v", tip, base, err)
	}
	if c.sameTree(t.Context(), head, base) || !c.sameTree(t.Context(), tip, base) {
		t.Error("sameTree does not tell two versions apart")
	}
	if c.sameTree(t.Context(), head, "0000000000000000000000000000000000000000") {
		t.Error("a commit that is not there has the same files")
	}
}

// What cannot be had is an error, never another commit (U23).
func TestU23_CommitThatCannotBeHad(t *testing.T) {
	repo, head := example(t)
	absent := ccci.Commit(strings.Repeat("0123456789", 4))
	for name, c := range map[string]struct {
		job  ccci.Job
		code ccci.Code
	}{
		"not there":        {ccci.Job{Commit: absent, CloneURL: repo}, ccci.CodeInfra},
		"short":            {ccci.Job{Commit: head[:8], CloneURL: repo}, ccci.CodeInvalid},
		"a branch":         {ccci.Job{Commit: "main", CloneURL: repo}, ccci.CodeInvalid},
		"an option":        {ccci.Job{Commit: "--upload-pack=touch /tmp/x", CloneURL: repo}, ccci.CodeInvalid},
		"empty":            {ccci.Job{CloneURL: repo}, ccci.CodeInvalid},
		"no repository":    {ccci.Job{Commit: head, CloneURL: filepath.Join(repo, "gone")}, ccci.CodeInfra},
		"url is an option": {ccci.Job{Commit: head, CloneURL: "--upload-pack=false"}, ccci.CodeInfra},
		"url is a program": {ccci.Job{Commit: head, CloneURL: "ext::sh -c true"}, ccci.CodeInfra},
		"no such branch":   {ccci.Job{Commit: head, CloneURL: repo, BaseRef: "gone"}, ccci.CodeInfra},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := fetchJob(t.Context(), t.TempDir(), c.job, gitcmd.Limits{}); err == nil || ccci.CodeOf(err) != c.code {
				t.Errorf("%v (%s), want %s", err, ccci.CodeOf(err), c.code)
			}
		})
	}

	c, err := fetchJob(t.Context(), t.TempDir(), ccci.Job{Commit: head, CloneURL: repo}, gitcmd.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.resolve(t.Context(), "9.9.9+9.9.9"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("a tag that is not there: %v", err)
	}
	if _, err := c.resolve(t.Context(), "--all"); !errors.Is(err, ccci.ErrNotFound) {
		t.Errorf("a tag that is an option: %v", err)
	}
	if _, err := c.tree(t.Context(), "absent", absent); err == nil {
		t.Error("a commit that is not there was checked out")
	}
	// A name that leads to a commit is not the commit: a tag can be moved.
	if _, err := c.tree(t.Context(), "tag", "0.1.0+1.0.0"); err == nil || !strings.Contains(err.Error(), "instead of") {
		t.Errorf("checked out by tag: %v", err)
	}
}

// Nothing in a repository, and nothing of the machine's own git settings, runs.
func TestM2_CheckoutRunsNoHooksOrFilters(t *testing.T) {
	repo, _ := example(t)
	proof := filepath.Join(t.TempDir(), "ran")
	home := t.TempDir()
	settings := "[core]\n\thooksPath = " + home + "\n[filter \"evil\"]\n\tsmudge = touch " + proof + "\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "post-checkout"), []byte("#!/bin/sh\ntouch "+proof+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(repo, ".gitattributes"), []byte("* filter=evil\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gitOut(t, repo, "add", ".gitattributes")
	gitOut(t, repo, "commit", "--quiet", "--message=filter")
	head := ccci.Commit(gitOut(t, repo, "rev-parse", "HEAD"))
	t.Setenv("HOME", home)

	c, err := fetchJob(t.Context(), t.TempDir(), ccci.Job{Commit: head, CloneURL: repo}, gitcmd.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.tree(t.Context(), "head", head); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(proof); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program ran during the checkout: %v", err)
	}
}

// A repository beyond the limits is the recipe's fault, and the limit is named.
func TestM2_RepositoryBeyondTheLimitsIsRefused(t *testing.T) {
	repo, head := example(t)
	job := ccci.Job{Commit: head, CloneURL: repo}
	_, err := fetchJob(t.Context(), t.TempDir(), job, gitcmd.Limits{Objects: 1})
	if ccci.CodeOf(err) != ccci.CodeRefused || !strings.Contains(err.Error(), "git.objects") || ccci.HintOf(err) == "" {
		t.Errorf("fetched: %v", err)
	}
	c, err := fetchJob(t.Context(), t.TempDir(), job, gitcmd.Limits{Files: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.tree(t.Context(), "head", head); ccci.CodeOf(err) != ccci.CodeRefused || !strings.Contains(err.Error(), "git.files") || ccci.HintOf(err) == "" {
		t.Errorf("checked out: %v", err)
	}
}
