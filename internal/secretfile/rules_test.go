package secretfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestRules(t *testing.T) {
	a, b := newIdentity(t).Recipient().String(), newIdentity(t).Recipient().String()
	for name, c := range map[string]struct {
		text string
		want []string
		err  string
	}{
		"one line":           {"creation_rules: [{age: '" + a + ", " + b + ",'}]", []string{a, b}, ""},
		"a list":             {"creation_rules: [{age: [" + a + ", " + a + "]}]", []string{a}, ""},
		"an anchor":          {"keys: [&x " + a + "]\ncreation_rules: [{age: *x}]", []string{a}, ""},
		"a group":            {"creation_rules: [{key_groups: [{age: [" + b + "]}]}]", []string{b}, ""},
		"the first match":    {"creation_rules: [{path_regex: ^other/, age: " + a + "}, {path_regex: 'deep/s\\.yaml$', age: " + b + "}, {age: " + a + "}]", []string{b}, ""},
		"no match":           {"creation_rules: [{path_regex: ^other/, age: " + a + "}]", nil, "has no rule for deep/s.yaml"},
		"no rules":           {"stores: {}", nil, "has no rule for deep/s.yaml"},
		"two groups":         {"creation_rules: [{key_groups: [{age: [" + a + "]}, {age: [" + b + "]}]}]", nil, ".sops.yaml:1: keys in several groups"},
		"PGP":                {"creation_rules:\n  - age: " + a + "\n    pgp: x", nil, ".sops.yaml:3: pgp is not understood"},
		"nobody":             {"creation_rules: [{age: ''}]", nil, "names no age recipient"},
		"nonsense":           {"creation_rules: [{age: age1x}]", nil, `"age1x" is no recipient`},
		"no regular one":     {"creation_rules: [{path_regex: '(', age: " + a + "}]", nil, "path_regex: "},
		"two selections":     {"creation_rules: [{age: " + a + ", encrypted_regex: a, unencrypted_suffix: b}]", nil, "only one of"},
		"no YAML":            {"creation_rules: [", nil, "this is not YAML"},
		"a rule that is not": {"creation_rules: [x]", nil, ".sops.yaml:1: a rule is keys with values"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, ConfigName), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := RuleFor(filepath.Join(dir, "deep", "s.yaml"))
			if c.err == "" && (err != nil || !slices.Equal(r.Recipients, c.want)) {
				t.Errorf("%v, %v", r.Recipients, err)
			}
			if c.err != "" && (ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(fmt.Sprint(err), c.err) || ccci.HintOf(err) == "") {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := RuleFor(filepath.Join(t.TempDir(), "s.yaml")); ccci.CodeOf(err) != ccci.CodeNotFound {
		t.Errorf("no file: %v", err)
	}
}
