package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// walkPage shows each command after "$ ", and what it prints below it.
const walkPage = "../../docs/walkthrough.md"

const walkAddress = "127.0.0.1:8480" // that of the page

// The commands of the page print what the page says, but for what differs each time.
// UPDATE=1 writes what they print into the page.
func TestTheWalkthrough(t *testing.T) {
	together(t)
	whoami(t, "v1.10.3", "v1.11.0")
	page, err := os.ReadFile(walkPage)
	if err != nil {
		t.Fatal(err)
	}
	w := walk{dir: t.TempDir(), address: freeAddress(t)}
	got := w.run(t, string(page))
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(walkPage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, has := strings.Split(stable(string(page)), "\n"), strings.Split(stable(got), "\n")
	for i := range min(len(want), len(has)) {
		if want[i] != has[i] {
			t.Fatalf("line %d of the page is\n%s\nand was printed as\n%s\n\nin all:\n%s", i+1, want[i], has[i], got)
		}
	}
	if len(want) != len(has) {
		t.Errorf("the page has %d lines, its commands make %d\n%s", len(want), len(has), got)
	}
}

// walk is one run of the page's commands.
type walk struct{ dir, address string }

var (
	walkFile    = regexp.MustCompile("(?ms)^Write `([^`]+)`:\n\n```[a-z]*\n(.*?)^```$")
	walkConsole = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")
)

const walkEnd = "@@ end of a command @@"

// run writes the files of the page, executes its commands in one shell, and returns the page
// with what they printed.
func (w walk) run(t *testing.T, page string) string {
	t.Helper()
	for _, m := range walkFile.FindAllStringSubmatch(page, -1) {
		path := filepath.Join(w.dir, "walk", m[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, strings.ReplaceAll(m[2], walkAddress, w.address))
	}
	script := "trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT\n"
	for _, block := range walkConsole.FindAllStringSubmatch(page, -1) {
		for _, command := range commandsOf(block[1]) {
			script += fmt.Sprintf("%s\necho '%s'\n", command, walkEnd)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = w.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"), "NO_COLOR=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Run(); err != nil && !strings.HasSuffix(printed.String(), walkEnd+"\n") {
		log, _ := os.ReadFile(filepath.Join(w.dir, "walk", "serve.log"))
		t.Fatalf("%v\n%s\n%s", err, printed.String(), log)
	}
	said := strings.ReplaceAll(printed.String(), w.address, walkAddress)
	said = strings.ReplaceAll(said, w.dir, "/home/ada")
	outputs := strings.Split(said, walkEnd+"\n")
	return walkConsole.ReplaceAllStringFunc(page, func(block string) string {
		body := walkConsole.FindStringSubmatch(block)[1]
		text := "```console\n"
		for _, command := range commandsOf(body) {
			text += "$ " + command + "\n" + outputs[0]
			outputs = outputs[1:]
		}
		return text + "```"
	})
}

func commandsOf(block string) (commands []string) {
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ "); ok {
			commands = append(commands, command)
		}
	}
	return commands
}

// stable replaces what differs each time.
func stable(text string) string {
	for _, r := range []struct{ pattern, by string }{
		{`\d{6}-\d{6}-[0-9a-f]{6}`, "RUN"},
		{`\b[0-9a-f]{40}\b`, "COMMIT"},
		{`\b[0-9a-f]{8}\b`, "SHORT"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`, "TIME"},
		{`(\d+ min )?\d+(\.\d+)? ?s\b`, "DURATION"},
		{`(?m)^(RUN +whoami +)\S+( +)(queued|running)( +- +)(-|DURATION)`, "${1}-${2}running${4}DURATION"},
		{`at work +0 of \d+`, "at work 0 of 2"},
		{` {2,}`, "  "},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.by)
	}
	return text
}

// whoami makes images that serve as those of the page do where the daemon has none: a test
// pulls nothing from the internet.
func whoami(t *testing.T, versions ...string) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module whoami\n\ngo 1.26\n")
	writeFile(t, filepath.Join(dir, "main.go"), `package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintf(w, "Hostname: %s\\nHost: %s\\n", name, r.Host)
	})
	panic(http.ListenAndServe(":80", nil))
}
`)
	program := filepath.Join(dir, "whoami")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, version := range versions {
		reference := "traefik/whoami:" + version
		if _, err := build.docker.ImageInspect(t.Context(), reference); err == nil {
			continue
		}
		err := dockerd.ImportImage(t.Context(), build.docker, reference, map[string]string{"/whoami": program}, []string{`ENTRYPOINT ["/whoami"]`, `EXPOSE 80`, `ENV VERSION=` + version})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := build.docker.ImageRemove(context.Background(), reference, image.RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		})
	}
}
