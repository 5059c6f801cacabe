package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// ConfigName is sops' file of creation rules. It holds for its folder and all below.
const ConfigName = ".sops.yaml"

// Rule says who may read a file, and what in it is encrypted.
type Rule struct {
	// Config is the file that the rule stands in.
	Config string
	// Recipients are the public keys that the file is encrypted to.
	Recipients []string
	// Names are what the anchors of the list keys call recipients. It may be empty.
	Names map[string]string

	selection
	onlyMAC bool
}

// creationRule are the keys of a rule that count here.
type creationRule struct {
	PathRegex string    `yaml:"path_regex"`
	Age       yaml.Node `yaml:"age"`
	KeyGroups []struct {
		Age []string `yaml:"age"`
	} `yaml:"key_groups"`
	selection `yaml:",inline"`
	OnlyMAC   bool `yaml:"mac_only_encrypted"`
}

var ruleKeys = []string{"path_regex", "age", "key_groups", "unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex", "mac_only_encrypted"}

// RuleFor finds the rule for a file in the nearest .sops.yaml at or above its folder:
// the first whose path_regex matches, as in sops. No such file is an Error with
// CodeNotFound, a mistake in it one with CodeInvalid.
func RuleFor(file string) (Rule, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return Rule{}, fmt.Errorf("finding %s: %w", file, err)
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		name := filepath.Join(dir, ConfigName)
		text, err := os.ReadFile(name)
		if err == nil {
			rel, err := filepath.Rel(dir, abs)
			if err != nil {
				return Rule{}, err
			}
			return ruleFor(name, text, filepath.ToSlash(rel))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Rule{}, fmt.Errorf("looking for the rules of %s: %w", file, err)
		}
		if dir == filepath.Dir(dir) {
			return Rule{}, ccci.Errorf(ccci.CodeNotFound, "no %s says who may read %s", ConfigName, file).WithHint("cc-ci secrets init makes one")
		}
	}
}

func ruleFor(name string, text []byte, rel string) (Rule, error) {
	invalid := func(line int, format string, args ...any) error {
		return ccci.Errorf(ccci.CodeInvalid, "%s:%d: %s", name, line, fmt.Sprintf(format, args...)).
			WithHint("each rule has path_regex and key_groups: [{age: [age1…]}], or age: age1…")
	}
	var config struct {
		Keys  yaml.Node   `yaml:"keys"`
		Rules []yaml.Node `yaml:"creation_rules"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return Rule{}, ccci.Errorf(ccci.CodeInvalid, "%s: this is not YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: ")).WithHint("cc-ci secrets init shows in an empty folder what it looks like")
	}
	for _, n := range config.Rules {
		if n.Kind == yaml.AliasNode {
			n = *n.Alias
		}
		if n.Kind != yaml.MappingNode {
			return Rule{}, invalid(n.Line, "a rule is keys with values")
		}
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; !slices.Contains(ruleKeys, key.Value) {
				return Rule{}, invalid(key.Line, "%s is not understood: cc-ci encrypts for age recipients alone", key.Value)
			}
		}
		var c creationRule
		if err := n.Decode(&c); err != nil {
			return Rule{}, invalid(n.Line, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		re, err := regexp.Compile(c.PathRegex)
		if err != nil {
			return Rule{}, invalid(n.Line, "path_regex: %v", err)
		}
		if !re.MatchString(rel) {
			continue
		}
		r := Rule{Config: name, Names: names(&config.Keys), onlyMAC: c.OnlyMAC}
		if r.selection, err = c.selection.withDefault(); err != nil {
			return Rule{}, invalid(n.Line, "%v", err)
		}
		if r.Recipients, err = c.recipients(); err != nil {
			return Rule{}, invalid(n.Line, "%v", err)
		}
		return r, nil
	}
	return Rule{}, ccci.Errorf(ccci.CodeInvalid, "%s has no rule for %s", name, rel).WithHint("add one to creation_rules, with path_regex and age recipients")
}

func (c *creationRule) recipients() ([]string, error) {
	var all []string
	switch age := c.Age; age.Kind {
	case yaml.SequenceNode:
		if err := age.Decode(&all); err != nil {
			return nil, err
		}
	case yaml.ScalarNode, yaml.AliasNode:
		var line string
		if err := age.Decode(&line); err != nil {
			return nil, err
		}
		all = strings.Split(line, ",")
	}
	if len(c.KeyGroups) > 1 || len(c.KeyGroups) == 1 && len(all) > 0 {
		return nil, errors.New("keys in several groups are not understood; put all into one")
	}
	for _, group := range c.KeyGroups {
		all = append(all, group.Age...)
	}
	var out []string
	for _, text := range all {
		text = strings.TrimSpace(text)
		if text == "" || slices.Contains(out, text) {
			continue
		}
		if _, err := parseRecipient(text); err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return nil, errors.New("the rule names no age recipient")
	}
	return out, nil
}

// names reads who is who from the anchors of the list keys.
func names(keys *yaml.Node) map[string]string {
	all := map[string]string{}
	for _, n := range keys.Content {
		if n.Anchor != "" && n.Kind == yaml.ScalarNode {
			all[n.Value] = n.Anchor
		}
	}
	return all
}
