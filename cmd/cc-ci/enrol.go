package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
	"github.com/recipe-maintainers/cc-ci/internal/gitcmd"
	"github.com/recipe-maintainers/cc-ci/internal/scratch"
)

// enrolCmd prepares a repository for cc-ci.
type enrolCmd struct {
	Repo     string `arg:"" help:"OWNER/NAME on the forge."`
	Forge    string `placeholder:"NAME" help:"Which forge, when the configuration has several."`
	Recipe   string `placeholder:"NAME" help:"Recipe it holds, which is the name of its enrolment; default: the repository's name."`
	Checkout string `placeholder:"DIR" help:"Judge this checkout rather than cloning the repository."`
	Anyway   bool   `help:"Enrol it although the linter finds errors."`
	Write    bool   `help:"Put it into the configuration file as well, rather than print the lines."`
}

func (c *enrolCmd) Run(a *app) error {
	ref, err := ccci.ParseRepoRef(c.Repo)
	if err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	entry, err := c.choose(cfg, ref)
	if err != nil {
		return err
	}
	dir, cleanup, err := c.checkout(a, cfg, entry, ref)
	if err != nil {
		return err
	}
	defer cleanup()
	if err := c.lint(a, dir); err != nil {
		return err
	}
	name := c.recipeName(a, dir, ref)
	if err := prepareTests(a, cfg, name); err != nil {
		return err
	}
	return c.tellConfig(a, cfg, entry, ref, name)
}

// choose finds the forge that is meant: the one that is named, the only one, or
// the one of the repository's owner.
func (c *enrolCmd) choose(cfg config.Config, ref ccci.RepoRef) (config.ForgeEntry, error) {
	all := cfg.AllForges()
	var names []string
	var fits []config.ForgeEntry
	for _, f := range all {
		names = append(names, f.Name)
		if f.Name == c.Forge || c.Forge == "" && (len(all) == 1 || f.Org == ref.Owner) {
			fits = append(fits, f)
		}
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case c.Forge != "":
		return config.ForgeEntry{}, ccci.Errorf(ccci.CodeInvalid, "there is no forge called %q", c.Forge).WithHint("the configuration has %s", strings.Join(names, ", "))
	}
	return config.ForgeEntry{}, ccci.Errorf(ccci.CodeInvalid, "it is not clear which forge has %s", ref).WithHint("name it: --forge %s", strings.Join(names, " or --forge "))
}

// checkout returns a folder with the repository, after looking whether cc-ci sees it.
func (c *enrolCmd) checkout(a *app, cfg config.Config, entry config.ForgeEntry, ref ccci.RepoRef) (string, func(), error) {
	nothing := func() {}
	forge, err := openAdapter(a.ctx, cfg, entry, a.logger(cfg), nil)
	if err != nil {
		return "", nothing, err
	}
	defer forge.close()
	source := ccci.Repository{Ref: ref, CloneURL: entry.URL + "/" + ref.String() + ".git"}
	if reader, can := forge.forge.(ccci.RepositoryReader); can {
		source, err = reader.Repository(a.ctx, ref)
		if errors.Is(err, ccci.ErrNotFound) {
			return "", nothing, ccci.Errorf(ccci.CodeNotFound, "%s has no repository %s, or cc-ci's account may not see it", entry.Name, ref).WithHint("%s", seeHint(entry, ref))
		}
		if err != nil {
			return "", nothing, err
		}
	}
	fmt.Fprintf(a.stdout, "%s is on %s\n", ref, entry.Name)
	if c.Checkout != "" {
		dir, err := folder(c.Checkout)
		return dir, nothing, err
	}
	files, err := scratch.Make("enrol")
	if err != nil {
		return "", nothing, err
	}
	dir, cleanup := files.Path, func() { files.Remove() }
	if err := clone(a.ctx, cfg, entry, source.CloneURL, dir); ccci.CodeOf(err) == ccci.CodeRefused {
		cleanup()
		return "", nothing, fmt.Errorf("cloning %s: %w", ref, err)
	} else if err != nil {
		cleanup()
		return "", nothing, ccci.Errorf(ccci.CodeInfra, "cloning %s: %w", ref, err).WithHint("%s", seeHint(entry, ref))
	}
	return dir, cleanup, nil
}

func seeHint(entry config.ForgeEntry, ref ccci.RepoRef) string {
	if entry.Kind == config.KindLocal {
		return fmt.Sprintf("cc-ci forge list shows what there is; cc-ci forge import DIR %s brings it", ref)
	}
	places := placesOf(entry)
	return fmt.Sprintf("check its name; its account needs the right to read, granted at %s or through a team (%s)", places.RightsOf(ref), places.Members)
}

// clone fetches the default branch of a repository with all tags, and lays it out. The
// token goes to its own forge only, and stands on no command line.
func clone(ctx context.Context, cfg config.Config, entry config.ForgeEntry, from, dir string) error {
	o := gitcmd.FetchOptions{Refs: []string{"+HEAD:" + clonedRef}, Tags: true, Limits: gitLimits(cfg.Git)}
	if entry.TokenFile != "" {
		token, err := cfg.ReadSecret(entry.TokenFile)
		if err != nil {
			return err
		}
		o.Token = token
	}
	if _, err := gitcmd.Run(ctx, dir, "init", "--quiet", "--template="); err != nil {
		return err
	}
	if err := gitcmd.Fetch(ctx, dir, from, o); err != nil {
		return err
	}
	if err := gitcmd.CheckTree(ctx, dir, clonedRef, o.Limits); err != nil {
		return err
	}
	_, err := gitcmd.Run(ctx, dir, "checkout", "--quiet", "--detach", clonedRef)
	return err
}

// clonedRef is the local name of a clone's default branch.
const clonedRef = "refs/cc-ci/head"

// lint judges the recipe's shape and shows what it finds.
func (c *enrolCmd) lint(a *app, dir string) error {
	releases, err := recipe.Releases(a.ctx, dir)
	if err != nil {
		return err
	}
	findings, err := recipe.LintDir(a.ctx, dir, "", nil, recipe.LintOptions{Releases: releases, Bounds: admission.Bounds})
	if err != nil {
		return err
	}
	bad := slices.DeleteFunc(slices.Clone(findings), func(f ccci.Finding) bool { return f.Severity != "error" })
	if len(bad) == 0 {
		fmt.Fprintf(a.stdout, "its default branch is a recipe, with %s from the linter and %s\n", number(len(findings), "warning"), number(len(releases), "release"))
		return nil
	}
	if err := recipe.WriteText(a.stdout, bad, columns(a.stdout)); err != nil {
		return fmt.Errorf("writing the findings: %w", err)
	}
	if c.Anyway {
		fmt.Fprintf(a.stdout, "%s from the linter; enrolled anyway, every run will show them\n", number(len(bad), "error"))
		return nil
	}
	return ccci.Errorf(ccci.CodeRecipe, "the recipe breaks %s of the linter", number(len(bad), "rule")).WithHint("mend them on its default branch, or enrol it all the same with --anyway")
}

// recipeName is the name under which the recipe is enrolled. The repository's files do not
// choose it: an enrolment that is there has waivers and hooks, which belong to the operator.
func (c *enrolCmd) recipeName(a *app, dir string, ref ccci.RepoRef) string {
	name := cmp.Or(c.Recipe, ref.Name)
	// A clone's own folder has a name that was made up, which a recipe without TYPE would take.
	tree, err := recipe.Open(dir, "")
	if err == nil && tree.Recipe != name && tree.Recipe != filepath.Base(dir) {
		fmt.Fprintf(a.stdout, "the recipe calls itself %s in .env.sample; it is enrolled as %s (--recipe names another)\n", tree.Recipe, name)
	}
	return name
}

// prepareTests makes the enrolment's folder with a recipe.yml to begin with. What
// is there is read and left alone.
func prepareTests(a *app, cfg config.Config, name string) error {
	settings, err := enrol.Read(cfg.Tests, name)
	if err != nil {
		return err
	}
	path := filepath.Join(cfg.Tests, name, enrol.FileName)
	if settings.Dir != "" {
		fmt.Fprintf(a.stdout, "%s is there and sound; left as it is\n", filepath.Join(cfg.Tests, name))
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "making the enrolment's folder: %w", err).WithHint("name one that you may write to: tests: in the configuration")
	}
	if err := os.WriteFile(path, []byte(enrol.Starter(name)), 0o644); err != nil {
		return ccci.Errorf(ccci.CodeInvalid, "writing %s: %w", path, err).WithHint("name a folder that you may write to: tests: in the configuration")
	}
	fmt.Fprintf(a.stdout, "%s was made: nothing is set in it, so the generic suite runs\n", path)
	return nil
}

// tellConfig says what is left to write into the configuration, or writes it where that
// is asked for: the file belongs to a person, or to Nix.
func (c *enrolCmd) tellConfig(a *app, cfg config.Config, entry config.ForgeEntry, ref ccci.RepoRef, name string) error {
	if slices.ContainsFunc(entry.Repos, func(r config.Repo) bool { return r.Repo == ref.String() }) {
		fmt.Fprintf(a.stdout, "it is already enrolled: the configuration lists %s; nothing is left to do\n", ref)
		return nil
	}
	how, what, err := config.ParseDiscover(entry.Discover)
	if err != nil {
		return err
	}
	if how == config.DiscoverOrg && ref.Owner == entry.Org && name == ref.Name { // what is found has the repository's name
		fmt.Fprintf(a.stdout, "%s watches all of %s; nothing is left to do\n", entry.Name, entry.Org)
		return nil
	}
	listed := config.Repo{Repo: ref.String()}
	if name != ref.Name {
		listed.Recipe = name
	}
	if c.Write {
		return c.writeConfig(a, entry, listed)
	}
	switch how {
	case config.DiscoverTopic:
		fmt.Fprintf(a.stdout, "give the repository the topic %s at %s/%s; cc-ci finds it within minutes. Or:\n", what, entry.URL, ref)
	case config.DiscoverTeam:
		fmt.Fprintf(a.stdout, "add the repository to the team %s at %s; cc-ci finds it within minutes. Or:\n", what, placesOf(entry).Members)
	}
	line := "- " + written(entryOf(listed), false)
	file := a.configPath
	if file == "" {
		file = "a configuration file (cc-ci.yml, named by --config)"
	}
	if len(cfg.Forges) == 0 {
		fmt.Fprintf(a.stdout, "add to %s, and start cc-ci serve again:\n\nrepos:\n  %s\n", file, line)
		return nil
	}
	fmt.Fprintf(a.stdout, "add to %s, below repositories of %s, and start cc-ci serve again:\n\n    repositories:\n      %s\n", file, entry.Name, line)
	return nil
}

func (c *enrolCmd) writeConfig(a *app, entry config.ForgeEntry, listed config.Repo) error {
	if a.configPath == "" {
		return ccci.Errorf(ccci.CodeInvalid, "enrolling %s: there is no configuration file to write into", listed.Repo).
			WithHint("make one and name it by --config or $CC_CI_CONFIG")
	}
	line, added, err := writeEnrolment(a.configPath, entry.Name, listed)
	switch {
	case err != nil:
		return err
	case !added: // by somebody else, since the configuration was read
		fmt.Fprintf(a.stdout, "it is already enrolled: %s lists %s\n", a.configPath, listed.Repo)
	default:
		fmt.Fprintf(a.stdout, "it was added to %s, line %d; start cc-ci serve again\n", a.configPath, line)
	}
	return nil
}
