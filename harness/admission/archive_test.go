package admission

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

const plainSample = "TYPE=demo\nDOMAIN=demo.example.com\nLETS_ENCRYPT_ENV=production\n"

// refusedMark says in a hostile file which rule refuses the line that it ends.
var refusedMark = regexp.MustCompile(`# refused: ([a-z-]+)$`)

// unpackCase writes the files of one archive, and returns what its marks expect to be
// refused: "(rule x)" behind a file and line, or alone where the mark is in the archive's head.
func unpackCase(t testing.TB, archive string) (dir string, wants []string) {
	t.Helper()
	text, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(text.Comment)) {
		if rule, ok := strings.CutPrefix(strings.TrimSpace(line), "refused: "); ok {
			wants = append(wants, "(rule "+rule+")")
		}
	}
	for _, f := range text.Files {
		files[f.Name] = string(f.Data)
		number := 0
		for line := range strings.Lines(string(f.Data)) {
			number++
			if m := refusedMark.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				wants = append(wants, fmt.Sprintf("%s:%d: (rule %s)", f.Name, number, m[1]))
			}
		}
	}
	if _, ok := files[".env.sample"]; !ok {
		files[".env.sample"] = plainSample
	}
	return tree(t, files), wants
}

// refuses reports whether a line of a message is what a mark expects.
func refuses(message, want string) bool {
	at, rule, placed := strings.Cut(want, ": (rule ")
	for line := range strings.Lines(message) {
		if !placed && strings.Contains(line, want) || placed && strings.HasPrefix(line, at+":") && strings.Contains(line, "(rule "+rule) {
			return true
		}
	}
	return false
}

// Every archive of testdata/hostile is refused, at the lines that it marks.
func TestN3_HostileArchivesAreRefused(t *testing.T) {
	for _, archive := range folders(t, "testdata/hostile/*.txtar", 150) {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			t.Parallel()
			dir, wants := unpackCase(t, archive)
			stack, err := admitDir(dir, testPolicy())
			if err == nil {
				t.Fatalf("admitted as %s", stack.Name)
			}
			if code := ccci.CodeOf(err); code != ccci.CodeRefused {
				t.Errorf("code %q", code)
			}
			if strings.Contains(err.Error(), dir) {
				t.Errorf("the message names a path of this machine")
			}
			if len(wants) == 0 {
				t.Error("the case marks nothing")
			}
			for _, want := range wants {
				if !refuses(err.Error(), want) {
					t.Errorf("want %s, got\n%v", want, err)
				}
			}
		})
	}
}

func TestN3_HarmlessArchivesAreAdmitted(t *testing.T) {
	for _, archive := range folders(t, "testdata/harmless/*.txtar", 30) {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			t.Parallel()
			dir, _ := unpackCase(t, archive)
			if _, err := admitDir(dir, testPolicy()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// publicRefusals are the public recipes, and single overlays of them, that need a waiver.
var publicRefusals = map[string]string{
	"abramon":        "docker-socket",
	"agora":          "published-port",
	"go-ssb-room":    "foreign-host", // see TestN3_AFurtherEntrypointServesEveryHost
	"traefik-v2.4.8": "docker-socket",
	"pairs/bonfire-secret-version-lowered/base/compose.yml": "published-port",
	"pairs/bonfire-secret-version-lowered/head/compose.yml": "published-port",
}

// Every public recipe that needs no waiver is admitted, with each of its overlays alone.
func TestN3_PublicRecipesAreAdmitted(t *testing.T) {
	root := publicRecipes(t)
	seen := 0
	for _, pattern := range []string{"*/compose*.yml", "pairs/*/*/compose*.yml"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			dir, base := filepath.Split(file)
			name, err := filepath.Rel(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			t.Run(name+"/"+base, func(t *testing.T) {
				t.Parallel()
				r := testRender()
				if base != "compose.yml" {
					r.Env = map[string]string{"COMPOSE_FILE": "compose.yml:" + base}
				}
				_, err := admitWith(dir, r, testPolicy())
				want := cmp.Or(publicRefusals[name+"/"+base], publicRefusals[name])
				switch {
				case err != nil && ccci.CodeOf(err) != ccci.CodeRefused && base != "compose.yml":
					// An overlay that needs another one, or a version of a secret.
				case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), "(rule "+want+")")):
					t.Errorf("%v, want %q", err, want)
				}
			})
		}
	}
	if seen < 80 {
		t.Errorf("%d public recipes and overlays, want at least 80", seen)
	}
}

func TestN3_AFurtherEntrypointServesEveryHost(t *testing.T) {
	dir := filepath.Join(publicRecipes(t), "go-ssb-room")
	p := testPolicy()
	p.Entrypoints = []string{"ssb-muxrpc"}
	stack, err := admitDir(dir, p)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(stack.Warnings, func(w recipe.Warning) bool { return strings.Contains(w.Message, "default certificate") && w.Line > 0 }) {
		t.Errorf("nothing says that the certificate does not cover names below the app's: %v", stack.Warnings)
	}
}

// publicRecipes finds the public recipes beside the checkout.
func publicRecipes(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		root := filepath.Join(dir, "shared", "recipes")
		if _, err := os.Stat(root); err == nil {
			return root
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the public recipes are not beside this checkout")
	}
	t.Skip("the public recipes are not beside this checkout")
	return ""
}
