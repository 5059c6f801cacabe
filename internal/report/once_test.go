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

// saidOnPage returns the lines of a page's text in which something is said: neither lines of logs nor
// what changes for operators nor the facts below.
func saidOnPage(page string) (lines []string) {
	operators := false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		switch line {
		case "Artifacts", "Facts":
			return lines
		case "What the upgrade changes":
			operators = true
		case "Teardown":
			operators = false
		}
		if !operators && !strings.HasPrefix(line, "| ") {
			lines = append(lines, line)
		}
	}
	return lines
}

var (
	word = regexp.MustCompile(`[a-z0-9!=+./_-]+`)
	// common are words that do not tell two sentences apart.
	common = strings.Fields("the a an of is was to in it and or for that this from with not no by at on as its be does did do has have which so but what when one")
)

// wordsOf returns the words of a sentence that it has in common with others when both say the same.
func wordsOf(sentence string) (words []string) {
	for _, w := range word.FindAllString(strings.ToLower(sentence), -1) {
		if w = strings.Trim(w, "._-"); w != "" && !slices.Contains(common, w) && !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}

// alike reports whether one of two sentences has most of its words from the other.
func alike(a, b string) bool {
	const fewest = 5 // shorter ones are names and headings
	x, y := wordsOf(a), wordsOf(b)
	both := 0
	for _, w := range x {
		if slices.Contains(y, w) {
			both++
		}
	}
	shorter := min(len(x), len(y))
	return shorter >= fewest && 4*both >= 3*shorter
}

// repeats returns what a comment or a page says more than once: parts of sentences, in the same
// words or in most of them, findings, and what to comment.
func repeats(lines []string) (found []string) {
	all := strings.NewReplacer(`\`, "", "`", "", "*", "").Replace(strings.Join(lines, "\n"))
	var before []string
	for part := range strings.FieldsFuncSeq(strings.NewReplacer(": ", "\x00", ". ", "\x00", ".\n", "\x00", "; ", "\x00", "\n", "\x00").Replace(all), func(r rune) bool { return r == 0 }) {
		part = strings.TrimSpace(part)
		if len(part) < 20 || !strings.Contains(part, " ") || strings.Contains(part, "://") || strings.Contains(part, "→") {
			continue
		}
		if strings.Count(all, part) > 1 && !slices.Contains(found, part) {
			found = append(found, part)
		}
		for _, other := range before {
			if other != part && alike(other, part) {
				found = append(found, other+" / "+part)
			}
		}
		before = append(before, part)
	}
	for _, line := range lines { // what to comment is the last sentence's
		if strings.HasPrefix(strings.Trim(line, "*"), "Hint:") && (strings.Contains(line, "!testme") || strings.Contains(line, "!retest")) {
			found = append(found, line)
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
	eachSaysOnce(t, said, 40, filepath.Join("testdata", "*.md"), filepath.Join("..", "..", "harness", "testdata", "comments", "*.md"))
}

// N12: nor does a run's page.
func TestN12_PagesSayEachThingOnce(t *testing.T) {
	eachSaysOnce(t, saidOnPage, 20, filepath.Join("..", "..", "dashboard", "testdata", "pages", "*.txt"))
}

// eachSaysOnce reads at least so many golden files.
func eachSaysOnce(t *testing.T, said func(string) []string, least int, patterns ...string) {
	files := 0
	for _, pattern := range patterns {
		all, err := filepath.Glob(pattern)
		if err != nil || len(all) == 0 {
			t.Fatalf("%s are %d files: %v", pattern, len(all), err)
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
			for _, part := range repeats(said(string(text))) {
				t.Errorf("%s says more than once: %q", file, part)
			}
		}
	}
	if files < least {
		t.Errorf("only %d files were read", files)
	}
}

// Sentences are alike that say one thing in other words.
func TestAlike(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"The recipe asks for something that cc-ci does not allow", "the recipe asks for 2 settings that cc-ci does not allow", true},
		{"0.1.0, the last green canonical, from which this quick run was to start, did not install", "Install of 0.1.0, the last green canonical, failed", true},
		{"swarm ignores pid (a swarm service has no such setting)", "swarm ignores privileged (a swarm service is never privileged)", false},
		{"service app changed its image", "service app changed its command", false},
	} {
		if alike(c.a, c.b) != c.want || alike(c.b, c.a) != c.want {
			t.Errorf("%q and %q: alike is %v", c.a, c.b, !c.want)
		}
	}
}
