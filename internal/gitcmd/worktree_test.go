package gitcmd

import (
	"path/filepath"
	"testing"
	"time"
)

// The commit has changed, new and removed files and no ignored one; the checkout stays as it is,
// and nothing of the repository's configuration is started.
func TestCommitWorkingTree(t *testing.T) {
	w := newTrap(t)
	ctx := t.Context()
	run := func(args ...string) string {
		t.Helper()
		out, err := Run(ctx, w.repo, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	write(t, filepath.Join(w.repo, ".gitignore"), "*.log\n", 0o644)
	write(t, filepath.Join(w.repo, "a.bin"), "changed\n", 0o644)
	write(t, filepath.Join(w.repo, "new", "b.txt"), "new\n", 0o644)
	write(t, filepath.Join(w.repo, "debug.log"), "ignored\n", 0o644)
	head, before := run("rev-parse", "HEAD"), run("status", "--porcelain")
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	commit, err := CommitWorkingTree(ctx, w.repo, "uncommitted changes", now)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := CommitWorkingTree(ctx, w.repo, "uncommitted changes", now); err != nil || again != commit {
		t.Errorf("the same files and time give %s and %s, %v", commit, again, err)
	}
	if got := run("ls-tree", "-r", "--name-only", commit); got != ".gitattributes\n.gitignore\na.bin\na.own\nnew/b.txt" {
		t.Errorf("files of the commit:\n%s", got)
	}
	if got := run("show", commit+":a.bin"); got != "changed" {
		t.Errorf("a.bin is %q", got)
	}
	if got := run("rev-parse", commit+"^"); got != head {
		t.Errorf("the parent is %s, not %s", got, head)
	}
	if got := run("rev-parse", "HEAD"); got != head {
		t.Errorf("HEAD moved to %s", got)
	}
	if got := run("status", "--porcelain"); got != before {
		t.Errorf("the checkout changed:\n%s", got)
	}
	if ran, _ := filepath.Glob(filepath.Join(w.ran, "*")); len(ran) > 0 {
		t.Errorf("git started %v", ran)
	}
}
