package secretfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

func TestWriteIsWholeAndKeepsTheMode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "s.yaml")
	if err := Write(file, nil, []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink("s.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("one"), []byte("two"), 0o640); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (owner.Uid != 65534 || owner.Gid != 65534) {
		t.Errorf("owner %d:%d", owner.Uid, owner.Gid)
	}
	if target, err := os.Readlink(link); err != nil || target != "s.yaml" {
		t.Errorf("the link is gone: %v", err)
	}

	// What somebody else wrote stays, and nothing half made is left.
	for name, old := range map[string][]byte{"changed": []byte("one"), "new": nil} {
		if err := Write(file, old, []byte("three"), 0o600); ccci.CodeOf(err) != ccci.CodeConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Write(filepath.Join(dir, "gone.yaml"), []byte("x"), []byte("y"), 0o600); ccci.CodeOf(err) != ccci.CodeConflict {
		t.Errorf("gone: %v", err)
	}
	text, err := os.ReadFile(file)
	left, globErr := filepath.Glob(filepath.Join(dir, ".*"))
	if string(text) != "two" || err != nil || len(left) > 0 || globErr != nil {
		t.Errorf("%q, left %v", text, left)
	}
	if err := Write(filepath.Join(dir, "none", "s.yaml"), nil, nil, 0o600); ccci.CodeOf(err) != ccci.CodeInfra {
		t.Errorf("no folder: %v", err)
	}
}
