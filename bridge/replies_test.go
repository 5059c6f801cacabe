package bridge_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// N5: what people read in answer to a comment that starts no run.
func TestN5_AnswersGolden(t *testing.T) {
	named := string(commitN(77))
	var b strings.Builder
	for _, c := range []struct {
		title, comment string
		prepare        func(*world)
	}{
		{"a capital", "!Testme", nil},
		{"a slip", "!satus", nil},
		{"a slip with options", "!tesme stages=install", nil},
		{"thanks below it", "!testme\n\nthanks!", nil},
		{"please before it", "please !testme", nil},
		{"an option that is none", "!testme stagse=install", nil},
		{"a stage that is none", "!testme stages=instal", nil},
		{"a base without its stage", "!testme stages=install from=1.0.0", nil},
		{"a release that is none", "!testme from=9.9.9", nil},
		{"a release that is not older", "!testme from=2.0.0+3.0", nil},
		{"a release of a recipe that has none", "!testme from=1.0.0", func(w *world) { w.bases = ccci.Bases{} }},
		{"a commit of another place", "!testme " + named, nil},
		{"an abbreviated commit", "!testme " + string(commitN(1000)[:12]), nil},
		{"quick without a canonical", "!testme --quick", nil},
		{"nothing to repeat", "!retest", nil},
		{"nothing to cancel", "!cancel", nil},
		{"nothing under way", "!status", nil},
		{"the same twice", "!testme", func(w *world) {
			w.write(pr1, ada, "!testme")
			idle(20 * time.Second)
		}},
		{"the tenth answer", "!status", func(w *world) {
			for range 9 {
				w.write(pr1, ada, "!status")
			}
			idle(20 * time.Second)
		}},
	} {
		inBubble(t, func(t *testing.T, w *world) {
			_, stop := w.start(w.config())
			defer stop()
			if c.prepare != nil {
				c.prepare(w)
			}
			id := w.write(pr1, ada, c.comment).ID
			idle(20 * time.Second)
			text := strings.Join(w.said("reply/"+string(id)), "\n")
			for _, run := range w.runs() { // random
				text = strings.ReplaceAll(text, string(run.ID), "260314-092653-a1b2c3")
			}
			fmt.Fprintf(&b, "<!-- %s -->\n## %s\n\n%s\n\n", c.title, strings.ReplaceAll(c.comment, "\n", "⏎"), strings.TrimSpace(text))
		})
	}
	path := filepath.Join("testdata", "answers.md")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, b.String())
	}
}
