package recipe

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/compose/interpolation"
	"github.com/docker/cli/cli/compose/loader"
	"github.com/docker/cli/cli/compose/schema"
	"github.com/docker/cli/cli/compose/types"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// composeFile is one compose file before interpolation.
type composeFile struct {
	name string         // as a person knows it: relative to the recipe, or the overlay's path
	base string         // folder that it may refer to files in, absolute
	dict map[string]any // as the loader takes it
	doc  *yaml.Node     // the same, with lines

	nodes int // values, aliases written out
}

// Bounds of a compose file's structure, aliases written out: a few lines of YAML can
// stand for gigabytes.
const (
	maxComposeNodes = 200_000
	maxComposeDepth = 64
)

func parseCompose(name, base string, text []byte) (*composeFile, error) {
	f := &composeFile{name: name, base: base, doc: &yaml.Node{}}
	if err := yaml.Unmarshal(text, f.doc); err != nil {
		return nil, f.notYAML(err)
	}
	if f.nodes = (nodeCounter{}).count(f.doc, 0); f.nodes > maxComposeNodes {
		return nil, ccci.Errorf(ccci.CodeInvalid, "%s holds more than %d values, or more than %d levels, with its aliases written out", name, maxComposeNodes, maxComposeDepth).
			WithHint("use fewer anchors and aliases")
	}
	var err error
	if f.dict, err = loader.ParseYAML(text); err != nil {
		return nil, f.notYAML(err)
	}
	return f, nil
}

func (f *composeFile) notYAML(err error) error {
	return ccci.Errorf(ccci.CodeInvalid, "%s: %s", f.name, strings.ReplaceAll(err.Error(), "\n", " ")).
		WithHint("compose files are YAML mappings; a linter such as yamllint shows the place")
}

// nodeCounter remembers the size of what aliases point at. A node that is being
// counted has a size beyond the bound, so that an alias into its own parent ends.
type nodeCounter map[*yaml.Node]int

func (c nodeCounter) count(node *yaml.Node, depth int) int {
	const tooMany = maxComposeNodes + 1
	if depth > maxComposeDepth {
		return tooMany
	}
	if node.Kind == yaml.AliasNode {
		if node.Alias == nil {
			return tooMany
		}
		node = node.Alias
	}
	if size, ok := c[node]; ok {
		return size
	}
	c[node] = tooMany
	size := 1
	for _, child := range node.Content {
		size = min(size+c.count(child, depth+1), tooMany)
	}
	c[node] = size
	return size
}

// composeFile reads and parses one file of the tree.
func (t *Tree) composeFile(name string) (*composeFile, error) {
	text, err := t.readCompose(name)
	if err != nil {
		return nil, err
	}
	return parseCompose(name, t.Dir, text)
}

// overlayFile reads and parses one of our own overlays. What it refers to lies beside it.
func overlayFile(abs string) (*composeFile, error) {
	if !filepath.IsAbs(abs) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "the overlay %q is no absolute path", abs)
	}
	dir := filepath.Dir(abs)
	text, err := readInside(dir, filepath.Base(abs), maxComposeFile)
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeOf(err), "reading the overlay %s: %w", abs, err)
	}
	f, err := parseCompose(abs, dir, text)
	if err != nil {
		return nil, err
	}
	f.rebase()
	return f, nil
}

// rebase makes relative files of an overlay absolute, as the loader would take
// them relative to the recipe.
func (f *composeFile) rebase() {
	for _, section := range []string{"configs", "secrets"} {
		objects, _ := f.dict[section].(map[string]any)
		for _, object := range objects {
			object, _ := object.(map[string]any)
			if file, ok := object["file"].(string); ok && !filepath.IsAbs(file) {
				object["file"] = filepath.Join(f.base, file)
			}
		}
	}
}

func (f *composeFile) version() string { return schema.Version(f.dict) }

// section returns the mapping under keys, or nil.
func (f *composeFile) section(keys ...string) map[string]any {
	at := f.dict
	for _, key := range keys {
		at, _ = at[key].(map[string]any)
	}
	return at
}

// line finds where a key stands, from 1: the deepest part of the path that the
// file has, so that an error about an absent key points at its parent. 0 when unknown.
func (f *composeFile) line(keys ...string) int {
	if len(f.doc.Content) == 0 {
		return 0
	}
	node, line := f.doc.Content[0], 0
	for _, key := range keys {
		child, at := childNode(node, key, 0)
		if child == nil {
			break
		}
		node, line = child, at
	}
	return line
}

func childNode(node *yaml.Node, key string, depth int) (*yaml.Node, int) {
	if depth > 20 {
		return nil, 0
	}
	for node.Kind == yaml.AliasNode && node.Alias != nil {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				return node.Content[i+1], node.Content[i].Line
			}
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == "<<" {
				if child, line := childNode(node.Content[i+1], key, depth+1); child != nil {
					return child, line
				}
			}
		}
	case yaml.SequenceNode:
		if index, err := strconv.Atoi(key); err == nil && index >= 0 && index < len(node.Content) {
			return node.Content[index], node.Content[index].Line
		}
		for _, item := range node.Content { // KEY=value items, and merges of several
			if item.Kind == yaml.ScalarNode {
				if name, _, _ := strings.Cut(item.Value, "="); name == key {
					return item, item.Line
				}
			} else if child, line := childNode(item, key, depth+1); child != nil {
				return child, line
			}
		}
	}
	return nil, 0
}

// at formats a place for messages: "compose.yml line 7", or the name alone.
func at(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s line %d", file, line)
}

// load runs docker's loader over the files, first over each alone, so that an
// error has a file.
func load(files []*composeFile, workingDir string, env map[string]string) (*types.Config, []*types.Config, error) {
	var single []*types.Config
	for _, f := range files {
		config, err := loadFiles([]*composeFile{f}, workingDir, env)
		if err != nil {
			return nil, nil, f.explain(err)
		}
		single = append(single, config)
	}
	merged, err := loadFiles(files, workingDir, env)
	if err != nil {
		return nil, nil, ccci.Errorf(ccci.CodeInvalid, "merging %s: %w", fileNames(files), err)
	}
	return merged, single, nil
}

func loadFiles(files []*composeFile, workingDir string, env map[string]string) (config *types.Config, err error) {
	// The loader takes types for granted that its schema does not always enforce. Its
	// input is a stranger's, so a panic in it is that input's error.
	defer func() {
		if r := recover(); r != nil {
			config, err = nil, fmt.Errorf("docker's compose loader cannot take it: %v", r)
		}
	}()
	details := types.ConfigDetails{WorkingDir: workingDir, Environment: env}
	for _, f := range files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: f.name, Config: f.dict})
	}
	return loader.Load(details)
}

func fileNames(files []*composeFile) string {
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

var (
	schemaPath   = regexp.MustCompile(`^([^\s]+) (.*)$`)
	extraKey     = regexp.MustCompile(`Additional property (\S+) is not allowed`)
	templatePath = regexp.MustCompile(`(?:invalid interpolation format for|error while interpolating) ([^\s:]+):`)
)

// explain gives an error of the loader its place and, where it can, a way out.
func (f *composeFile) explain(err error) error {
	var forbidden *loader.ForbiddenPropertiesError
	if errors.As(err, &forbidden) {
		for _, key := range sortedKeys(forbidden.Properties) {
			for _, service := range sortedKeys(f.section("services")) {
				if _, ok := f.section("services", service)[key]; ok {
					return ccci.Errorf(ccci.CodeInvalid, "%s: service %s uses %s, which a swarm stack cannot have",
						at(f.name, f.line("services", service, key)), service, key).WithHint("%s", forbidden.Properties[key])
				}
			}
		}
	}
	text := err.Error()
	var path []string
	hint := ""
	if m := templatePath.FindStringSubmatch(text); m != nil {
		path = strings.Split(m[1], ".")
		hint = "compose knows ${X}, ${X:-default}, ${X-default}, ${X:?message} and ${X?message}; a literal dollar sign is $$"
	} else if m := schemaPath.FindStringSubmatch(text); m != nil && f.line(strings.Split(m[1], ".")...) > 0 {
		path = strings.Split(m[1], ".")
	}
	if m := extraKey.FindStringSubmatch(text); m != nil {
		path = append(path, m[1])
		hint = fmt.Sprintf("the schema of compose %s, which docker stack deploy uses, has no %s here", f.version(), m[1])
	}
	return &ccci.Error{Code: ccci.CodeInvalid, Message: at(f.name, f.line(path...)) + ": " + text, Hint: hint, Err: err}
}

// interpolated returns the file's mapping with variables filled in and no types cast.
func (f *composeFile) interpolated(lookup func(string) (string, bool)) (map[string]any, error) {
	dict, err := interpolation.Interpolate(f.dict, interpolation.Options{LookupValue: lookup})
	if err != nil {
		return nil, f.explain(err)
	}
	return dict, nil
}

// checkVersions refuses what the loader refuses, with the names of both files. Our own
// overlays take the version of the recipe.
func checkVersions(files []*composeFile, own int) error {
	for i, f := range files[1:] {
		if i+1 >= own {
			if version, ok := files[0].dict["version"]; ok {
				f.dict["version"] = version
			} else {
				delete(f.dict, "version")
			}
			continue
		}
		if f.version() != files[0].version() {
			return versionMismatch(files[0], f)
		}
	}
	return nil
}

func versionMismatch(first, other *composeFile) *ccci.Error {
	return ccci.Errorf(ccci.CodeInvalid, "%s has version %s and %s has %s; docker does not merge them",
		at(other.name, other.line("version")), statedVersion(other), first.name, statedVersion(first)).
		WithHint("write the same version: in both; a file without one counts as 3.13")
}

func statedVersion(f *composeFile) string {
	if version, ok := f.dict["version"]; ok {
		return shorten(fmt.Sprint(version))
	}
	return "none"
}
