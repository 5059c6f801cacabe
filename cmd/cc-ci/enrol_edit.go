package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// edit brings one entry into the text of a file and into its tree alike.
type edit struct {
	text []byte
	json bool   // the file is JSON, and stays so
	end  string // of a line
}

var errAnchored = errors.New("this list has a name (&) by which it may stand elsewhere too")

// add puts entry at the end of the list that parent has under key; where there is no
// list, it makes one. The line is where the entry stands, or where it could not be added.
func (e *edit) add(parent *yaml.Node, key string, entry *yaml.Node) (line int, err error) {
	list := valueOf(parent, key)
	switch {
	case list == nil:
		return e.newList(parent, key, entry)
	case list.Kind == yaml.AliasNode:
		return list.Line, errors.New(key + " is an alias (*) here, whose list may stand elsewhere too")
	case list.Anchor != "":
		return list.Line, errAnchored
	case isNothing(list) && list.Value == "":
		i := slices.Index(parent.Content, list)
		name := parent.Content[i-1]
		parent.Content[i] = listWith(entry)
		return e.insertLine(name.Line, name.Column+1, "- "+written(entry, false)), nil
	case list.Kind != yaml.SequenceNode:
		return list.Line, errors.New(key + " is not written as a list here")
	case list.Style&yaml.FlowStyle != 0:
		comma := ", "
		if len(list.Content) == 0 {
			comma = ""
		}
		flow := *entry
		flow.Style = yaml.FlowStyle
		list.Content = append([]*yaml.Node{entry}, list.Content...)
		return list.Line, e.insertAfter(list, '[', written(&flow, e.json)+comma)
	}
	last := list.Content[len(list.Content)-1]
	list.Content = append(list.Content, entry)
	return e.insertLine(lastLine(last), list.Column-1, "- "+written(entry, false)), nil
}

// newList gives parent a list. It comes after a setting that fills one line, which the
// organisation of a forge always does.
func (e *edit) newList(parent *yaml.Node, key string, entry *yaml.Node) (line int, err error) {
	if parent.Style&yaml.FlowStyle != 0 {
		flow := *entry
		flow.Style = yaml.FlowStyle
		name, comma := key, ", "
		if e.json {
			name = quoted(key)
		}
		if len(parent.Content) == 0 {
			comma = ""
		}
		parent.Content = append([]*yaml.Node{textNode(key), listWith(entry)}, parent.Content...)
		return parent.Line, e.insertAfter(parent, '{', name+": ["+written(&flow, e.json)+"]"+comma)
	}
	for i := len(parent.Content) - 2; i >= 0; i -= 2 {
		name, value := parent.Content[i], parent.Content[i+1]
		if value.Kind != yaml.ScalarNode || value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || value.Line != name.Line {
			continue
		}
		parent.Content = slices.Insert(parent.Content, i+2, textNode(key), listWith(entry))
		e.insertLine(value.Line, name.Column-1, key+":")
		return e.insertLine(value.Line+1, name.Column+1, "- "+written(entry, false)), nil
	}
	return parent.Line, errors.New("no setting here fills one line, after which the list could begin")
}

// newFile makes the list in a file without any setting: after what is there, as comments are.
func (e *edit) newFile(doc *yaml.Node, key string, entry *yaml.Node) (line int, err error) {
	if len(bytes.TrimSpace(e.text)) > 0 && len(doc.Content) == 1 && doc.Content[0].Value != "" {
		return doc.Content[0].Line, errors.New("this is not a list of settings")
	}
	top := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{textNode(key), listWith(entry)}}
	*doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{top}}
	lines := bytes.Count(e.text, []byte("\n"))
	if len(e.text) > 0 && !bytes.HasSuffix(e.text, []byte("\n")) {
		lines++
	}
	e.insertLine(lines, 0, key+":")
	return e.insertLine(lines+1, 2, "- "+written(entry, false)), nil
}

func listWith(entry *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{entry}}
}

// lastLine is the last line on which something of n begins.
func lastLine(n *yaml.Node) int {
	line := n.Line
	for _, c := range n.Content {
		line = max(line, lastLine(c))
	}
	return line
}

// insertLine puts a line after the one of that number, counted from 1, and returns its own number.
func (e *edit) insertLine(after, indent int, text string) int {
	lines := bytes.SplitAfter(e.text, []byte("\n"))
	after = min(after, len(lines))
	if after > 0 && !bytes.HasSuffix(lines[after-1], []byte("\n")) && len(lines[after-1]) > 0 {
		lines[after-1] = append(slices.Clone(lines[after-1]), e.end...)
	}
	line := []byte(strings.Repeat(" ", max(indent, 0)) + text + e.end)
	e.text = bytes.Join(slices.Insert(lines, after, line), nil)
	return after + 1
}

// insertAfter puts text behind the bracket that n begins with.
func (e *edit) insertAfter(n *yaml.Node, bracket byte, text string) error {
	lines := bytes.SplitAfter(e.text, []byte("\n"))
	at := 0
	for _, line := range lines[:n.Line-1] {
		at += len(line)
	}
	for i, r := range []rune(string(lines[n.Line-1])) {
		if i == n.Column-1 {
			break
		}
		at += len(string(r))
	}
	if at >= len(e.text) || e.text[at] != bracket {
		return errors.New("the list does not begin with its bracket here")
	}
	e.text = slices.Insert(slices.Clone(e.text), at+1, []byte(text)...)
	return nil
}
