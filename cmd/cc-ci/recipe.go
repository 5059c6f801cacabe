package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/term"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/plain"
)

type recipeCmd struct {
	Lint  lintCmd  `cmd:"" help:"Judge a recipe by abra's R-rules and our own C-rules. Exits with 1 when a rule of severity error is broken."`
	Rules rulesCmd `cmd:"" help:"List the linter's rules."`
}

type lintCmd struct {
	Dir    string `arg:"" name:"recipe-dir" help:"Checkout of the recipe, or any folder with its files."`
	Format string `enum:"text,json,sarif" default:"text" help:"text, json or sarif."`
	Base   string `placeholder:"VERSION" help:"Release to compare with; default: the one that the checkout builds on. Only in a git checkout."`
}

func (c *lintCmd) Run(a *app) error {
	var base *recipe.Tree
	options := recipe.LintOptions{Bounds: admission.Bounds}
	_, err := revision(a.ctx, c.Dir, "HEAD")
	if err == nil {
		var releases []recipe.Release
		if releases, err = recipe.Releases(a.ctx, c.Dir); err != nil {
			return err
		}
		options.Releases = releases
		tree, cleanup, err := c.baseTree(a, releases)
		if err != nil {
			return err
		}
		defer cleanup()
		base = tree
	} else if c.Base != "" {
		return err
	}
	findings, err := recipe.LintDir(a.ctx, c.Dir, "", base, options)
	if err != nil {
		return err
	}
	for i := range findings { // they quote the recipe, and JSON keeps what some terminals obey
		f := &findings[i]
		f.File, f.Message, f.Hint = plain.Line(f.File), plain.Text(f.Message), plain.Text(f.Hint)
	}
	write := map[string]func() error{
		"text":  func() error { return recipe.WriteText(a.stdout, findings, columns(a.stdout)) },
		"json":  func() error { return recipe.WriteJSON(a.stdout, findings) },
		"sarif": func() error { return recipe.WriteSARIF(a.stdout, findings) },
	}[c.Format]
	if err := write(); err != nil {
		return fmt.Errorf("writing the findings: %w", err)
	}
	for _, f := range findings {
		if f.Severity == "error" {
			return codeError(exitFailed)
		}
	}
	return nil
}

// baseTree lays out the release that the checkout is compared with, or nil.
func (c *lintCmd) baseTree(a *app, releases []recipe.Release) (*recipe.Tree, func(), error) {
	nothing := func() {}
	var base recipe.Release
	if c.Base != "" {
		found, err := recipe.FindRelease(releases, c.Base)
		if err != nil {
			return nil, nothing, err
		}
		base = found
	} else {
		head, err := recipe.Open(c.Dir, "")
		if err != nil {
			return nil, nothing, nil // LintDir tells what is wrong with it
		}
		commit, err := revision(a.ctx, c.Dir, "HEAD")
		if err != nil {
			return nil, nothing, err
		}
		if uncommitted(a.ctx, c.Dir) {
			commit = "" // the files are no commit, and so no release
		}
		found, ok := buildsOn(releases, head.Version(), commit)
		if !ok {
			return nil, nothing, nil
		}
		base = found
	}
	return recipe.AtCommit(a.ctx, c.Dir, base.Commit)
}

// buildsOn returns the release that operators of the checkout have: while its
// version label is not raised yet, the release of that very version.
func buildsOn(releases []recipe.Release, version string, commit ccci.Commit) (recipe.Release, bool) {
	for _, r := range releases {
		if r.Tag == version && r.Commit != commit {
			return r, true
		}
	}
	base, _, ok := recipe.ChooseBase(releases, version, commit)
	return base, ok
}

type rulesCmd struct{}

func (rulesCmd) Run(a *app) error {
	return recipe.WriteRules(a.stdout, columns(a.stdout))
}

// columns is how many characters a line of out may have: what $COLUMNS says, else
// the terminal's width, else 80. Less than 40 counts as 40.
func columns(out io.Writer) int {
	width := 80
	if f, ok := out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	if w, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && w > 0 {
		width = w
	}
	return max(width, 40)
}
