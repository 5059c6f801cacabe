package recipe_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

const (
	domain = "comm-1a2b3c.ci.example.net"
	stack  = "comm-1a2b3c_ci_example_net"
	head   = ccci.Commit("0123456789abcdef0123456789abcdef01234567")
)

// unpack writes testdata/recipes/<name>.txtar to a folder named after the recipe.
// edits are pairs of file and new text; an empty text removes the file.
func unpack(t testing.TB, name string, edits ...string) string {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "recipes", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	for _, f := range archive.Files {
		write(t, dir, f.Name, string(f.Data))
	}
	for i := 0; i < len(edits); i += 2 {
		write(t, dir, edits[i], edits[i+1])
	}
	return dir
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if text == "" {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace edits a file of an unpacked recipe; the old text must be there.
func replace(t testing.TB, dir, name, old, text string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), old) {
		t.Fatalf("%s does not hold %q", name, old)
	}
	write(t, dir, name, strings.Replace(string(raw), old, text, 1))
}

func open(t testing.TB, dir string) *recipe.Tree {
	t.Helper()
	tree, err := recipe.Open(dir, head)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func render(t testing.TB, tree *recipe.Tree, o recipe.RenderOptions) *recipe.Stack {
	t.Helper()
	if o.Domain == "" {
		o.Domain = domain
	}
	s, err := tree.Render(o)
	if err != nil {
		t.Fatalf("rendering: %v (hint: %s)", err, ccci.HintOf(err))
	}
	return s
}

// wantError checks code and texts of an error, and that it has a hint.
func wantError(t testing.TB, err error, code ccci.Code, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s with %q", code, texts)
	}
	if ccci.CodeOf(err) != code {
		t.Errorf("code %s, want %s: %v", ccci.CodeOf(err), code, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
	if ccci.HintOf(err) == "" {
		t.Errorf("error %q has no hint", err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
