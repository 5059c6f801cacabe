package ccci_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// N3: each test that docs/security.md names as a proof is there.
func TestN3_SecurityPageNamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			have = append(have, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(have)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)").FindAllSubmatch(page, -1)
	if len(named) < 100 {
		t.Errorf("the page names %d tests", len(named))
	}
	for _, m := range named {
		if _, ok := slices.BinarySearch(have, string(m[1])); !ok {
			t.Errorf("docs/security.md:%d names %s, which is no test", 1+bytes.Count(page[:bytes.Index(page, m[1])], []byte("\n")), m[1])
		}
	}
}
