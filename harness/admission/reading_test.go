package admission

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/docker/cli/cli/compose/loader"
	"go.yaml.in/yaml/v4"
)

// What the raw rules read must be what docker/cli's loader reads, which is what is
// deployed: the same keys at the same places, merges filled in. The first texts are those
// on which the two libraries disagreed.
var disagreements = []string{
	"services:\n  app:\n    image: a:1\n    labels:\n      !!merge cc-ci.run: {cc-ci.run: x}\n",
	"x: &x {cc-ci.run: y}\nservices:\n  app:\n    labels:\n      ! <<: *x\n",
	"x: &x {a: 1}\ny:\n  \"<<\": *x\n",
	"x: &x {a: 1}\ny:\n  !!str <<: *x\n",
	"%TAG !y! tag:yaml.org,2002:\n---\na:\n  !y!merge b: {c: d}\n",
}

func FuzzReading(f *testing.F) {
	for _, text := range disagreements {
		f.Add([]byte(text))
	}
	for _, text := range []string{
		"x: &x {a: 1, b: 2}\ny: &y {a: 3}\nz:\n  <<: [*x, *y]\n  b: 4\n",
		"x: &x\n  a: {b: 1}\ny:\n  a: {c: 2}\n  <<: *x\n",
	} {
		f.Add([]byte(text))
	}
	for _, pattern := range []string{"testdata/harmless/*/compose*.yml", "testdata/hostile/*/compose.yml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil && len(text) < 8<<10 {
				f.Add(text)
			}
		}
	}
	lim := Limits{FileBytes: 16 << 10, Depth: 12, Aliases: 20, Nodes: 500}.orDefault()
	f.Fuzz(func(t *testing.T, text []byte) {
		raw, _, err := checkText("f.yml", text, lim, nil)
		if err != nil {
			return
		}
		dict, err := loader.ParseYAML(text)
		if err != nil {
			return // nothing is deployed then
		}
		if difference := differ("", raw, dict, 0); difference != "" {
			t.Fatalf("%s\n%s", difference, text)
		}
	})
}

// differ returns where two readings part, or "".
func differ(at string, raw *yaml.Node, loaded any, depth int) string {
	raw = follow(raw)
	if depth > 64 {
		return at + " is endless"
	}
	switch loaded := loaded.(type) {
	case map[string]any:
		if raw.Kind != yaml.MappingNode {
			return fmt.Sprintf("%s is a mapping to the loader alone", at)
		}
		var keys []string
		for _, p := range pairs(raw) {
			if !slices.Contains(keys, p[0].Value) {
				keys = append(keys, p[0].Value)
			}
		}
		slices.Sort(keys)
		if want := sorted(loaded); !slices.Equal(keys, want) {
			return fmt.Sprintf("%s has the keys %q, and %q to the loader", at, keys, want)
		}
		for key, value := range loaded {
			if d := differ(at+"."+key, child(raw, key), value, depth+1); d != "" {
				return d
			}
		}
	case []any:
		if raw.Kind != yaml.SequenceNode || len(raw.Content) != len(loaded) {
			return fmt.Sprintf("%s is another list to the loader", at)
		}
		for i, value := range loaded {
			if d := differ(fmt.Sprintf("%s[%d]", at, i), raw.Content[i], value, depth+1); d != "" {
				return d
			}
		}
	case string:
		if raw.Kind != yaml.ScalarNode || raw.Value != loaded {
			return fmt.Sprintf("%s is %q, and %q to the loader", at, raw.Value, loaded)
		}
	default:
		if raw.Kind != yaml.ScalarNode {
			return fmt.Sprintf("%s is a plain value to the loader alone", at)
		}
	}
	return ""
}

func TestN3_ReadingsThatDifferAreRefused(t *testing.T) {
	for _, text := range disagreements {
		if _, _, err := checkText("f.yml", []byte(text), DefaultLimits(), nil); err == nil {
			t.Errorf("admitted:\n%s", text)
		}
	}
}
