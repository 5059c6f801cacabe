package recipe

import (
	"bufio"
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// checkReferences looks at every file that a compose file refers to, before the loader
// opens any. All of them must be regular files of the recipe, or, for an overlay of
// ours, of its folder. An env_file may not have keys without a value: docker
// would take those from the environment of the machine that deploys.
func (t *Tree) checkReferences(f *composeFile, lookup func(string) (string, bool)) error {
	dict, err := f.interpolated(lookup)
	if err != nil {
		return err
	}
	services, _ := dict["services"].(map[string]any)
	for _, name := range sortedKeys(services) {
		service, _ := services[name].(map[string]any)
		for _, file := range stringsOf(service["env_file"]) {
			where := at(f.name, f.line("services", name, "env_file"))
			text, err := f.read(file, maxOtherFile)
			if err != nil {
				return ccci.Errorf(ccci.CodeOf(err), "%s: service %s has the env_file %q: %w", where, name, file, err)
			}
			if key := bareKey(text); key != "" {
				return ccci.Errorf(ccci.CodeRefused, "%s: service %s: %s has the key %q without a value, which docker takes from the machine that deploys", where, name, file, shorten(key)).
					WithHint("write %s= and a value", shorten(key))
			}
		}
	}
	for _, section := range []string{"configs", "secrets"} {
		objects, _ := dict[section].(map[string]any)
		for _, key := range sortedKeys(objects) {
			object, _ := objects[key].(map[string]any)
			file, ok := object["file"].(string)
			if !ok {
				continue
			}
			limit := int64(maxConfigFile)
			if section == "secrets" {
				limit = maxSecretFile
			}
			if _, err := f.read(file, limit); err != nil {
				return ccci.Errorf(ccci.CodeOf(err), "%s: %s %s has the file %q: %w",
					at(f.name, f.line(section, key, "file")), strings.TrimSuffix(section, "s"), key, file, err)
			}
		}
	}
	return nil
}

func stringsOf(raw any) []string {
	switch raw := raw.(type) {
	case string:
		return []string{raw}
	case []any:
		var out []string
		for _, item := range raw {
			out = append(out, fmt.Sprint(item))
		}
		return out
	}
	return nil
}

// read reads a file that f refers to: relative, or absolute within its folder.
func (f *composeFile) read(file string, limit int64) ([]byte, error) {
	if filepath.IsAbs(file) {
		rel, err := filepath.Rel(f.base, filepath.Clean(file))
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return nil, ccci.Errorf(ccci.CodeRefused, "%q lies outside the recipe", file).
				WithHint("name files relative to the recipe's root")
		}
		file = rel
	}
	return readInside(f.base, file, limit)
}

// bareKey returns the first key of an env_file that has no equals sign.
func bareKey(text []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	lines.Buffer(nil, maxOtherFile+1)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line != "" && line[0] != '#' && !strings.Contains(line, "=") {
			return line
		}
	}
	return ""
}

// checkDeclared refuses references to networks, volumes, secrets and configs that
// no file declares.
func checkDeclared(files []*composeFile, config *types.Config) error {
	for _, service := range config.Services {
		undeclared := func(kind, name string) error {
			file, line := findLine(files, "services", service.Name, kind)
			return ccci.Errorf(ccci.CodeInvalid, "%s: service %s uses the %s %q, which no compose file declares",
				at(file, line), service.Name, strings.TrimSuffix(kind, "s"), name).
				WithHint("declare it under %s: at the top level, or add the overlay that does to COMPOSE_FILE", kind)
		}
		for _, name := range sortedKeys(service.Networks) {
			if _, ok := config.Networks[name]; !ok && name != "default" {
				return undeclared("networks", name)
			}
		}
		for _, volume := range service.Volumes {
			if _, ok := config.Volumes[volume.Source]; !ok && volume.Type == "volume" && volume.Source != "" {
				return undeclared("volumes", volume.Source)
			}
		}
		for _, secret := range service.Secrets {
			if _, ok := config.Secrets[secret.Source]; !ok {
				return undeclared("secrets", secret.Source)
			}
		}
		for _, object := range service.Configs {
			if _, ok := config.Configs[object.Source]; !ok {
				return undeclared("configs", object.Source)
			}
		}
	}
	return nil
}

// findLine returns the file that has the longest part of a path, the last one
// where several have the same.
func findLine(files []*composeFile, keys ...string) (string, int) {
	for n := len(keys); n > 0; n-- {
		for i := len(files) - 1; i >= 0; i-- {
			node := any(files[i].dict)
			for _, key := range keys[:n] {
				node = descend(node, key)
			}
			if node != nil {
				return files[i].name, files[i].line(keys[:n]...)
			}
		}
	}
	return files[0].name, 0
}

func descend(node any, key string) any {
	switch node := node.(type) {
	case map[string]any:
		if value, ok := node[key]; ok && value == nil {
			return ""
		}
		return node[key]
	case []any:
		if _, ok := rawMapping(node)[key]; ok {
			return key
		}
	}
	return nil
}
