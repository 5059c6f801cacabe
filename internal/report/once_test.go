package report_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// refusedLine is a line that lists what is refused: place, rule and service.
var refusedLine = regexp.MustCompile("^- `[^`]+` `([a-z-]+)` (service [a-z0-9-]+) ")

// said returns the lines of a comment in which something is said. Lines of logs and commands to copy
// are evidence, and what changes for operators is a list for other readers than the review.
func said(comment string) (lines []string) {
	comment, _, _ = strings.Cut(comment, "<!-- status")
	fenced, operators := false, false
	for line := range strings.Lines(comment) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		operators = operators && strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "**What changes for operators")
		if !fenced && !operators {
			lines = append(lines, line)
		}
	}
	return lines
}

// repeats returns what a comment says more than once: parts of sentences, and findings.
func repeats(comment string) (found []string) {
	lines := said(comment)
	all := strings.NewReplacer(`\`, "", "`", "", "*", "").Replace(strings.Join(lines, "\n"))
	for part := range strings.FieldsFuncSeq(strings.NewReplacer(": ", "\x00", ". ", "\x00", ".\n", "\x00", "; ", "\x00", "\n", "\x00").Replace(all), func(r rune) bool { return r == 0 }) {
		part = strings.TrimSpace(part)
		if len(part) < 20 || !strings.Contains(part, " ") || strings.Contains(part, "://") || strings.Contains(part, "→") {
			continue
		}
		if strings.Count(all, part) > 1 && !slices.Contains(found, part) {
			found = append(found, part)
		}
	}
	for _, line := range lines {
		m := refusedLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		setting := regexp.MustCompile(`\b` + strings.ReplaceAll(m[1], "-", "[-_]") + `\b`)
		n := 0
		for _, line := range lines {
			line, _, _ = strings.Cut(line, ". Hint: ")
			if setting.MatchString(line) {
				n++
			}
		}
		if n > 1 {
			found = append(found, m[1]+" of "+m[2])
		}
	}
	return found
}

// N12: no comment says a thing twice: a cause, the reason of a level, a finding, what a release failed for.
func TestN12_CommentsSayEachThingOnce(t *testing.T) {
	files := 0
	for _, dir := range []string{"testdata", filepath.Join("..", "..", "harness", "testdata", "comments")} {
		all, err := filepath.Glob(filepath.Join(dir, "*.md"))
		if err != nil || len(all) == 0 {
			t.Fatalf("%s has %d comments: %v", dir, len(all), err)
		}
		for _, file := range all {
			if strings.Contains(file, "hostile") { // one text in every place
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files++
			for _, part := range repeats(string(text)) {
				t.Errorf("%s says more than once: %q", file, part)
			}
		}
	}
	if files < 40 {
		t.Errorf("only %d comments were read", files)
	}
}
