package admission

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Limits bound the compose files of a recipe. Zero fields have the value of
// [DefaultLimits].
type Limits struct {
	FileBytes  int64 // one file
	TotalBytes int64 // all files together
	Depth      int   // nesting, counted after aliases are followed
	Aliases    int   // uses of anchors in one file, merges (<<) included
	Nodes      int   // values of one file after aliases are expanded
	Expanded   int   // bytes of all values together, aliases and variables filled in
}

// DefaultLimits is ten times what the largest known recipe needs.
func DefaultLimits() Limits {
	return Limits{FileBytes: 128 << 10, TotalBytes: 512 << 10, Depth: 24, Aliases: 200, Nodes: 20_000, Expanded: 2 << 20}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	for _, f := range []struct {
		have *int
		def  int
	}{{&l.Depth, d.Depth}, {&l.Aliases, d.Aliases}, {&l.Nodes, d.Nodes}, {&l.Expanded, d.Expanded}} {
		if *f.have == 0 {
			*f.have = f.def
		}
	}
	if l.FileBytes == 0 {
		l.FileBytes = d.FileBytes
	}
	if l.TotalBytes == 0 {
		l.TotalBytes = d.TotalBytes
	}
	return l
}

// CheckFiles reads files, named relative to dir, and checks their raw text
// before anything expands it: size, nesting, aliases and what they expand to,
// repeated keys, several documents, tags that loaders understand differently.
// What a yaml-* rule refuses is an Error with CodeRefused, text that is no YAML
// mapping one with CodeInvalid; both name file and line. lookup gives the values of
// variables, for the size that texts have with them.
func CheckFiles(dir string, files []string, lim Limits, lookup func(string) (string, bool)) error {
	lim = lim.orDefault()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("checking the compose files of %s: %w", dir, err)
	}
	defer root.Close()
	var total int64
	if lookup == nil {
		lookup = func(string) (string, bool) { return "", false }
	}
	expanded, count, refers := 0, sections{}, referred{root: root, dir: dir, lookup: lookup}
	for _, name := range files {
		text, err := readPlain(root, name, lim.FileBytes)
		if err != nil {
			return err
		}
		if total += int64(len(text)); total > lim.TotalBytes {
			return ccci.Errorf(ccci.CodeRefused, "%s: the compose files have more than %d KiB together (rule yaml-size)", name, lim.TotalBytes>>10).
				WithHint("a recipe of that size cannot be reviewed; split it")
		}
		doc, size, err := checkText(name, text, lim, lookup)
		if err != nil {
			return err
		}
		if expanded += size.bytes; expanded > lim.Expanded {
			return ccci.Errorf(ccci.CodeRefused, "%s: with aliases and variables filled in, the compose files have more than %d KiB (rule yaml-expansion)", name, lim.Expanded>>10).
				WithHint("a long value that many places repeat belongs into a config")
		}
		if err := count.add(name, doc); err != nil {
			return err
		}
		if err := refers.add(name, doc); err != nil {
			return err
		}
	}
	return nil
}

// readPlain reads a regular file below root, never through a symbolic link.
func readPlain(root *os.Root, name string, limit int64) ([]byte, error) {
	if err := plainPath(root, name); err != nil {
		return nil, err
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(text)) > limit {
		return nil, ccci.Errorf(ccci.CodeRefused, "%s has more than the %d KiB that a compose file may have (rule yaml-size)", name, limit>>10).
			WithHint("move payload into files under configs")
	}
	return text, nil
}

// plainPath refuses names that leave root, that pass a symbolic link or git's
// own folder, and what is not a regular file.
func plainPath(root *os.Root, name string) error {
	if !filepath.IsLocal(name) {
		return ccci.Errorf(ccci.CodeRefused, "%s lies outside the recipe (rule file-outside)", name).
			WithHint("name files relative to the recipe's root")
	}
	clean := filepath.Clean(name)
	for i := range len(clean) + 1 {
		if i < len(clean) && clean[i] != filepath.Separator {
			continue
		}
		part := clean[:i]
		if filepath.Base(part) == ".git" {
			return ccci.Errorf(ccci.CodeRefused, "%s lies within git's own folder (rule file-outside)", name)
		}
		info, err := root.Lstat(part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return ccci.Errorf(ccci.CodeInvalid, "%s does not exist in the recipe", name).
				WithHint("COMPOSE_FILE and file: name paths relative to the recipe's root")
		case err != nil:
			return ccci.Errorf(ccci.CodeInvalid, "%s cannot be read: %w", name, err)
		case info.Mode()&fs.ModeSymlink != 0:
			return ccci.Errorf(ccci.CodeRefused, "%s is a symbolic link (rule symlink)", part).
				WithHint("put the file itself into the recipe")
		case i == len(clean) && !info.Mode().IsRegular():
			return ccci.Errorf(ccci.CodeRefused, "%s is not a regular file (rule file-outside)", name)
		}
	}
	return nil
}

// checkText checks the text of one compose file, and returns its mapping and what it comes to.
func checkText(name string, text []byte, lim Limits, lookup func(string) (string, bool)) (*yaml.Node, extent, error) {
	if int64(len(text)) > lim.FileBytes {
		return nil, extent{}, ccci.Errorf(ccci.CodeRefused, "%s has more than the %d KiB that a compose file may have (rule yaml-size)", name, lim.FileBytes>>10)
	}
	if i := badByte(text); i >= 0 {
		return nil, extent{}, ccci.Errorf(ccci.CodeRefused, "%s:%d: the text holds bytes that are not printable UTF-8 (rule yaml-text)", name, 1+bytes.Count(text[:i], []byte("\n")))
	}
	doc, err := parse(name, text, lim.Depth)
	if err != nil {
		return nil, extent{}, err
	}
	w := &walker{name: name, lim: lim, lookup: lookup, known: map[*yaml.Node]extent{}, open: map[*yaml.Node]bool{}}
	size, err := w.walk(doc, 0)
	return doc, size, err
}

// badByte returns the offset of the first byte that no compose file has a
// reason to hold, or -1: broken UTF-8, control characters, and what makes a reviewer
// read something else: bidirectional marks, and ends of lines that only YAML knows.
func badByte(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && n == 1,
			r < ' ' && r != '\n' && r != '\r' && r != '\t', r >= 0x7f && r < 0xa0,
			r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
			return i
		}
		i += n
	}
	return -1
}

// parse returns the root of the only document of a text: a mapping.
func parse(name string, text []byte, depth int) (*yaml.Node, error) {
	// The parser's own limit guards its recursion; ours, in walk, has the better words.
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(2*depth+8))))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	var doc, more yaml.Node
	err = loader.Load(&doc)
	if err == nil && doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		err = loader.Load(&more)
		if err == nil {
			return nil, ccci.Errorf(ccci.CodeRefused, "%s:%d: the file holds more than one YAML document (rule yaml-documents)", name, max(more.Line, 1)).
				WithHint("a loader reads the first one and drops the rest; use one file each")
		}
	}
	var le *yaml.LoadError
	switch {
	case errors.Is(err, io.EOF) && len(doc.Content) == 0:
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s:1: the file is empty", name)
	case errors.Is(err, io.EOF):
	case errors.As(err, &le) && strings.Contains(le.Message, "depth"):
		return nil, ccci.Errorf(ccci.CodeRefused, "%s:%d: values are nested deeper than %d levels (rule yaml-depth)", name, max(le.Mark.Line, 1), depth)
	case errors.As(err, &le):
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s:%d: this is not YAML: %s", name, max(le.Mark.Line, 1), le.Message)
	case err != nil:
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s: this is not YAML: %w", name, err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s:1: a compose file is one mapping, with services in it", name)
	}
	return doc.Content[0], nil
}

// extent is what a node comes to when its aliases are followed.
type extent struct{ nodes, depth, bytes int }

// walker measures a tree in time linear in its text, however much its aliases
// expand to.
type walker struct {
	name    string
	lim     Limits
	lookup  func(string) (string, bool) // nil: no variable has a value
	aliases int
	known   map[*yaml.Node]extent // of anchored nodes
	open    map[*yaml.Node]bool   // being walked: an alias to one is a cycle
}

func (w *walker) refuse(n *yaml.Node, hint, format string, args ...any) error {
	return ccci.Errorf(ccci.CodeRefused, "%s:%d: "+format, append([]any{w.name, n.Line}, args...)...).WithHint("%s", hint)
}

// writtenTags may stand in a file, before a value. Every other tag, and every tag
// before a key, is read differently by one library than by the next: a key tagged
// !!merge is a merge to some and an ordinary key to docker/cli's loader.
var writtenTags = map[string]bool{
	"!!str": true, "!!int": true, "!!float": true, "!!bool": true, "!!null": true, "!!map": true, "!!seq": true,
}

// resolvedTags are those that a plain value has by its form.
var resolvedTags = map[string]bool{"!!merge": true, "!!timestamp": true}

// anchorName is read alike by all versions of YAML: some end a name at a colon.
var anchorName = regexp.MustCompile(`^[A-Za-z0-9_-]*$`)

func (w *walker) tag(n *yaml.Node) error {
	if !anchorName.MatchString(n.Anchor) {
		return w.refuse(n, "loaders disagree about where it ends", "the anchor %q is not made of letters, digits, hyphens and underscores (rule yaml-tag)", short(n.Anchor))
	}
	tag := n.ShortTag()
	if n.Tag == "!" {
		tag = n.Tag // "! <<" is a merge to docker/cli's loader, and a text to others
	}
	if writtenTags[tag] || resolvedTags[tag] && !tagged(n) {
		return nil
	}
	return w.refuse(n, "loaders disagree about it; write the value plainly", "the tag %s is not allowed (rule yaml-tag)", short(tag))
}

// tagged reports whether a tag is written before a node.
func tagged(n *yaml.Node) bool { return n.Style&yaml.TaggedStyle != 0 || n.Tag == "!" }

func (w *walker) walk(n *yaml.Node, level int) (extent, error) {
	if level > w.lim.Depth {
		return extent{}, w.refuse(n, "", "values are nested deeper than %d levels (rule yaml-depth)", w.lim.Depth)
	}
	if n.Kind == yaml.AliasNode {
		return w.alias(n, level)
	}
	if err := w.tag(n); err != nil {
		return extent{}, err
	}
	w.open[n] = true
	defer delete(w.open, n)
	if n.Kind == yaml.MappingNode {
		if err := w.keys(n); err != nil {
			return extent{}, err
		}
	}
	sum := extent{nodes: 1, bytes: w.bytes(n.Value)}
	for _, child := range n.Content {
		e, err := w.walk(child, level+1)
		if err != nil {
			return extent{}, err
		}
		sum.nodes += e.nodes
		sum.bytes = min(sum.bytes+e.bytes, 1<<40)
		sum.depth = max(sum.depth, e.depth+1)
		if sum.nodes > w.lim.Nodes {
			return extent{}, w.refuse(child, "", "the file expands to more than %d values (rule yaml-expansion)", w.lim.Nodes)
		}
	}
	if n.Anchor != "" {
		w.known[n] = sum
	}
	return sum, nil
}

var variableName = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)

// bytes returns how long a text can become with its variables filled in.
func (w *walker) bytes(text string) int {
	sum := len(text)
	if w.lookup == nil || !strings.Contains(text, "$") {
		return sum
	}
	for _, m := range variableName.FindAllStringSubmatchIndex(text, -1) {
		value, _ := w.lookup(text[m[2]:m[3]])
		sum = min(sum+len(value), 1<<40)
	}
	return sum
}

func (w *walker) alias(n *yaml.Node, level int) (extent, error) {
	if w.aliases++; w.aliases > w.lim.Aliases {
		return extent{}, w.refuse(n, "", "there are more than %d aliases (rule yaml-aliases)", w.lim.Aliases)
	}
	if n.Alias == nil || w.open[n.Alias] {
		return extent{}, w.refuse(n, "", "the alias *%s refers to what contains it (rule yaml-aliases)", short(n.Value))
	}
	e := w.known[n.Alias]
	if level+e.depth > w.lim.Depth {
		return extent{}, w.refuse(n, "", "values are nested deeper than %d levels through aliases (rule yaml-depth)", w.lim.Depth)
	}
	return e, nil
}

// keys refuses a mapping with keys that repeat, are not plain text or bear a tag.
func (w *walker) keys(n *yaml.Node) error {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			return w.refuse(k, "", "a key must be plain text (rule yaml-keys)")
		}
		if !anchorName.MatchString(k.Anchor) {
			return w.tag(k)
		}
		if tagged(k) {
			return w.refuse(k, "loaders disagree about it; write the key plainly", "the key %q has the tag %s (rule yaml-tag)", short(k.Value), short(k.Tag))
		}
		if tag := k.ShortTag(); tag != "!!str" && tag != "!!merge" {
			return w.refuse(k, "put it into quotes", "the key %q is no text (rule yaml-keys)", short(k.Value)) // such a mapping is another type to the loader
		}
		if k.Value == "<<" && k.ShortTag() != "!!merge" {
			return w.refuse(k, "write << without quotes to merge", "the key << is quoted (rule yaml-keys)")
		}
		if first, dup := seen[k.Value]; dup {
			return w.refuse(k, "loaders disagree about which one counts; keep one", "the key %q was already given in line %d (rule yaml-keys)", short(k.Value), first)
		}
		seen[k.Value] = k.Line
	}
	return nil
}
