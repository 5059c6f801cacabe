package examples

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// firstCommit dates the first commit of every repository; each further one is
// a day later. Fixed, so that the commits are the same wherever they are made.
var firstCommit = time.Date(2026, time.January, 5, 9, 0, 0, 0, time.UTC)

// Materialise makes the git repository dir/name of an example recipe and
// returns its path: on the branch main one commit with an annotated tag for
// each released version, and on [UpgradeBranch] the head of a pull request.
// main is checked out. What was at dir/name before is replaced. It needs the
// git program.
func Materialise(dir, name string) (string, error) {
	versions := Versions(name)
	if len(versions) == 0 {
		return "", unknown(name)
	}
	repo, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("making the example recipe %s: %w", name, err)
	}
	if err := os.RemoveAll(repo); err != nil {
		return "", fmt.Errorf("making the example recipe %s: %w", name, err)
	}
	if err := os.MkdirAll(repo, 0o755); err != nil {
		return "", fmt.Errorf("making the example recipe %s: %w", name, err)
	}
	g := git{dir: repo}
	g.run("init", "--quiet", "--initial-branch=main")
	for i, version := range versions {
		g.when = firstCommit.AddDate(0, 0, i)
		if i == len(versions)-1 {
			g.run("checkout", "--quiet", "-b", branchOf(versions))
		}
		g.replaceTree(path.Join("recipes", name, version))
		g.run("add", "--all")
		g.run("commit", "--quiet", "--message=chore: publish "+version+" release")
		if i < len(versions)-1 {
			g.run("tag", "--annotate", "--message=chore: publish "+version+" release", version)
		}
	}
	if len(versions) > 1 {
		g.run("checkout", "--quiet", "main")
	}
	if g.err != nil {
		return "", fmt.Errorf("making the example recipe %s: %w", name, g.err)
	}
	return repo, nil
}

// git runs git in dir until something goes wrong; err is what.
type git struct {
	dir  string
	when time.Time
	err  error
}

func (g *git) run(args ...string) {
	if g.err != nil {
		return
	}
	cmd := exec.Command("git", args...)
	cmd.Dir = g.dir
	when := g.when.Format(time.RFC3339)
	// The settings of whoever runs this (signing, hooks, line ends) must not get in.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + g.dir, "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=cc-ci examples", "GIT_AUTHOR_EMAIL=examples@cc-ci.invalid", "GIT_AUTHOR_DATE=" + when,
		"GIT_COMMITTER_NAME=cc-ci examples", "GIT_COMMITTER_EMAIL=examples@cc-ci.invalid", "GIT_COMMITTER_DATE=" + when,
	}
	output, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		g.err = &ccci.Error{Code: ccci.CodeInvalid, Message: "git is not on PATH", Hint: "install git", Err: err}
	case err != nil:
		g.err = fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(output))
	}
}

// replaceTree makes the work tree exactly what is compiled in at root.
func (g *git) replaceTree(root string) {
	if g.err != nil {
		return
	}
	entries, err := os.ReadDir(g.dir)
	for _, e := range entries {
		if err == nil && e.Name() != ".git" {
			err = os.RemoveAll(filepath.Join(g.dir, e.Name()))
		}
	}
	if err == nil {
		err = writeTree(content, root, g.dir)
	}
	g.err = err
}

// writeTree writes the files of fsys below root into dir. Compiled-in files
// carry no permissions: what begins with #! becomes executable.
func writeTree(fsys fs.FS, root, dir string) error {
	return fs.WalkDir(fsys, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		to := filepath.Join(dir, filepath.FromSlash(rel))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			mode = 0o755
		}
		return os.WriteFile(to, text, mode)
	})
}
