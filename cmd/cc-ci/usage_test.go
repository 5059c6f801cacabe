package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Every command explains itself, within a narrow terminal, and says what each of
// its flags and arguments means.
func TestEveryCommandHasHelp(t *testing.T) {
	t.Setenv("COLUMNS", "60")
	commands := 0
	var visit func(node *kong.Node)
	visit = func(node *kong.Node) {
		for _, child := range node.Children {
			visit(child)
		}
		commands++
		path := strings.Fields(node.FullPath())[1:]
		var stdout, stderr bytes.Buffer
		if code := run(append(path, "--help"), &stdout, &stderr); code != exitPassed || stderr.Len() > 0 {
			t.Errorf("%s --help: exit code %d, %s", node.FullPath(), code, &stderr)
		}
		for line := range strings.Lines(stdout.String()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 63 { // what kong writes below the commands is that long
				t.Errorf("%s --help: a line of %d characters: %s", node.FullPath(), n, line)
			}
		}
		if node.Type == kong.CommandNode && node.Help == "" {
			t.Errorf("%s has no help", node.FullPath())
		}
		for _, f := range node.Flags {
			if f.Help == "" && !f.Hidden {
				t.Errorf("%s: --%s has no help", node.FullPath(), f.Name)
			}
		}
		for _, p := range node.Positional {
			if p.Help == "" {
				t.Errorf("%s: <%s> has no help", node.FullPath(), p.Name)
			}
		}
	}
	visit(newParser(&cli{}, io.Discard, io.Discard, func(int) {}).Model.Node)
	if commands < 15 {
		t.Errorf("visited %d commands only", commands)
	}
}

// An option for a list that is given empty is no option that is left out.
func TestEmptyListsAreRefused(t *testing.T) {
	lists := 0
	var visit func(node *kong.Node)
	visit = func(node *kong.Node) {
		for _, child := range node.Children {
			visit(child)
		}
		for _, f := range node.Flags {
			if !f.IsSlice() {
				continue
			}
			lists++
			args := strings.Fields(node.FullPath())[1:]
			for range node.Positional {
				args = append(args, "x")
			}
			for value, want := range map[string]string{"": "the list is empty", " ": "the list is empty", "a,,b": "an item of the list is empty"} {
				var stdout, stderr bytes.Buffer
				code := run(append(args, "--"+f.Name+"="+value), &stdout, &stderr)
				if code != exitUsage || !strings.HasPrefix(stderr.String(), "cc-ci: --"+f.Name+": "+want+"\nhint: ") {
					t.Errorf("%s --%s=%q: exit code %d, %s", node.FullPath(), f.Name, value, code, &stderr)
				}
			}
		}
	}
	visit(newParser(&cli{}, io.Discard, io.Discard, func(int) {}).Model.Node)
	if lists < 3 {
		t.Errorf("tried %d options only", lists)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, tc := range []struct{ args, message, hint string }{
		{"bogus", `there is no command "bogus"`, "there are demo, run, repro, serve,"},
		{"dmeo", `there is no command "dmeo"`, `did you mean "demo"?; see cc-ci --help`},
		{"forge ipmort x y", `forge: there is no command "ipmort"`, `did you mean "import"?; see cc-ci forge --help`},
		{"forge", "forge: which command?", "there are import, pr, comment, member, list; see cc-ci forge --help"},
		{"forge import x", "forge import: <repo> is missing", "see cc-ci forge import --help"},
		{"forge comment a/b#1 two words", `forge comment: there is an argument too many: "words"`, "quotes"},
		{"run --bsae 1", `run: unknown flag --bsae, did you mean "--base"?`, "see cc-ci run --help"},
		{"run x --head", "run: --head needs a value", "--head=VALUE"},
		{"recipe lint --format xml .", `recipe lint: --format must be one of "text","json","sarif" but got "xml"`, "see cc-ci recipe lint --help"},
		{"--config", "--config needs a value", "see cc-ci --help"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(strings.Fields(tc.args), &stdout, &stderr)
		message, hint, _ := strings.Cut(stderr.String(), "\nhint: ")
		if code != exitUsage || message != "cc-ci: "+tc.message || !strings.Contains(hint, tc.hint) || stdout.Len() > 0 {
			t.Errorf("cc-ci %s: exit code %d, %s%s", tc.args, code, &stdout, &stderr)
		}
	}
}
