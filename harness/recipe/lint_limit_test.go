package recipe_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/harness/admission"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/race"
)

// TestN3_LintTakesLittleMemory lints recipes that come to gigabytes, which happens before
// admission judges them.
func TestN3_LintTakesLittleMemory(t *testing.T) {
	long := "A='" + strings.Repeat("a", 60<<10) + "'\n"
	repeated := strings.Repeat("$A", 8<<10) // 480 MiB
	var configs strings.Builder
	for i := range 500 {
		fmt.Fprintf(&configs, "  c%d: {file: big}\n", i)
	}
	values := "x-a: [" + strings.Repeat("1,", 150_000) + "]\n"
	const service = "version: \"3.8\"\nservices:\n  app:\n    image: nginx:1.27.2\n"
	for name, files := range map[string]map[string]string{
		"version": {"compose.yml": service + "    deploy:\n      labels:\n        - coop-cloud.${STACK_NAME}.version=" + repeated + "\n"},
		"label":   {"compose.yml": service + "    deploy:\n      labels:\n        - a=" + repeated + "\n"},
		"image":   {"compose.yml": service, "compose.more.yml": strings.Replace(service, "nginx:1.27.2", repeated, 1)},
		"configs": {"compose.yml": service + "configs:\n" + configs.String(), "big": strings.Repeat("b", 900<<10)},
		"values": func() map[string]string {
			all := map[string]string{"compose.yml": service}
			for i := range 20 {
				all[fmt.Sprintf("compose.%d.yml", i)] = values
			}
			return all
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files[".env.sample"] = "TYPE=demo\nDOMAIN=demo.example.com\n" + long
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tree, err := recipe.Open(dir, "")
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = tree.Version()
			recipe.Lint(t.Context(), tree, tree, recipe.LintOptions{Bounds: admission.Bounds})
			runtime.ReadMemStats(&after)
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 1000 {
				t.Errorf("%d MiB were asked for", took)
			} else {
				t.Logf("%d MiB", took)
			}
		})
	}
}

// TestN3_LintTakesLittleTime lints a recipe whose env file takes long to be read, as often as it
// has services.
func TestN3_LintTakesLittleTime(t *testing.T) {
	if race.Detector {
		t.Skip("the race detector makes this more than ten times slower; .ci/test runs it without")
	}
	dir := t.TempDir()
	var sample, services strings.Builder
	sample.WriteString("TYPE=demo\nDOMAIN=demo.example.com\n")
	for i := range 16 {
		fmt.Fprintf(&sample, "A%d=%s\n", i, strings.Repeat("${", 30<<10))
	}
	for i := range 5000 {
		fmt.Fprintf(&services, "  s%d: {image: \"nginx:1\"}\n", i)
	}
	for name, text := range map[string]string{
		".env.sample": sample.String(), "compose.yml": "version: \"3.8\"\nservices:\n" + services.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	tree, err := recipe.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	recipe.Lint(t.Context(), tree, tree, recipe.LintOptions{Bounds: admission.Bounds})
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %s", took)
	} else {
		t.Logf("it took %s", took)
	}
}
