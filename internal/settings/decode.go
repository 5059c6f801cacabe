package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

const (
	maxNodes = 50_000 // nodes that one file may expand to through aliases
	maxDepth = 40     // nesting of free-form values (json:)
)

var durationType = reflect.TypeFor[time.Duration]()

// Decoder turns YAML nodes into a struct by its tags, and collects every
// problem instead of stopping at the first.
type Decoder struct {
	file     string
	problems Problems
	lines    map[string]int // the line of every key that the file sets
	nodes    int
}

// NewDecoder returns a decoder for one file, whose name is used in messages only.
func NewDecoder(file string) *Decoder { return &Decoder{file: file, lines: map[string]int{}} }

// Decode reads text into the struct that p points to, which holds its defaults
// already. It reports whether the text was YAML at all; every mistake is noted.
func (d *Decoder) Decode(text []byte, p any) bool {
	root, ok := d.document(text)
	if ok && root != nil {
		d.decode(root, settable(p), "")
	}
	return ok
}

// Problems returns the mistakes noted so far.
func (d *Decoder) Problems() Problems { return d.problems }

// Err returns nil for no mistake, else one ccci.Error with CodeInvalid that
// lists all of them and ends with hint.
func (d *Decoder) Err(hint string) error { return d.problems.Err(hint) }

// Line returns where key, or its nearest parent that the file sets, stands.
func (d *Decoder) Line(key string) int {
	for key != "" {
		if l, ok := d.lines[key]; ok {
			return l
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

// Add notes a mistake. line is from 1, 0 when it has no place in the text.
func (d *Decoder) Add(line int, key, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{
		File: d.file, Line: line, Key: key, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// document parses text as one YAML document. The node is nil for an empty file.
func (d *Decoder) document(text []byte) (*yaml.Node, bool) {
	if len(text) > maxSize {
		d.Add(0, "", "", "the file has %d bytes, more than the %d that are allowed", len(text), maxSize)
		return nil, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, true
	} else if err != nil {
		line, msg := yamlError(err)
		d.Add(line, "", templateHint(text, line), "this is not YAML: %s", msg)
		return nil, false
	}
	if err := dec.Decode(&second); err == nil {
		d.Add(second.Line, "", "", "the file holds more than one YAML document")
		return nil, false
	} else if !errors.Is(err, io.EOF) {
		line, msg := yamlError(err)
		d.Add(line, "", "", "this is not YAML: %s", msg)
		return nil, false
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil, true
	}
	return doc.Content[0], true
}

// yamlError takes the line and the plain words out of the library's error.
func yamlError(err error) (int, string) {
	var le *yaml.LoadError
	if errors.As(err, &le) {
		return le.Mark.Line, le.Message
	}
	return 0, strings.TrimPrefix(err.Error(), "yaml: ")
}

// resolve follows an alias and counts what it costs.
func (d *Decoder) resolve(n *yaml.Node, key string) (*yaml.Node, bool) {
	d.nodes++
	if d.nodes == maxNodes {
		d.Add(n.Line, key, "", "the file expands to more than %d values through its aliases", maxNodes)
	}
	if d.nodes >= maxNodes {
		return nil, false
	}
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias, true
	}
	return n, true
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// decode reads n into v. A null leaves the default.
func (d *Decoder) decode(n *yaml.Node, v reflect.Value, key string) {
	line := n.Line
	n, ok := d.resolve(n, key)
	if !ok {
		return
	}
	if _, known := d.lines[key]; key != "" && !known { // a key stands where its name does, not its first value
		d.lines[key] = line
	}
	if isNull(n) {
		return
	}
	switch {
	case v.Type() == durationType:
		d.duration(n, v, key)
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		Defaults(p.Interface())
		d.decode(n, p.Elem(), key)
		v.Set(p)
	case v.Kind() == reflect.Struct:
		d.structure(n, v, key)
	case v.Kind() == reflect.Map:
		d.mapping(n, v, key)
	case v.Kind() == reflect.Slice:
		d.list(n, v, key)
	case v.Kind() == reflect.Interface:
		if free, ok := d.free(n, key, 0); ok && free != nil {
			v.Set(reflect.ValueOf(free))
		}
	default:
		d.scalar(n, v, key)
	}
}

func (d *Decoder) structure(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, v.Type(), key)
		return
	}
	fields := FieldsOf(v.Type())
	d.pairs(n, key, func(name string, k, value *yaml.Node) {
		for _, f := range fields {
			if f.Key == name {
				d.decode(value, v.Field(f.Index), Join(key, name))
				return
			}
		}
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = f.Key
		}
		d.Add(k.Line, Join(key, name), Suggest(name, names, "known here: "+strings.Join(names, ", ")), "there is no such setting")
	})
}

// pairs calls fn for every pair of a mapping, and reports keys that repeat or are no text.
func (d *Decoder) pairs(n *yaml.Node, key string, fn func(name string, k, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		if template := bareTemplate(n); template != "" {
			d.Add(k.Line, key, "put it in quotes: "+template, "a template stands without quotes")
			continue
		}
		if k.Kind != yaml.ScalarNode || isNull(k) {
			d.Add(k.Line, key, "", "a key must be plain text")
			continue
		}
		if k.ShortTag() == "!!merge" {
			d.Add(k.Line, key, "write the keys out", "merge keys (<<) are not supported here")
			continue
		}
		if first, dup := seen[k.Value]; dup {
			d.Add(k.Line, Join(key, k.Value), "", "this key was already given in line %d", first)
			continue
		}
		seen[k.Value] = k.Line
		d.lines[Join(key, k.Value)] = k.Line
		fn(k.Value, k, value)
	}
}

func (d *Decoder) mapping(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, v.Type(), key)
		return
	}
	m := reflect.MakeMap(v.Type())
	d.pairs(n, key, func(name string, _, value *yaml.Node) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, elem, Join(key, name))
		m.SetMapIndex(reflect.ValueOf(name), elem)
	})
	v.Set(m)
}

// list reads a list. One number alone is a list of one; a text alone is not, since it may
// be several in one.
func (d *Decoder) list(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind == yaml.ScalarNode && v.Type().Elem().Kind() == reflect.Int {
		n = &yaml.Node{Kind: yaml.SequenceNode, Line: n.Line, Content: []*yaml.Node{n}}
		before := len(d.problems)
		defer func() {
			for i := before; i < len(d.problems); i++ { // about the list, as it was written
				d.problems[i].Key = key
			}
		}()
	}
	if n.Kind != yaml.SequenceNode {
		d.wrongType(n, v.Type(), key)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		itemKey := fmt.Sprintf("%s[%d]", key, i)
		elem := out.Index(i)
		if elem.Kind() == reflect.Struct {
			Defaults(elem.Addr().Interface())
		}
		if r, ok := d.resolve(item, itemKey); ok && isNull(r) {
			d.Add(item.Line, itemKey, "", "this item is empty")
			continue
		}
		d.decode(item, elem, itemKey)
	}
	v.Set(out)
}

func (d *Decoder) duration(n *yaml.Node, v reflect.Value, key string) {
	const hint = `write a number with its unit, as 90s, 5m or 1h30m`
	if n.Kind != yaml.ScalarNode {
		d.wrongType(n, v.Type(), key)
		return
	}
	dur, err := time.ParseDuration(n.Value)
	if err != nil {
		d.Add(n.Line, key, hint, "%q is not a duration", n.Value)
		return
	}
	v.SetInt(int64(dur))
}

func (d *Decoder) scalar(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode {
		d.wrongType(n, v.Type(), key)
		return
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.String:
		// Numbers and dates keep their spelling; a bare true may stand for
		// several spellings, so it must be quoted.
		if tag == "!!bool" {
			d.Add(n.Line, key, fmt.Sprintf("put it in quotes: %q", n.Value), "%s is a truth value where a text is wanted", n.Value)
			return
		}
		if tag == "!!binary" || strings.ContainsRune(n.Value, 0) {
			d.Add(n.Line, key, "", "binary data is not a text")
			return
		}
		v.SetString(n.Value)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if err != nil || tag == "!!str" {
			d.wrongType(n, v.Type(), key)
			return
		}
		v.SetInt(int64(i))
	case reflect.Bool:
		if tag != "!!bool" {
			d.wrongType(n, v.Type(), key)
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	default:
		panic("settings: a field of kind " + v.Kind().String()) // a test decodes every field
	}
}

// free converts a node to what encoding/json can marshal.
func (d *Decoder) free(n *yaml.Node, key string, depth int) (any, bool) {
	n, ok := d.resolve(n, key)
	if !ok {
		return nil, false
	}
	if depth > maxDepth {
		d.Add(n.Line, key[:strings.IndexAny(key+".", ".[")], "", "a value is nested deeper than %d levels", maxDepth)
		d.nodes = maxNodes // an alias cycle would be reported over and over
		return nil, false
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.pairs(n, key, func(name string, _, value *yaml.Node) {
			if item, ok := d.free(value, Join(key, name), depth+1); ok {
				m[name] = item
			}
		})
		return m, true
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for i, value := range n.Content {
			item, _ := d.free(value, fmt.Sprintf("%s[%d]", key, i), depth+1)
			list = append(list, item)
		}
		return list, true
	}
	switch n.ShortTag() {
	case "!!null":
		return nil, true
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), true
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return i, true
		}
	case "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && f-f == 0 { // neither infinite nor NaN: JSON has none
			return f, true
		}
	}
	return n.Value, true
}

func (d *Decoder) wrongType(n *yaml.Node, want reflect.Type, key string) {
	got := fmt.Sprintf("%q", n.Value)
	switch n.Kind {
	case yaml.MappingNode:
		if template := bareTemplate(n); template != "" {
			d.Add(n.Line, key, "put it in quotes: "+template, "a template stands without quotes, which YAML takes for a mapping")
			return
		}
		got = "a mapping"
	case yaml.SequenceNode:
		got = "a list"
	}
	d.Add(n.Line, key, "", "this must be a %s, not %s", typeName(want), got)
}

// bareTemplate returns what a person meant who wrote {{.Marker}} without quotes, in quotes: YAML
// reads it as a mapping whose key is a mapping. It returns "" for anything else.
func bareTemplate(n *yaml.Node) string {
	if n.Kind != yaml.MappingNode || n.Style&yaml.FlowStyle == 0 || len(n.Content) != 2 {
		return ""
	}
	inner := n.Content[0]
	if inner.Kind != yaml.MappingNode || len(inner.Content) != 2 || inner.Content[0].Kind != yaml.ScalarNode {
		return ""
	}
	return inQuotes("{{" + inner.Content[0].Value + "}}")
}

func inQuotes(text string) string {
	if strings.Contains(text, `"`) {
		return "'" + text + "'"
	}
	return `"` + text + `"`
}

// templateHint says that quotes are missing where a line that is no YAML holds a value that
// begins with {{.
func templateHint(text []byte, line int) string {
	n := 0
	for l := range strings.Lines(string(text)) {
		if n++; n == line && bareValue.MatchString(l) {
			return `put a value that holds {{ in quotes, as "{{.Marker}}"`
		}
	}
	return ""
}

var bareValue = regexp.MustCompile(`(^|[:,\[{-])\s*\{\{`)

// Join makes a dotted key.
func Join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
