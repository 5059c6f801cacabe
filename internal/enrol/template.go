package enrol

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// templates checks every text below v, whatever its depth.
func (c *checker) templates(key string, v reflect.Value, marker bool) {
	switch v.Kind() {
	case reflect.String:
		c.template(key, v.String(), marker)
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			c.templates(key, v.Elem(), marker)
		}
	case reflect.Struct:
		for _, f := range settings.FieldsOf(v.Type()) {
			c.templates(settings.Join(key, f.Key), v.Field(f.Index), marker)
		}
	case reflect.Slice:
		for i := range v.Len() {
			c.templates(fmt.Sprintf("%s[%d]", key, i), v.Index(i), marker)
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			c.templates(settings.Join(key, k.String()), v.MapIndex(k), marker)
		}
	}
}

// template checks the syntax of a template and the names that it uses.
func (c *checker) template(key, text string, marker bool) {
	if !strings.Contains(text, "{{") {
		return
	}
	t, err := template.New("").Parse(text)
	if err != nil {
		msg := strings.TrimPrefix(err.Error(), "template: :1: ")
		c.bad(key, `a literal {{ is written {{"{{"}}`, "the template does not parse: %s", msg)
		return
	}
	if t.Tree != nil {
		c.nodes(key, t.Tree.Root, marker)
	}
}

// nodes walks a parsed template. Only values, index and plain pipelines are
// allowed: a setting that needs a loop belongs into a hook.
func (c *checker) nodes(key string, n parse.Node, marker bool) {
	switch n := n.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			c.nodes(key, child, marker)
		}
	case *parse.TextNode, *parse.CommentNode:
	case *parse.ActionNode:
		c.nodes(key, n.Pipe, marker)
	case *parse.PipeNode:
		if len(n.Decl) > 0 {
			c.bad(key, "", "a template cannot declare variables here")
		}
		for _, cmd := range n.Cmds {
			c.command(key, cmd, marker)
		}
	default:
		c.bad(key, "use a hook for what needs logic", "%s is more than a setting's template can do", n)
	}
}

func (c *checker) command(key string, cmd *parse.CommandNode, marker bool) {
	c.indexed(key, cmd)
	for _, arg := range cmd.Args {
		switch a := arg.(type) {
		case *parse.FieldNode:
			c.field(key, a.Ident, marker)
		case *parse.PipeNode:
			c.nodes(key, a, marker)
		case *parse.IdentifierNode:
			if !slices.Contains([]string{"index", "urlquery", "js", "html", "print", "len"}, a.Ident) {
				c.bad(key, "", "the function %q is not for settings", a.Ident)
			}
		case *parse.StringNode, *parse.NumberNode:
		default:
			c.bad(key, "", "%s has no meaning here", arg)
		}
	}
}

func (c *checker) field(key string, ident []string, marker bool) {
	known := []string{"Domain", "Recipe", "Domains", "Secrets", "Vars", "Deps"}
	if c.setup {
		known = append(known, "App")
	}
	if marker {
		known = append(known, "Marker")
	}
	switch name := ident[0]; {
	case name == "Marker" && !marker:
		c.bad(key, "", "{{.Marker}} exists only in seed, change and verify steps")
	case !slices.Contains(known, name):
		hint := "known here: ." + strings.Join(known, ", .")
		if near := settings.Nearest(name, known); near != "" {
			hint = fmt.Sprintf("did you mean {{.%s}}?", near)
		}
		c.bad(key, hint, "there is no {{.%s}}", name)
	case len(ident) > 1 && (name == "Domains" || name == "Secrets" || name == "Vars" || name == "Deps"):
		c.known(key, name, ident[1])
	}
}

// indexed checks {{index .Domains "name"}} against what is declared.
func (c *checker) indexed(key string, cmd *parse.CommandNode) {
	if len(cmd.Args) != 3 || cmd.Args[0].String() != "index" {
		return
	}
	f, isField := cmd.Args[1].(*parse.FieldNode)
	s, isString := cmd.Args[2].(*parse.StringNode)
	if isField && isString {
		c.known(key, f.Ident[0], s.Text)
	}
}

// known checks a name in one of the maps. Which secrets exist is the recipe's
// affair and not known here.
func (c *checker) known(key, of, name string) {
	var have []string
	var hint string
	switch of {
	case "Domains":
		have, hint = slices.Sorted(maps.Keys(c.recipe.Domains)), "declare it under domains"
	case "Deps":
		if c.dependencySecret(name) {
			return
		}
		have, hint = c.dependencyNames(), "declare the recipe under depends, or save it in a step of its setup"
		if c.early && slices.ContainsFunc(c.recipe.Depends, func(d ccci.Dependency) bool { return strings.HasPrefix(name, d.Recipe+".") }) {
			hint = "an env file is written before anything is deployed; what setup makes can go into secrets and steps"
		}
	case "Vars":
		have, hint = slices.Sorted(maps.Keys(c.vars)), "save it in an earlier step"
	default:
		return
	}
	if slices.Contains(have, name) {
		return
	}
	c.bad(key, settings.Suggest(name, have, hint), "there is no %q among .%s", name, of)
}

// flat returns every text below v, for looking something up in it.
func flat(v any) []string {
	var out []string
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			out = append(out, v.String())
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			for _, f := range settings.FieldsOf(v.Type()) {
				walk(v.Field(f.Index))
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				walk(v.MapIndex(k))
			}
		}
	}
	walk(reflect.ValueOf(v))
	return out
}
