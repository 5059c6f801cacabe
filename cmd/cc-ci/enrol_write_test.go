package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

const giteaEntry = "kind: gitea\n    url: https://git.example.org\n    token_file: token\n    org: coop\n"

// Whatever a person wrote stays to the byte; the entry's own lines come in.
func TestA36_EnrolmentIsWritten(t *testing.T) {
	x, named := config.Repo{Repo: "coop/x"}, config.Repo{Repo: "coop/x", Recipe: "1.0"}
	for _, test := range []struct {
		name, forge string
		repo        config.Repo
		text        string // ‹› marks what comes in
	}{
		{"a list", "local", x, "# top\n\nrepos:   # ours\n  - repo: coop/a   # first\n\n  # the other\n  - {repo: coop/b,   recipe: c}  # b\n‹  - repo: coop/x\n›\n# end\ntitle: \"x\"\n"},
		{"a list that is not indented", "local", x, "repos:\n- repo: coop/a\n  recipe: b\n‹- repo: coop/x\n›data: d\n"},
		{"a name that looks like a number", "local", named, "repos:\n  - repo: coop/a\n‹  - {repo: coop/x, recipe: \"1.0\"}\n›"},
		{"no list", "local", x, "data: d # here\n‹repos:\n  - repo: coop/x\n›badge:\n  stale: 1h\n"},
		{"an empty list", "local", x, "repos:\n‹  - repo: coop/x\n›data: d\n"},
		{"an empty list in brackets", "local", x, "repos: [‹{repo: coop/x}›]\ndata: d\n"},
		{"a list in brackets", "local", x, "repos: [‹{repo: coop/x}, ›{repo: coop/a},\n   {repo: coop/b}] # two\ndata: d\n"},
		{"nothing", "local", x, "‹repos:\n  - repo: coop/x\n›"},
		{"remarks alone", "local", x, "# to be filled in\n‹repos:\n  - repo: coop/x\n›"},
		{"no end of line", "local", x, "data: d‹\nrepos:\n  - repo: coop/x\n›"},
		{"JSON", "local", named, "{‹\"repos\": [{\"repo\": \"coop/x\", \"recipe\": \"1.0\"}], ›\"data\": \"d\"}\n"},
		{"lines of another system", "local", x, "repos:\r\n  - repo: coop/a\r\n‹  - repo: coop/x\r\n›data: d\r\n"},
		{"letters before the bracket", "local", x, "{title: \"für uns\", repos: [‹{repo: coop/x}, ›{repo: coop/a}]}\n"},
		{"a forge by its default name", "git.example.org", x, "forges:\n  - {kind: local, org: coop}\n  - " + giteaEntry + "    repositories:\n      - repo: coop/a\n‹      - repo: coop/x\n›    discover: topic:ci   # and these\nlog: info\n"},
		{"a forge without a list", "git.example.org", x, "forges:\n  - " + giteaEntry + "    discover: topic:ci # found\n‹    repositories:\n      - repo: coop/x\n›"},
		{"a forge in brackets", "local", x, "forges:\n  - {‹repositories: [{repo: coop/x}], ›kind: local, org: coop}\n"},
	} {
		before, rest, _ := strings.Cut(test.text, "‹")
		entry, after, _ := strings.Cut(rest, "›")
		path := filepath.Join(t.TempDir(), "cc-ci.yml")
		writeFile(t, path, before+after)
		line, added, err := writeEnrolment(path, test.forge, test.repo)
		if err != nil || !added {
			t.Errorf("%s: %t, %v", test.name, added, err)
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != before+entry+after {
			t.Errorf("%s: written is\n%s\nwant\n%s", test.name, got, before+entry+after)
		}
		if lines := strings.Split(string(got), "\n"); !strings.Contains(lines[line-1], "coop/x") {
			t.Errorf("%s: line %d is said to hold it", test.name, line)
		}
		// The second time nothing is left to do.
		if _, added, err := writeEnrolment(path, test.forge, test.repo); added || err != nil {
			t.Errorf("%s, again: %t, %v", test.name, added, err)
		}
		if again, _ := os.ReadFile(path); string(again) != string(got) {
			t.Errorf("%s: the second time it became\n%s", test.name, again)
		}
	}
}

// What is written in another way than expected is named with its line and left alone.
func TestA36_EnrolmentIsRefused(t *testing.T) {
	for _, test := range []struct{ name, forge, text, want string }{
		{"an alias", "git.example.org", "forges:\n  - kind: local\n    org: coop\n    repositories: &all\n      - repo: coop/a\n  - " + giteaEntry + "    repositories: *all\n", "cc-ci.yml:10: repositories is an alias"},
		{"a list that is used twice", "local", "forges:\n  - kind: local\n    org: coop\n    repositories: &all\n      - repo: coop/a\n  - " + giteaEntry + "    repositories: *all\n", "cc-ci.yml:4: this list has a name"},
		{"an entry over two lines", "local", "repos:\n  - {repo: coop/a,\n     recipe: b\n    }\n", "cc-ci.yml:4: the list is written in a way"},
		{"a forge in brackets that is closed on another line", "local", "forges:\n  - {kind: local, org: coop,\n     repositories: !!seq [] }\n", "cc-ci.yml:3: "},
		{"a mistake elsewhere", "local", "dta: d\n", "cc-ci.yml:1: dta: there is no such setting"},
		{"no such forge", "elsewhere", "forges:\n  - {kind: local, org: coop}\n", `cc-ci.yml:2: forges has no entry "elsewhere"`},
	} {
		path := filepath.Join(t.TempDir(), "cc-ci.yml")
		writeFile(t, path, test.text)
		_, added, err := writeEnrolment(path, test.forge, config.Repo{Repo: "coop/x"})
		if added || err == nil || ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(err.Error(), test.want) || ccci.HintOf(err) == "" {
			t.Errorf("%s: %t, %v; want %q", test.name, added, err, test.want)
		}
		if got, _ := os.ReadFile(path); string(got) != test.text {
			t.Errorf("%s: it became\n%s", test.name, got)
		}
	}
}

// Many at once lose none; links, modes and what lies beside are left as they were.
func TestA36_EnrolmentsAtOnce(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.yml"), filepath.Join(dir, "cc-ci.yml")
	writeFile(t, path, "data: d\n")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.yml", link); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "e", "a", "b"} {
		all.Go(func() {
			if _, _, err := writeEnrolment(link, "local", config.Repo{Repo: "coop/" + name}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	cfg, err := config.Read(link)
	if err != nil || len(cfg.Repos) != 5 {
		t.Errorf("%+v, %v", cfg.Repos, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) != 2 {
		t.Errorf("%v, %v", there, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is gone")
	}
	if _, _, err := writeEnrolment(filepath.Join(dir, "none.yml"), "local", config.Repo{Repo: "coop/x"}); ccci.CodeOf(err) != ccci.CodeInvalid {
		t.Errorf("no file: %v", err)
	}
}
