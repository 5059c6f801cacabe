package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Check the configuration and every enrolment; report every mistake."`
	Doc   configDocCmd   `cmd:"" help:"Print every setting, or every admission rule, as Markdown."`
}

type configCheckCmd struct{}

func (configCheckCmd) Run(a *app) error {
	c, err := a.config()
	names, enrolErr := checkEnrolments(c.Tests)
	if err := errors.Join(err, enrolErr, checkWaivers(c.Tests, names, time.Now())); err != nil {
		return err
	}
	switch len(names) {
	case 0:
		fmt.Fprintf(a.stdout, "the configuration is sound; no recipe is enrolled in %s, so all get the generic suite\n", c.Tests)
	case 1:
		fmt.Fprintf(a.stdout, "the configuration and the enrolment of %s in %s are sound\n", names[0], c.Tests)
	default:
		fmt.Fprintf(a.stdout, "the configuration and %d enrolments in %s are sound\n", len(names), c.Tests)
	}
	return nil
}

// checkEnrolments reads every enrolment and returns the names of all, and what
// is wrong with any of them.
func checkEnrolments(tests string) ([]string, error) {
	names, err := enrol.List(tests)
	errs := []error{err}
	for _, name := range names {
		_, err := enrol.Read(tests, name)
		errs = append(errs, err)
	}
	return names, errors.Join(errs...)
}

// checkWaivers says which waivers of the enrolments lift nothing. It is apart from
// checkEnrolments, as a day that passes must not keep a server from starting.
func checkWaivers(tests string, names []string, now time.Time) error {
	var errs []error
	for _, name := range names {
		if r, err := enrol.Read(tests, name); err == nil {
			errs = append(errs, admission.CheckWaivers(filepath.Join(tests, name, enrol.FileName), r.Waivers, now))
		}
	}
	return errors.Join(errs...)
}

type configDocCmd struct {
	Page string `arg:"" optional:"" enum:"settings,admission" default:"settings" help:"settings (default), or admission: what a recipe may not do."`
}

func (c *configDocCmd) Run(a *app) error {
	page := settingsDoc()
	if c.Page == "admission" {
		page = admission.Doc()
	}
	fmt.Fprint(a.stdout, page)
	return nil
}

// settingsDoc is docs/settings.md; a test compares the two.
func settingsDoc() string {
	return "# Settings\n\nThis page is printed by `cc-ci config doc`; do not edit it by hand.\n\n" +
		"## cc-ci.yml: the appliance\n\nNamed by `--config` or `$CC_CI_CONFIG`; else `cc-ci.yml` of the working directory, which cc-ci names when it reads it. That file is not read unasked when the directory is a recipe, or when another account than yours and root owns or can write the file: a configuration names programs that run on this machine. Without a file the defaults hold.\n\n" + config.Doc() +
		"\n## tests/&lt;recipe&gt;/recipe.yml: one recipe\n\nEverything is optional; [enrol-recipe.md](enrol-recipe.md) shows how to start, " +
		"[admission.md](admission.md) which rules a waiver may lift.\n\n" + enrol.Doc()
}
