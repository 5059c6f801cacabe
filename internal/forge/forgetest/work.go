package forgetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Work is a checkout with which a test plays the author of a pull request.
type Work struct {
	t      testing.TB
	dir    string
	remote string
}

// NewWork makes an empty checkout that pushes to remote.
func NewWork(t testing.TB, remote string) *Work {
	t.Helper()
	w := &Work{t: t, dir: t.TempDir(), remote: remote}
	w.Git("init", "--quiet", "--initial-branch=main")
	w.Git("config", "user.name", "Ada")
	w.Git("config", "user.email", "ada@example.org")
	return w
}

// Dir is the checkout's folder.
func (w *Work) Dir() string { return w.dir }

// Git runs git in the checkout and returns what it printed.
func (w *Work) Git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Commit commits one file on branch, which is made from the present one where it
// does not exist, and pushes it.
func (w *Work) Commit(branch, file, text string) ccci.Commit {
	w.t.Helper()
	if w.Git("branch", "--list", branch) == "" && w.Git("branch", "--list") != "" {
		w.Git("checkout", "--quiet", "-b", branch)
	} else if w.Git("branch", "--list", branch) != "" {
		w.Git("checkout", "--quiet", branch)
	} else {
		w.Git("checkout", "--quiet", "-B", branch)
	}
	if err := os.WriteFile(filepath.Join(w.dir, file), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.Git("add", "--", file)
	w.Git("commit", "--quiet", "--message", "Change "+file)
	w.Push(branch)
	return ccci.Commit(w.Git("rev-parse", "HEAD"))
}

// Push pushes a branch, by force.
func (w *Work) Push(branch string) {
	w.t.Helper()
	w.Git("push", "--quiet", "--force", w.remote, branch+":"+branch)
}
