package gitcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bomb is a tree of few objects that stands for width to the power of depth files.
func (s source) bomb(width, depth int) string {
	line := "100644 blob " + s.blob("x")
	for range depth {
		var lines []string
		for i := range width {
			lines = append(lines, fmt.Sprintf("%s\tf%d", line, i))
		}
		line = "040000 tree " + s.tree(lines...)
	}
	return strings.Fields(line)[2]
}

// deep is a tree with one file below that many folders.
func (s source) deep(folders int) string {
	s.git("commit refs/heads/deep\ncommitter t <t@example.org> 1 +0000\ndata 0\nM 644 inline "+strings.Repeat("d/", folders)+"f\ndata 1\nx\n", "fast-import", "--quiet")
	return s.git("", "rev-parse", "refs/heads/deep^{tree}")
}

// A commit is judged before any of its files is written.
func TestM2_CheckoutIsBounded(t *testing.T) {
	link := func(s source, name, to string) string { return "120000 blob " + s.blob(to) + "\t" + name }
	for name, c := range map[string]struct {
		make   func(source) string // returns a tree
		limits Limits
		words  string
	}{
		"tree bomb": {func(s source) string { return s.bomb(10, 10) }, Limits{}, "more than 10000 files in one commit (git.files)"},
		"files": {func(s source) string {
			b, lines := s.blob("x"), []string(nil)
			for i := range 101 {
				lines = append(lines, fmt.Sprintf("100644 blob %s\tf%d", b, i))
			}
			return s.tree(lines...)
		}, Limits{Files: 100}, "more than 100 files in one commit (git.files)"},
		"bytes": {func(s source) string {
			b, lines := s.blob(strings.Repeat("x", 1<<20)), []string(nil)
			for i := range 5 {
				lines = append(lines, fmt.Sprintf("100644 blob %s\tf%d", b, i))
			}
			return s.tree(lines...)
		}, Limits{TreeBytes: 4 << 20}, "more than 4 MiB of files in one commit (git.tree_mib)"},
		"depth":             {func(s source) string { return s.deep(40) }, Limits{}, "more than 32 folders deep (git.depth)"},
		"deepest":           {func(s source) string { return s.deep(3000) }, Limits{}, "git"},
		"git's own":         {func(s source) string { return s.tree("100644 blob " + s.blob("x") + "\t.GIT ") }, Limits{}, "git keeps its own files"},
		"git's own, hidden": {func(s source) string { return s.tree("100644 blob " + s.blob("x") + "\t.g\u200cit") }, Limits{}, "git keeps its own files"},
		"escape":            {func(s source) string { return s.tree("100644 blob " + s.blob("x") + "\ta\x1b]0;x\x07") }, Limits{}, "control characters"},
		"absolute link":     {func(s source) string { return s.tree(link(s, "compose.yml", "/etc/passwd")) }, Limits{}, "not in the repository"},
		"link out": {func(s source) string {
			return s.tree("040000 tree " + s.tree(link(s, "x", "../../etc/passwd")) + "\td")
		}, Limits{}, "not in the repository"},
		"link through a link": {func(s source) string {
			return s.tree("040000 tree "+s.tree(link(s, "up", ".."))+"\td", link(s, "out", "d/up/.."))
		}, Limits{}, "through another link"},
		"link to git": {func(s source) string { return s.tree(link(s, "x", ".git/config")) }, Limits{}, "a name that is not allowed"},
		"long link":   {func(s source) string { return s.tree(link(s, "x", strings.Repeat("x", 5<<20))) }, Limits{}, "targets that are too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t)
			commit := s.commit(c.make(s))
			work := filepath.Join(t.TempDir(), "work")
			wantRefused(t, CheckOut(t.Context(), s.dir, work, commit, c.limits), c.words)
			if _, err := os.Lstat(work); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was laid out: %v", err)
			}
		})
	}
}

// What public recipes have is laid out as it is.
func TestCheckoutWhole(t *testing.T) {
	s := newSource(t)
	sub := s.tree("100755 blob "+s.blob("#!/bin/sh\n")+"\trun", "120000 blob "+s.blob("../README.md")+"\tlink")
	commit := s.commit(s.tree("100644 blob "+s.blob("text\n")+"\tREADME.md", "040000 tree "+sub+"\tscripts", "160000 commit "+strings.Repeat("1", 40)+"\tsub",
		"100644 blob "+s.blob("*.md text eol=crlf\n")+"\t.gitattributes", "100644 blob "+s.blob("x\n")+"\t.gitignore"))
	work := filepath.Join(t.TempDir(), "work")
	if err := CheckOut(t.Context(), s.dir, work, commit, Limits{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(work, "scripts", "link"))
	if err != nil || string(text) != "text\r\n" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(work, "scripts", "run")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("%v, %v", info, err)
	}
}

// What a command prints is bounded, and so is what is kept of its complaints.
func TestOutputIsBounded(t *testing.T) {
	s := newSource(t)
	big := s.blob(strings.Repeat("x", maxOutput+1))
	if _, err := Output(t.Context(), s.dir, "cat-file", "blob", big); !errors.Is(err, errTooLong) {
		t.Errorf("%v", err)
	}
}

// A file may ask for the message of its commit any number of times, and git puts it together
// in memory.
func TestM2_ArchiveIsBounded(t *testing.T) {
	s := newSource(t)
	tree := s.tree("100644 blob "+s.blob("x export-subst\n")+"\t.gitattributes", "100644 blob "+s.blob(strings.Repeat("$Format:%B$\n", 3000))+"\tx")
	commit := s.git("t\n\n"+strings.Repeat(strings.Repeat("y", 99)+"\n", 1000), "commit-tree", tree)
	var out counter
	err := Archive(t.Context(), s.dir, &out, commit, Limits{Memory: 200 << 20})
	wantRefused(t, err, "more than 200 MiB of memory to be read (git.memory_mib)")
	commit = s.git("t\n", "commit-tree", tree)
	if err := Archive(t.Context(), s.dir, &out, commit, Limits{Memory: 200 << 20}); err != nil || out < 3000 {
		t.Errorf("%d bytes, %v", out, err)
	}
}

// counter counts what is written to it.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
