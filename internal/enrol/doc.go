package enrol

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Doc returns the Markdown tables of every setting: key, type, default and
// meaning. docs/settings.md holds it and a test compares the two.
func Doc() string {
	var b strings.Builder
	b.WriteString("| Key | Type | Default | Meaning |\n|---|---|---|---|\n")
	var later []reflect.Type
	rows(&b, reflect.TypeFor[ccci.Recipe](), "", &later)
	for i := 0; i < len(later); i++ {
		fmt.Fprintf(&b, "\n### %s\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n", title(later[i]))
		rows(&b, later[i], "", &later)
	}
	return b.String()
}

func title(t reflect.Type) string {
	w := words(t.Name())
	return strings.ToUpper(w[:1]) + w[1:]
}

// rows writes the settings of t. Nested structs are written in place with
// dotted keys; those behind lists and pointers get a table of their own in later.
func rows(b *strings.Builder, t reflect.Type, prefix string, later *[]reflect.Type) {
	for _, f := range fieldsOf(t) {
		key := join(prefix, f.key)
		if f.fieldTyp.Kind() == reflect.Struct {
			rows(b, f.fieldTyp, key, later)
			continue
		}
		name := typeName(f.fieldTyp)
		if elem := f.fieldTyp; elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			if elem = elem.Elem(); elem.Kind() == reflect.Struct {
				if !slices.Contains(*later, elem) {
					*later = append(*later, elem)
				}
				link := strings.ToLower(strings.ReplaceAll(title(elem), " ", "-"))
				if f.fieldTyp.Kind() == reflect.Pointer {
					name = words(elem.Name())
				}
				name = fmt.Sprintf("[%s](#%s)", name, link)
			}
		}
		def := ""
		if f.def != "" {
			def = "`" + f.def + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, name, def, strings.ReplaceAll(f.doc, "|", `\|`))
	}
}
