package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/enrol"
)

// choice is the enrolment under which a checkout is tested by hand, and what chose it.
// The files of a checkout never do: an enrolment has waivers and hooks, which belong
// to the operator.
type choice struct {
	name string
	by   string // "--enrolment", "the configuration" or "the directory name"
	typ  string // what the checkout calls itself
	left string // directory of enrolments that is not read, as it is part of the checkout; or ""
}

// choose takes the name from the flag, else from the configuration, else from the
// name of the directory.
func (c *runCmd) choose(cfg config.Config, tree *recipe.Tree) (choice, error) {
	chosen := choice{name: filepath.Base(tree.Dir), by: "the directory name", typ: tree.Recipe}
	if name, ok := configured(cfg.Checkouts, tree.Dir); ok {
		chosen.name, chosen.by = name, "the configuration"
	}
	if c.Enrolment != "" {
		chosen.name, chosen.by = c.Enrolment, "--enrolment"
	}
	if !enrol.ValidName(chosen.name) {
		return choice{}, ccci.Errorf(ccci.CodeInvalid, "%s %q cannot be the name of an enrolment", chosen.by, chosen.name).
			WithHint("name the enrolment with --enrolment NAME: lower-case letters, digits and ._- only, at most 63")
	}
	return chosen, nil
}

// configured returns the enrolment that the configuration states for a directory.
func configured(checkouts []config.Checkout, dir string) (name string, ok bool) {
	at, err := os.Stat(dir)
	if err != nil {
		return "", false
	}
	for _, c := range checkouts {
		if info, err := os.Stat(c.Dir); err == nil && os.SameFile(at, info) {
			return c.Recipe, true
		}
	}
	return "", false
}

// announce names the enrolment and what it allows, before anything starts.
func (c choice) announce(w io.Writer, tests string, r ccci.Recipe) {
	if c.typ != c.name {
		fmt.Fprintf(w, "the recipe calls itself %s in .env.sample; the enrolment is %s all the same\n", c.typ, c.name)
	}
	if c.left != "" {
		fmt.Fprintf(w, "no enrolment is read from %s, which is part of the checkout: its hooks would run on this machine, and its waivers would apply; --tests %s reads it\n", c.left, c.left)
		return
	}
	if r.Dir == "" {
		fmt.Fprintf(w, "%s (from %s) is not enrolled in %s: the generic suite runs, without waivers and hooks\n", c.name, c.by, tests)
		return
	}
	fmt.Fprintf(w, "enrolment: %s (from %s), in %s\n", c.name, c.by, r.Dir)
	waivers := make([]string, 0, len(r.Waivers))
	for _, x := range r.Waivers {
		end := "until " + x.Expires
		if x.Expired(time.Now()) {
			end = "(expired on " + x.Expires + ")"
		}
		waivers = append(waivers, fmt.Sprintf("%s for service %s %s", x.Rule, x.Service, end))
	}
	fmt.Fprintf(w, "waivers: %s\n", listOrNone(waivers))
	fmt.Fprintf(w, "hooks: %s\n", listOrNone(programsOf(r.Dir)))
}

// programsOf lists what an enrolment runs on this machine: hooks and Go tests. A recipe that is
// not enrolled has the dir "".
func programsOf(dir string) []string {
	if dir == "" {
		return nil
	}
	var names []string
	for _, pattern := range []string{"hooks/*", "*_test.go"} {
		paths, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well formed
		for _, path := range paths {
			if name, err := filepath.Rel(dir, path); err == nil {
				names = append(names, filepath.ToSlash(name))
			}
		}
	}
	return names
}

func listOrNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
