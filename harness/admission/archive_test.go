package admission

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	ccci "github.com/recipe-maintainers/cc-ci"
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
