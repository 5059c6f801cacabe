package enrol

import (
	"fmt"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// saved calls f with every variable that steps save.
func saved(steps []ccci.Step, f func(name string)) {
	for _, s := range steps {
		if s.HTTP != nil {
			for name := range s.HTTP.Save {
				f(name)
			}
		}
		if s.Exec != nil {
			for name := range s.Exec.Save {
				f(name)
			}
		}
	}
}

// depends checks the dependencies and notes what templates may ask of them.
func (c *checker) depends() {
	seen := map[string]bool{}
	for i, d := range c.recipe.Depends {
		k := fmt.Sprintf("depends[%d]", i)
		switch {
		case d.Recipe == "":
			c.bad(k, "add recipe: with the name of the recipe", "a dependency needs its recipe")
		case !recipeName.MatchString(d.Recipe):
			c.bad(k+".recipe", "a name has lower-case letters, digits and ._- only, at most 63", "%q is not the name of a recipe", d.Recipe)
		case seen[d.Recipe]:
			c.bad(k+".recipe", "put all its setup steps under one entry", "%s is already a dependency", d.Recipe)
		}
		seen[d.Recipe] = true
		if strings.HasPrefix(d.Source, "-") || strings.ContainsAny(d.Source, " \t\r\n\x00") {
			c.bad(k+".source", "write a URL that git can clone from", "%q is not the address of a repository", d.Source)
		}
		c.tag(k+".version", d.Version)
		c.setup = true
		c.steps(k+".setup", d.Setup, false)
		c.setup = false
	}
}

// dependencyNames lists what a template may take from .Deps, apart from secrets. Before
// anything is deployed, when env files are written, only names of hosts are known.
func (c *checker) dependencyNames() (names []string) {
	for _, d := range c.recipe.Depends {
		names = append(names, d.Recipe+".domain", d.Recipe+".host")
		if !c.early {
			saved(d.Setup, func(name string) { names = append(names, d.Recipe+"."+name) })
		}
	}
	slices.Sort(names)
	return names
}

// dependencySecret reports whether name is that of a dependency's secret. Which
// ones exist is its recipe's affair and not known here.
func (c *checker) dependencySecret(name string) bool {
	return !c.early && slices.ContainsFunc(c.recipe.Depends, func(d ccci.Dependency) bool {
		return strings.HasPrefix(name, d.Recipe+".secret.")
	})
}
