package enrol

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// steps checks one list of steps. marker says whether {{.Marker}} exists there.
func (c *checker) steps(list string, steps []ccci.Step, marker bool) {
	names := map[string]string{}
	for i, s := range steps {
		k := fmt.Sprintf("%s[%d]", list, i)
		c.unique(names, k+".name", s.Name)
		switch {
		case s.Name == "":
			c.bad(k, "", "a step needs a name, it is shown in the result")
		case !stepName.MatchString(s.Name):
			c.bad(k+".name", "", "%q is not lower-case words, at most 80 characters", s.Name)
		}
		if s.Timeout < 0 || s.Timeout > maxWait {
			c.bad(k+".timeout", "", "%s is not between 0s and %s", s.Timeout, maxWait)
		}
		c.exactlyOne(k, map[string]bool{
			"http": s.HTTP != nil, "tcp": s.TCP != nil, "exec": s.Exec != nil, "browser": len(s.Browser) > 0,
		})
		if s.HTTP != nil {
			c.httpStep(k+".http", s.HTTP, marker)
		}
		if s.TCP != nil {
			c.service(k+".tcp.service", s.TCP.Service)
			c.port(k+".tcp.port", s.TCP.Port)
		}
		if s.Exec != nil {
			c.execStep(k+".exec", s.Exec)
		}
		c.browser(k+".browser", s.Browser, marker)
		c.templates(k, reflect.ValueOf(s), marker)
	}
}

// unique demands that the checks of one list have names of their own in the result. taken has the
// key of each name so far.
func (c *checker) unique(taken map[string]string, key, name string) {
	if name == "" {
		return
	}
	word := ccci.CheckWord(name)
	if first := taken[word]; first != "" {
		c.bad(key, "give each another name", "%q has the same name in the result as %s in line %d", name, first, c.Line(first))
		return
	}
	taken[word] = key
}

// exactlyOne demands that one of several keys is set.
func (c *checker) exactlyOne(key string, set map[string]bool) {
	all := slices.Sorted(maps.Keys(set))
	var have []string
	for _, name := range all {
		if set[name] {
			have = append(have, name)
		}
	}
	switch len(have) {
	case 1:
	case 0:
		c.bad(key, "", "exactly one of %s is needed", strings.Join(all, ", "))
	default:
		c.bad(key, "make it two entries", "%s exclude each other", strings.Join(have, " and "))
	}
}

func (c *checker) domain(key, name string) {
	if name == "" {
		return
	}
	if _, ok := c.recipe.Domains[name]; !ok {
		known := slices.Sorted(maps.Keys(c.recipe.Domains))
		c.bad(key, settings.Suggest(name, known, "declare it under domains"), "there is no domain called %q", name)
	}
}

func (c *checker) port(key string, port int) {
	if port < 1 || port > 65535 {
		c.bad(key, "", "%d is not a port, 1 to 65535", port)
	}
}

func (c *checker) service(key, name string) {
	if !objectName.MatchString(name) {
		c.bad(key, "", "%q is not the name of a service in a compose file", name)
	}
}

func (c *checker) httpPath(key, p string) {
	if !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "{{") {
		c.bad(key, "", "%q must start with /", p)
	}
}

func (c *checker) probe(p ccci.Probe, k string) {
	if !stepName.MatchString(p.Name) {
		c.bad(k+".name", "", "%q is not a name of lower-case words, at most 80 characters", p.Name)
	}
	c.exactlyOne(k, map[string]bool{"http": p.HTTP != nil, "tcp": p.TCP != nil})
	if p.Stable < 1 || p.Stable > 100 {
		c.bad(k+".stable", "", "%d is not between 1 and 100", p.Stable)
	}
	if p.HTTP != nil {
		c.domain(k+".http.domain", p.HTTP.Domain)
		c.httpPath(k+".http.path", p.HTTP.Path)
		c.status(k+".http.status", p.HTTP.Status)
	}
	if p.TCP != nil {
		c.service(k+".tcp.service", p.TCP.Service)
		c.port(k+".tcp.port", p.TCP.Port)
	}
	c.templates(k, reflect.ValueOf(p), false)
}

func (c *checker) httpStep(k string, s *ccci.HTTPStep, marker bool) {
	c.domain(k+".domain", s.Domain)
	if !method.MatchString(s.Method) {
		c.bad(k+".method", "write it in capitals, as POST", "%q is not a request method", s.Method)
	}
	c.httpPath(k+".path", s.Path)
	c.status(k+".expect.status", s.Expect.Status)
	bodies := 0
	for _, set := range []bool{s.JSON != nil, s.Form != nil, s.Body != ""} {
		if set {
			bodies++
		}
	}
	if bodies > 1 {
		c.bad(k, "", "json, form and body exclude each other")
	}
	if s.Basic != "" && !strings.Contains(s.Basic, ":") {
		c.bad(k+".basic", "", "it must be user:password")
	}
	c.saves(k, s.Save)
	for _, name := range slices.Sorted(maps.Keys(s.Save)) {
		if strings.TrimSpace(s.Save[name]) == "" {
			c.bad(k+".save."+name, "", "it needs a dotted path into the response, as items.0.id")
		}
	}
}

func (c *checker) saves(k string, save map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(save)) {
		if !envKey.MatchString(name) {
			c.bad(k+".save."+name, "", "%q is not the name of a variable: letters, digits and _", name)
		}
	}
}

func (c *checker) execStep(k string, s *ccci.ExecStep) {
	c.service(k+".service", s.Service)
	if (len(s.Command) == 0 || s.Command[0] == "") && !c.brokenBelow(k+".command") {
		c.bad(k+".command", `write a list, as ["psql", "-c", "select 1"]`, "a program to run is needed")
	}
	if s.Exit < 0 || s.Exit > 255 {
		c.bad(k+".exit", "", "%d is not an exit code, 0 to 255", s.Exit)
	}
	c.saves(k, s.Save)
	for _, name := range slices.Sorted(maps.Keys(s.Save)) {
		if s.Save[name] != "stdout" {
			c.bad(k+".save."+name, `only "stdout" can be saved`, "%q is not an output", s.Save[name])
		}
	}
}

func (c *checker) browser(key string, steps []ccci.BrowserStep, marker bool) {
	for i, s := range steps {
		k := fmt.Sprintf("%s[%d]", key, i)
		c.exactlyOne(k, map[string]bool{
			"open": s.Open != "", "fill": s.Fill != "", "select": s.Select != "", "click": s.Click != "",
			"see": s.See != "", "text": s.Text != "", "url": s.URL != "", "press": s.Press != "",
		})
		if s.Open != "" {
			c.httpPath(k+".open", s.Open)
		}
		if s.Domain != "" && s.Open == "" {
			c.bad(k+".domain", "", "domain goes with open only")
		}
		c.domain(k+".domain", s.Domain)
		if s.Value != "" && s.Fill == "" && s.Select == "" {
			c.bad(k+".value", "", "value goes with fill and select only")
		}
		if s.Select != "" && s.Value == "" {
			c.bad(k, "", "select needs a value")
		}
		if strings.HasPrefix(key, "screenshot") {
			c.templates(k, reflect.ValueOf(s), marker)
		}
	}
}
