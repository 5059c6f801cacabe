package recipe_test

import (
	"encoding/json"
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

// TestN3_LintSaysLittle lints a recipe of 61 MiB whose services have names of 16,000 bytes and break
// rules: what it finds goes into the result and the log of the run. An error is never left out for a warning.
func TestN3_LintSaysLittle(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(".env.sample", "TYPE=demo\nDOMAIN=demo.example.com\n")
	const files = 64
	for f := range files {
		names, services := 62, 0
		if f > 1 { // a part of the files is short, so that their number counts too
			names = 1
		}
		var b strings.Builder
		b.WriteString("version: \"3.8\"\nservices:\n")
		for i := range names {
			fmt.Fprintf(&b, "  ? s%d%d%s\n  : image: nginx\n    deploy: {labels: {backupbot.backup.path: a, backupbot.backup.command: b}}\n", f, i, strings.Repeat("a", 16000))
		}
		for ; services < 80; services++ {
			fmt.Fprintf(&b, "  t%d: {image: nginx}\n", services)
		}
		b.WriteString("configs:\n  c: {file: a, name: fixed}\n") // an error
		name := "compose.yml"
		if f > 0 {
			name = fmt.Sprintf("compose.%02d.yml", f)
		}
		write(name, b.String())
	}
	tree, err := recipe.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	found := recipe.Lint(t.Context(), tree, tree, recipe.LintOptions{Bounds: admission.Bounds})
	text, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 330 || len(text) > 512<<10 {
		t.Errorf("%d findings, %d KiB", len(found), len(text)>>10)
	}
	said, read := "", map[string]bool{}
	for _, f := range found {
		if len(f.Message) > 1<<10 {
			t.Errorf("a message of %d bytes: %.80s", len(f.Message), f.Message)
		}
		said += f.Message + "\n"
		read[f.File] = read[f.File] || f.Rule == "R012"
	}
	for name, want := range map[string]bool{"compose.yml": true, "compose.01.yml": true, "compose.59.yml": true, "compose.60.yml": false, "compose.63.yml": false} {
		if read[name] != want {
			t.Errorf("%s is looked at: %v", name, read[name])
		}
	}
	for _, want := range []string{"more findings of this rule are left out", "more than 60 compose files", "service s00aaa"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q", want)
		}
	}
}

// What is read of a recipe's compose files is bounded in sum.
func TestN3_LintReadsLittle(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{".env.sample": "TYPE=demo\nDOMAIN=demo.example.com\n", "compose.yml": "version: \"3.8\"\nservices: {app: {image: \"nginx:1\"}}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("compose.%d.yml", i)), []byte("version: \"3.8\"\nx-a: "+strings.Repeat("a", 1000<<10)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := recipe.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found := recipe.Lint(t.Context(), tree, tree, recipe.LintOptions{Bounds: admission.Bounds})
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 300 {
		t.Errorf("%d MiB were asked for", took)
	}
	for _, f := range found {
		if strings.Contains(f.Message, "bytes in all compose files") {
			return
		}
	}
	t.Errorf("nothing says that files were left out: %+v", found)
}
