package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/term"

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
		tree, cleanup, err := c.baseTree(a, &options)
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

// baseTree lays out the release that the checkout is compared with, or nil: the one that was
// named, else the one that operators of it have. While its version label is not raised
// yet, that is the release of that very version, which goes into the options.
func (c *lintCmd) baseTree(a *app, options *recipe.LintOptions) (*recipe.Tree, func(), error) {
	base, err := c.baseRelease(a, options)
	if err != nil || base == nil {
		return nil, func() {}, err
	}
	return recipe.AtCommit(a.ctx, c.Dir, base.Commit)
}

func (c *lintCmd) baseRelease(a *app, options *recipe.LintOptions) (*recipe.Release, error) {
	if head, err := recipe.Open(c.Dir, ""); err == nil { // LintDir tells what is wrong with another
		commit, err := revision(a.ctx, c.Dir, "HEAD")
		if err != nil {
			return nil, err
		}
		if uncommitted(a.ctx, c.Dir) {
			commit = "" // the files are no commit, and so no release
		}
		candidates, err := recipe.Candidates(a.ctx, c.Dir, options.Releases, commit, head.Version())
		if err != nil {
			return nil, err
		}
		if r, ok := recipe.Unbumped(candidates, head.Version()); ok {
			options.Unbumped = &r
		}
		if base, _, ok := recipe.ChooseBase(candidates, head.Version()); c.Base == "" && options.Unbumped == nil && ok {
			return &base, nil
		}
	}
	if c.Base == "" {
		return options.Unbumped, nil
	}
	base, err := recipe.FindRelease(options.Releases, c.Base)
	return &base, err
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
