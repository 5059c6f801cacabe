package gitcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// trap is a repository whose configuration, hooks and attributes start programs
// wherever git lets them. Each leaves a file in ran, named after its way.
type trap struct{ repo, ran, home string }

func newTrap(t *testing.T) trap {
	t.Helper()
	w := trap{filepath.Join(t.TempDir(), "repo"), t.TempDir(), t.TempDir()}
	plain := func(args ...string) {
		t.Helper()
		if out, err := w.plain(args...); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	if err := os.MkdirAll(w.repo, 0o755); err != nil {
		t.Fatal(err)
	}
	plain("init", "--quiet", "--initial-branch=main")
	write(t, filepath.Join(w.repo, ".gitattributes"), "*.bin filter=lfs\n*.own filter=Mine.x\n", 0o644)
	write(t, filepath.Join(w.repo, "a.own"), "text\n", 0o644)
	write(t, filepath.Join(w.repo, "a.bin"), "text\n", 0o644)
	plain("add", ".")
	plain("commit", "--quiet", "--message=one")
	for key, value := range map[string]string{
		"core.fsmonitor":                w.touch("fsmonitor"),
		"core.sshCommand":               w.touch("ssh"),
		"core.askPass":                  filepath.Join(w.home, "askpass"),
		"credential.helper":             "!" + w.touch("credential"),
		"filter.lfs.smudge":             w.touch("smudge"),
		"filter.lfs.required":           "true",
		"filter.lfs.clean":              "cat",
		"filter.Mine.x.smudge":          w.touch("mine"),
		"filter.Mine.x.clean":           w.touch("clean"),
		"filter.Mine.x.required":        "true",
		"protocol.ext.allow":            "always",
		"uploadpack.allowAnySHA1InWant": "true",
	} {
		plain("config", key, value)
	}
	// git reads what has another time and the same size.
	write(t, filepath.Join(w.repo, "a.own"), "tent\n", 0o644)
	write(t, filepath.Join(w.repo, ".git", "hooks", "post-checkout"), "#!/bin/sh\n"+w.touch("hook")+"\n", 0o755)
	write(t, filepath.Join(w.home, ".gitconfig"), "[alias]\n\tmine = !"+w.touch("global")+"\n", 0o644)
	write(t, filepath.Join(w.home, "askpass"), "#!/bin/sh\n"+w.touch("askpass")+"\necho secret\n", 0o755)
	t.Setenv("HOME", w.home)
	return w
}

// touch is a shell command that leaves the file name in ran.
func (w trap) touch(name string) string { return "touch " + filepath.Join(w.ran, name) }

// plain runs git as anybody would.
func (w trap) plain(args ...string) ([]byte, error) {
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
	cmd.Dir = w.repo
	return cmd.CombinedOutput()
}

func (w trap) sprung(name string) bool {
	_, err := os.Stat(filepath.Join(w.ran, name))
	return err == nil
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// Each way by which a repository or a machine makes git start a program works with
// git as it is, and does not work here.
func TestM2_NothingElseRuns(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		ours bool // whether the command succeeds here
	}{
		"fsmonitor": {[]string{"status", "--porcelain"}, true},
		"hook":      {[]string{"checkout", "--quiet", "--detach", "HEAD"}, true},
		"smudge":    {[]string{"archive", "--format=tar", "HEAD"}, true},
		"mine":      {[]string{"archive", "--format=tar", "HEAD"}, true},
		"clean":     {[]string{"status", "--porcelain"}, true},
		"ext":       {[]string{"ls-remote", "ext::EXT"}, false},
		"ssh":       {[]string{"ls-remote", "ssh://none.invalid/none"}, false},
		"global":    {[]string{"mine"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTrap(t)
			args := make([]string, len(c.args))
			for i, a := range c.args {
				args[i] = strings.ReplaceAll(a, "EXT", w.touch("ext"))
			}
			if _, err := Run(t.Context(), w.repo, args...); (err == nil) != c.ours {
				t.Errorf("git %v: %v", args, err)
			}
			if w.sprung(name) {
				t.Error("a program ran")
			}
			out, err := w.plain(args...)
			if !w.sprung(name) {
				t.Errorf("the trap is none, plain git does not run it either: %v\n%s", err, out)
			}
		})
	}
}

func TestM2_NobodyIsAsked(t *testing.T) {
	w := newTrap(t)
	// git credential fill asks helpers, then programs, then the terminal.
	request := "url=https://example.invalid"
	if out, err := Run(t.Context(), w.repo, "-c", "alias.ask=!echo "+request+" | git credential fill", "ask"); err == nil {
		t.Errorf("git got a password from somewhere: %s", out)
	}
	for _, name := range []string{"credential", "askpass"} {
		if w.sprung(name) {
			t.Errorf("%s ran", name)
		}
	}
	w.plain("-c", "alias.ask=!echo "+request+" | git credential fill", "ask")
	for _, name := range []string{"credential", "askpass"} {
		if !w.sprung(name) {
			t.Errorf("the trap is none, plain git does not run %s either", name)
		}
	}
}

func TestOutputIsExact(t *testing.T) {
	w := newTrap(t)
	out, err := Output(t.Context(), w.repo, "cat-file", "blob", "HEAD:a.bin")
	if err != nil || string(out) != "text\n" {
		t.Errorf("%q, %v", out, err)
	}
	text, err := Run(t.Context(), w.repo, "cat-file", "blob", "HEAD:a.bin")
	if err != nil || text != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestErrors(t *testing.T) {
	_, err := Run(t.Context(), t.TempDir(), "rev-parse", "--git-dir")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "git rev-parse: fatal: not a git repository") {
		t.Errorf("no repository: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, t.TempDir(), "version"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := Installed(); err != nil {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err = Run(t.Context(), t.TempDir(), "version")
	for _, err := range []error{err, Installed()} {
		if !errors.Is(err, exec.ErrNotFound) || ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "" {
			t.Errorf("without git: %v", err)
		}
	}
}

func TestFirstWordsAreBounded(t *testing.T) {
	if got := firstWords("a\nb\nc\nd\n"); got != "a; b; c" {
		t.Error(got)
	}
	long := firstWords(fmt.Sprintf("%sä%s", strings.Repeat("x", maxComplaint-1), strings.Repeat("y", 99)))
	if len(long) > maxComplaint+len("…") || !utf8.ValidString(long) {
		t.Errorf("%d bytes: %q", len(long), long)
	}
}
