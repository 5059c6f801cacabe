package admission

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/loader"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestN3_YAMLLimits(t *testing.T) {
	small := Limits{FileBytes: 600, TotalBytes: 900, Depth: 6, Aliases: 3, Nodes: 30}
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1, ", n), ", ") + "]" }
	for name, c := range map[string]struct {
		text string
		want string // "" for accepted
		code ccci.Code
	}{
		"plain":                        {"a: {b: [1, 2]}\n", "", ""},
		"anchors":                      {"x: &x {a: 1}\ny:\n  <<: *x\n  b: 2\nz: [*x]\n", "", ""},
		"windows lines":                {"a: 1\r\nb: 2\r\n", "", ""},
		"size":                         {"a: " + strings.Repeat("x", 700), "f.yml has more than the 0 KiB", ccci.CodeRefused},
		"depth at limit":               {"a: {b: {c: {d: {e: 1}}}}\n", "", ""},
		"depth":                        {"a: {b: {c: {d: {e: {f: {g: 1}}}}}}\n", "f.yml:1: values are nested deeper than 6 levels", ccci.CodeRefused},
		"depth of parser":              {"a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "f.yml:1: values are nested deeper than 6 levels", ccci.CodeRefused},
		"depth by alias":               {"a: &a {b: {c: 1}}\nd: {e: {f: {g: {h: *a}}}}\n", "f.yml:2: values are nested deeper than 6 levels through aliases", ccci.CodeRefused},
		"aliases":                      {"a: &a 1\nb: [*a, *a,\n *a, *a]\n", "f.yml:3: there are more than 3 aliases", ccci.CodeRefused},
		"cycle":                        {"a: &a\n  b: *a\n", "f.yml:2: the alias *a refers to what contains it", ccci.CodeRefused},
		"nodes at limit":               {"a: " + list(27) + "\n", "", ""},
		"nodes":                        {"a: " + list(30) + "\n", "f.yml:1: the file expands to more than 30 values", ccci.CodeRefused},
		"expansion":                    {"a: &a " + list(9) + "\nb: &b [*a]\nc: [*b, *a]\n", "f.yml:3: the file expands to more than 30 values", ccci.CodeRefused},
		"duplicate":                    {"a: 1\nb: 2\na: 3\n", `f.yml:3: the key "a" was already given in line 1`, ccci.CodeRefused},
		"nested duplicate":             {"a:\n  b: 1\n  \"b\": 2\n", `f.yml:3: the key "b" was already given in line 2`, ccci.CodeRefused},
		"key is a list":                {"? [a]\n: b\n", "f.yml:1: a key must be plain text", ccci.CodeRefused},
		"documents":                    {"a: 1\n---\nb: 1\n", "f.yml:2: the file holds more than one YAML document", ccci.CodeRefused},
		"broken second":                {"a: 1\n---\n[\n", "f.yml:", ccci.CodeInvalid},
		"tag":                          {"a: !include /etc/passwd\n", "f.yml:1: the tag !include is not allowed", ccci.CodeRefused},
		"merge tag on a key":           {"a:\n  !!merge cc-ci.run: x\n", "f.yml:2: the key \"cc-ci.run\" has the tag !!merge", ccci.CodeRefused},
		"merge tag on a merge":         {"x: &x {a: 1}\ny:\n  !!merge <<: *x\n", "f.yml:3: the key \"<<\" has the tag !!merge", ccci.CodeRefused},
		"text tag on a key":            {"!!str a: 1\n", "f.yml:1: the key \"a\" has the tag !!str", ccci.CodeRefused},
		"long tag on a key":            {"!<tag:yaml.org,2002:merge> a: {b: 1}\n", "f.yml:1: the key \"a\" has the tag", ccci.CodeRefused},
		"handle of a tag":              {"%TAG !y! tag:yaml.org,2002:\n---\n!y!merge a: {b: 1}\n", "f.yml:3: the key \"a\" has the tag", ccci.CodeRefused},
		"merge tag on a value":         {"a: !!merge b\n", "f.yml:1: the tag !!merge is not allowed", ccci.CodeRefused},
		"tag without a name":           {"a: ! b\n", "f.yml:1: the tag", ccci.CodeRefused},
		"merge without a tag's name":   {"x: &x {a: 1}\ny:\n  ! <<: *x\n", "f.yml:3: the key \"<<\" has the tag !", ccci.CodeRefused},
		"quoted merge":                 {"x: &x {a: 1}\ny:\n  \"<<\": *x\n", "f.yml:3: the key << is quoted", ccci.CodeRefused},
		"number as a key":              {"a: {0: b}\n", "f.yml:1: the key \"0\" is no text", ccci.CodeRefused},
		"nothing as a key":             {"a: {~: b}\n", "f.yml:1: the key \"~\" is no text", ccci.CodeRefused},
		"quoted number as a key":       {"a: {\"0\": b}\n", "", ""},
		"anchor with a colon":          {"a: [&b:c d]\n", "f.yml:1: the anchor \"b:c\" is not made of", ccci.CodeRefused},
		"anchor of a key with a colon": {"&b:c d: e\n", "f.yml:1:", ccci.CodeRefused},
		"alias as a key":               {"a: &a b\n*a : c\n", "f.yml:2: a key must be plain text", ccci.CodeRefused},
		"core tag":                     {"a: !!str 1\nb: !!map {c: 1}\n", "", ""},
		"date":                         {"a: 2026-11-29\n", "", ""},
		"binary":                       {"a: !!binary aGk=\n", "f.yml:1: the tag", ccci.CodeRefused},
		"empty":                        {"", "f.yml:1: the file is empty", ccci.CodeInvalid},
		"comment only":                 {"# nothing\n", "f.yml:1:", ccci.CodeInvalid},
		"list":                         {"- a\n", "f.yml:1: a compose file is one mapping", ccci.CodeInvalid},
		"syntax":                       {"a: [1\nb: 2\n", "f.yml:2: this is not YAML", ccci.CodeInvalid},
		"unknown alias":                {"a: *x\n", "f.yml:1: this is not YAML", ccci.CodeInvalid},
		"nul":                          {"a: 1\nb: \x00\n", "f.yml:2: the text holds bytes", ccci.CodeRefused},
		"broken utf-8":                 {"a: \xff\n", "f.yml:1: the text holds bytes", ccci.CodeRefused},
		"reading backwards":            {"a: x\u202ey\n", "f.yml:1: the text holds bytes", ccci.CodeRefused},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "f.yml"), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			err := CheckFiles(dir, []string{"f.yml"}, small, nil)
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
				t.Fatalf("got %v, want %q", err, c.want)
			case c.want != "" && ccci.CodeOf(err) != c.code:
				t.Errorf("code %q, want %q", ccci.CodeOf(err), c.code)
			}
		})
	}
}

// The text of a bomb is small; measuring it must not cost what it expands to.
func TestN3_BombIsMeasuredWithoutExpandingIt(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 150; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d]\n", i, i, i-1)
	}
	_, _, err := checkText("f.yml", []byte(b.String()), Limits{FileBytes: 1 << 20, Depth: 1000, Aliases: 1000, Nodes: 1 << 40}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 60; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	_, _, err = checkText("f.yml", []byte(b.String()), Limits{FileBytes: 1 << 20, Depth: 1000, Aliases: 1000, Nodes: 1 << 40}, nil)
	if err == nil || !strings.Contains(err.Error(), "expands to more than") {
		t.Fatalf("2^60 values: %v", err)
	}
}

func TestN3_FilesAreReadWithinTheRecipe(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	for _, d := range []string{sub, filepath.Join(dir, ".git")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"a.yml", "sub/b.yml", ".git/c.yml"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("a: "+strings.Repeat("x", 50)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"l.yml": "a.yml", "s": "sub"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"a.yml": "", "sub/b.yml": "", "./a.yml": "",
		"l.yml": "is a symbolic link", "s/b.yml": "s is a symbolic link", ".git/c.yml": "git's own folder",
		"../a.yml": "lies outside", "/etc/passwd": "lies outside", "sub": "not a regular file", "none.yml": "does not exist",
	} {
		err := CheckFiles(dir, []string{name}, Limits{}, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if err := CheckFiles(dir, []string{"a.yml", "sub/b.yml"}, Limits{TotalBytes: 80}, nil); err == nil || !strings.Contains(err.Error(), "together") {
		t.Errorf("the sum is not bounded: %v", err)
	}
}

func FuzzCheckFiles(f *testing.F) {
	for _, pattern := range []string{"testdata/harmless/*/compose.yml", "testdata/hostile/*yaml*/compose.yml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil && len(text) < 8<<10 {
				f.Add(text)
			}
		}
	}
	lim := Limits{FileBytes: 16 << 10, Depth: 12, Aliases: 20, Nodes: 500}.orDefault()
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _, err := checkText("f.yml", text, lim, nil)
		if err != nil {
			if code := ccci.CodeOf(err); code != ccci.CodeInvalid && code != ccci.CodeRefused {
				t.Fatalf("code %q for %v", code, err)
			}
			if !strings.HasPrefix(err.Error(), "f.yml") {
				t.Fatalf("an error that names no file: %v", err)
			}
			return
		}
		// What is accepted is small for the loader too.
		dict, err := loader.ParseYAML(text)
		if err != nil {
			return
		}
		if n, depth := measure(dict); n > lim.Nodes || depth > lim.Depth+1 {
			t.Fatalf("accepted, and the loader makes %d values, %d levels of it", n, depth)
		}
	})
}

func measure(v any) (nodes, depth int) {
	nodes = 1
	var children []any
	switch v := v.(type) {
	case map[string]any:
		for _, c := range v {
			children = append(children, c)
		}
	case []any:
		children = v
	}
	for _, c := range children {
		n, d := measure(c)
		nodes, depth = nodes+n, max(depth, d+1)
	}
	return nodes, depth
}
