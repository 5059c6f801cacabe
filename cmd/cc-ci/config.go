package main

import (
	"errors"
	"fmt"

	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Check the configuration and every enrolment; report every mistake."`
	Doc   configDocCmd   `cmd:"" help:"Print every setting with type, default and meaning, as Markdown."`
}

type configCheckCmd struct{}

func (configCheckCmd) Run(a *app) error {
	c, err := a.config()
	names, enrolErr := checkEnrolments(c.Tests)
	if err := errors.Join(err, enrolErr); err != nil {
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

type configDocCmd struct{}

func (configDocCmd) Run(a *app) error {
	fmt.Fprint(a.stdout, settingsDoc())
	return nil
}

// settingsDoc is docs/settings.md; a test compares the two.
func settingsDoc() string {
	doc := "# Settings\n\nThis page is printed by `cc-ci config doc`; do not edit it by hand.\n\n" +
		"## cc-ci.yml: the appliance\n\nNamed by `--config` or `$CC_CI_CONFIG`. Without a file the defaults hold.\n\n" + config.Doc() +
		"\n## tests/&lt;recipe&gt;/recipe.yml: one recipe\n\nEverything is optional; [enrol-recipe.md](enrol-recipe.md) shows how to start.\n\n" + enrol.Doc() +
		"\n## Admission rules\n\nWhat a recipe may not do without a waiver in its recipe.yml.\n\n| Rule | Refuses | Why |\n|---|---|---|\n"
	for _, r := range admission.Rules() {
		doc += fmt.Sprintf("| `%s` | %s | %s |\n", r.Name, r.What, r.Why)
	}
	return doc
}
