package admission

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/template"
	"go.yaml.in/yaml/v4"
)

// source is one compose file as its author wrote it. The model says what is
// deployed; the source says where it came from, and holds keys that swarm drops
// and other tools honour.
type source struct {
	name string
	root *yaml.Node
}

// readSources reads compose files, named relative to dir, within the default limits.
func readSources(dir string, files []string) ([]source, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	lim := DefaultLimits()
	var sources []source
	for _, name := range files {
		text, err := readPlain(root, name, lim.FileBytes)
		if err != nil {
			return nil, err
		}
		node, _, err := checkText(name, text, lim, nil)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{name, node})
	}
	return sources, nil
}

func follow(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// pairs returns the pairs of a mapping, those of merges (<<) after its own.
// CheckFiles bounded what this can come to.
func pairs(n *yaml.Node) [][2]*yaml.Node {
	n = follow(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var own, merged [][2]*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k, v := n.Content[i], n.Content[i+1]; k.ShortTag() == "!!merge" {
			for _, m := range items(v) {
				merged = append(merged, pairs(m)...)
			}
		} else {
			own = append(own, [2]*yaml.Node{k, v})
		}
	}
	return append(own, merged...)
}

// items returns the items of a list, or the node itself as the only one.
func items(n *yaml.Node) []*yaml.Node {
	n = follow(n)
	if n == nil {
		return nil
	}
	if n.Kind == yaml.SequenceNode {
		return n.Content
	}
	return []*yaml.Node{n}
}

// child returns the value under a path of keys, or nil.
func child(n *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		var next *yaml.Node
		for _, p := range pairs(n) {
			if p[0].Value == key {
				next = p[1]
				break
			}
		}
		if n = next; n == nil {
			return nil
		}
	}
	return n
}

// place is where something stands.
type place struct {
	file string
	line int
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// maxLocated bounds how often a line is searched for. A recipe with more refusals
// than this gets the file's name alone for the rest: a search costs as much as the file is long.
const maxLocated = 300

// locate finds the place of the value under path, in the last file that has it. With a
// text, the line within it that holds the text is preferred.
func (j *judge) locate(text string, path ...string) place {
	if j.located++; j.located > maxLocated {
		return place{file: strings.Join(j.stack.Files, ", ")}
	}
	var fallback place
	for _, s := range slices.Backward(j.sources) {
		n := child(s.root, path...)
		if n == nil {
			continue
		}
		if fallback.file == "" {
			fallback = place{s.name, n.Line}
		}
		if text == "" {
			break
		}
		for _, same := range []func(string, string) bool{func(a, b string) bool { return a == b }, strings.Contains} {
			if line := j.lineOf(n, text, same); line > 0 {
				return place{s.name, line}
			}
		}
	}
	if fallback.file != "" || len(path) == 0 {
		return fallback
	}
	if len(path) > 1 {
		return j.locate("", path[:len(path)-1]...)
	}
	return place{file: strings.Join(j.stack.Files, ", ")}
}

// lineOf returns the line of the first key or value below n that is the same
// as text once variables are filled in, or 0. Each node is looked at once, however
// many aliases lead to it.
func (j *judge) lineOf(n *yaml.Node, text string, same func(have, text string) bool) int {
	seen := map[*yaml.Node]bool{}
	var search func(n *yaml.Node) int
	search = func(n *yaml.Node) int {
		if n.Kind == yaml.AliasNode {
			if n = n.Alias; n == nil || seen[n] {
				return 0
			}
			seen[n] = true
		}
		if n.Kind == yaml.ScalarNode && same(j.filled(n), text) {
			return n.Line
		}
		for _, c := range n.Content {
			if line := search(c); line > 0 {
				return line
			}
		}
		return 0
	}
	return search(n)
}

// filled is fill of a scalar, made once.
func (j *judge) filled(n *yaml.Node) string {
	if !strings.Contains(n.Value, "$") {
		return n.Value
	}
	text, ok := j.fills[n]
	if !ok {
		text = j.fill(n.Value)
		j.fills[n] = text
	}
	return text
}

// fill replaces variables as the loader does; a text that it cannot fill stays.
func (j *judge) fill(text string) string {
	if !strings.Contains(text, "$") {
		return text
	}
	out, err := template.Substitute(text, j.stack.Env.Lookup)
	if err != nil {
		return text
	}
	return out
}

// texts returns the keys and values below n as plain texts with variables filled in:
// the items of a list, "key=value" for a mapping.
func (j *judge) texts(n *yaml.Node) []rawText {
	var out []rawText
	n = follow(n)
	if n == nil {
		return nil
	}
	switch n.Kind {
	case yaml.ScalarNode:
		if n.ShortTag() != "!!null" {
			out = append(out, rawText{j.filled(n), n.Line})
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			out = append(out, j.texts(item)...)
		}
	case yaml.MappingNode:
		for _, p := range pairs(n) {
			if v := follow(p[1]); v.Kind == yaml.ScalarNode {
				out = append(out, rawText{p[0].Value + "=" + j.filled(v), p[0].Line})
			} else {
				out = append(out, rawText{p[0].Value, p[0].Line})
			}
		}
	}
	return out
}

type rawText struct {
	text string
	line int
}
