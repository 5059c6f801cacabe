package settings

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Doc returns the Markdown tables of every setting of a struct: key, type,
// default and meaning.
func Doc(of reflect.Type) string {
	var b strings.Builder
	b.WriteString("| Key | Type | Default | Meaning |\n|---|---|---|---|\n")
	var later []reflect.Type
	rows(&b, of, "", &later)
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
	for _, f := range FieldsOf(t) {
		key := Join(prefix, f.Key)
		if f.Type.Kind() == reflect.Struct {
			rows(b, f.Type, key, later)
			continue
		}
		name := cmp.Or(f.Form, typeName(f.Type))
		if elem := f.Type; elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			if elem = elem.Elem(); elem.Kind() == reflect.Struct {
				if !slices.Contains(*later, elem) {
					*later = append(*later, elem)
				}
				link := strings.ToLower(strings.ReplaceAll(title(elem), " ", "-"))
				if f.Type.Kind() == reflect.Pointer {
					name = words(elem.Name())
				}
				name = fmt.Sprintf("[%s](#%s)", name, link)
			}
		}
		def := ""
		if f.Default != "" {
			def = "`" + f.Default + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, name, def, strings.ReplaceAll(f.Doc, "|", `\|`))
	}
}
