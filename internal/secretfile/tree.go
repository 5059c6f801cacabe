package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const (
	maxSize  = 4 << 20 // of a file, in bytes
	maxDepth = 40
	// metadataKey is where sops keeps what belongs to itself.
	metadataKey = "sops"
	// indent is sops' own, so that a file looks the same whoever wrote it.
	indent = 4
)

// parse reads one YAML document whose root is a mapping. It refuses what sops would
// not bring back as it was: anchors and aliases, tags, keys that are no text.
func parse(name string, text []byte) (*yaml.Node, error) {
	invalid := func(line int, format string, args ...any) error {
		at := name
		if line > 0 {
			at = fmt.Sprintf("%s:%d", name, line)
		}
		return ccci.Errorf(ccci.CodeInvalid, "%s: %s", at, fmt.Sprintf(format, args...)).WithHint("write one key: value per line; a text of several lines begins with |")
	}
	if len(text) > maxSize {
		return nil, invalid(0, "the file has %d bytes, more than the %d that are allowed", len(text), maxSize)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	doc, second := new(yaml.Node), new(yaml.Node)
	err := dec.Decode(doc)
	if err == nil && dec.Decode(second) == nil {
		return nil, invalid(second.Line, "the file holds more than one YAML document")
	}
	var syntax *yaml.LoadError
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		return nil, invalid(0, "the file is empty")
	case errors.As(err, &syntax) && strings.ContainsAny(syntax.Message, "'\"`"): // it may repeat a value
		return nil, invalid(syntax.Mark.Line, "this is not YAML; a value that begins with *, &, ! or another sign must be in quotes")
	case errors.As(err, &syntax):
		return nil, invalid(syntax.Mark.Line, "this is not YAML: %s", syntax.Message)
	case err != nil:
		return nil, invalid(0, "this is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	case doc.Content[0].Kind != yaml.MappingNode:
		return nil, invalid(doc.Content[0].Line, "keys with values are expected here")
	}
	if line, problem := strange(doc.Content[0], 0); problem != "" {
		return nil, invalid(line, "%s", problem)
	}
	return doc, nil
}

// strange returns where a tree holds what this package does not write, and what.
func strange(n *yaml.Node, depth int) (line int, problem string) {
	switch {
	case depth > maxDepth:
		return n.Line, fmt.Sprintf("values are nested deeper than %d", maxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return n.Line, "anchors and aliases (& and *) are not kept in an encrypted file; a value that begins so must be in quotes"
	case n.Style&yaml.TaggedStyle != 0:
		return n.Line, "tags (!) are not kept in an encrypted file; a value that begins so must be in quotes"
	case n.Kind == yaml.MappingNode:
		seen := map[string]bool{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 {
				return key.Line, "a key must be a text; put it in quotes"
			}
			if seen[key.Value] {
				return key.Line, fmt.Sprintf("%s is there twice", key.Value)
			}
			seen[key.Value] = true
		}
	}
	for _, child := range n.Content {
		if line, problem := strange(child, depth+1); problem != "" {
			return line, problem
		}
	}
	return 0, ""
}

// emit writes a tree as YAML. It works on a copy: the encoder changes nodes.
func emit(doc *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(indent)
	if err := enc.Encode(clone(doc)); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// walk calls visit for each scalar value in the order of the file, which is the
// order of the MAC. The items of a list have the path of the list.
func walk(n *yaml.Node, path []string, visit func(n *yaml.Node, path []string) error) error {
	switch n.Kind {
	case yaml.ScalarNode:
		return visit(n, path)
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			if err := walk(n.Content[i+1], append(slices.Clip(path), n.Content[i].Value), visit); err != nil {
				return err
			}
		}
	case yaml.SequenceNode, yaml.DocumentNode:
		for _, child := range n.Content {
			if err := walk(child, path, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// walkComments replaces each line of a comment, without its #, by what visit makes
// of it. The path is that of the mapping or list in which it stands.
func walkComments(n *yaml.Node, path []string, visit func(line string, path []string) (string, error)) error {
	edit := func(comment *string, path []string) error {
		if *comment == "" {
			return nil
		}
		lines := strings.Split(*comment, "\n")
		for i, line := range lines {
			body, ok := strings.CutPrefix(line, "#")
			if !ok || body == "" {
				continue
			}
			changed, err := visit(body, path)
			if err != nil {
				return err
			}
			lines[i] = "#" + changed
		}
		*comment = strings.Join(lines, "\n")
		return nil
	}
	all := func(n *yaml.Node, path []string) error {
		return errors.Join(edit(&n.HeadComment, path), edit(&n.LineComment, path), edit(&n.FootComment, path))
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if err := all(n, path); err != nil {
			return err
		}
		for _, child := range n.Content {
			if err := errors.Join(all(child, path), walkComments(child, path, visit)); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			key, val := n.Content[i], n.Content[i+1]
			inner := append(slices.Clip(path), key.Value)
			own := inner
			if val.Kind == yaml.ScalarNode {
				own = path
			}
			if err := errors.Join(all(key, path), all(val, own), walkComments(val, inner, visit)); err != nil {
				return err
			}
		}
	case yaml.SequenceNode:
		for _, child := range n.Content {
			if err := errors.Join(all(child, path), walkComments(child, path, visit)); err != nil {
				return err
			}
		}
	}
	return nil
}

// containers returns the path of each mapping and list, the root's first.
func containers(n *yaml.Node, path []string) [][]string {
	var all [][]string
	switch n.Kind {
	case yaml.MappingNode:
		all = append(all, path)
		for i := 0; i < len(n.Content); i += 2 {
			all = append(all, containers(n.Content[i+1], append(slices.Clip(path), n.Content[i].Value))...)
		}
	case yaml.SequenceNode, yaml.DocumentNode:
		if n.Kind == yaml.SequenceNode {
			all = append(all, path)
		}
		for _, child := range n.Content {
			all = append(all, containers(child, path)...)
		}
	}
	return all
}

// commentTag marks an item of a list that is a comment.
const commentTag = "!comment"

// liftComments makes comments of the items of lists that are such.
func liftComments(n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		var items []*yaml.Node
		pending := ""
		for _, item := range n.Content {
			if item.Tag == commentTag {
				pending += "#" + item.Value + "\n"
				continue
			}
			item.HeadComment = strings.TrimSuffix(pending+item.HeadComment, "\n")
			pending = ""
			items = append(items, item)
		}
		if rest := strings.TrimSuffix(pending, "\n"); rest != "" && len(items) > 0 {
			items[len(items)-1].FootComment = rest
		}
		n.Content = items
	}
	for _, child := range n.Content {
		liftComments(child)
	}
}

// where is what sops binds an encrypted value to.
func where(path []string) string { return strings.Join(path, ":") + ":" }

// find returns the value at a path of keys, or nil.
func find(n *yaml.Node, path []string) *yaml.Node {
	for _, name := range path {
		var next *yaml.Node
		if n.Kind == yaml.MappingNode {
			for i := 0; i < len(n.Content); i += 2 {
				if n.Content[i].Value == name {
					next = n.Content[i+1]
				}
			}
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, clone(child))
	}
	return &c
}

// block turns {a: b} into the form with one line per key.
func block(n *yaml.Node) {
	if len(n.Content) > 0 {
		n.Style &^= yaml.FlowStyle
	}
	for _, child := range n.Content {
		block(child)
	}
}
