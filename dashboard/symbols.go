package dashboard

import (
	"html"
	"html/template"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// symbols are the emoji of the bot's comments, as this site draws states. Not every
// machine has a font with emoji; without one they are boxes. The name is what a
// screen reader says of the emoji.
var symbols = map[rune]struct{ icon, class, name string }{
	'✅': {"pass", "pass", "check mark"},
	'❌': {"fail", "fail", "cross mark"},
	'⛔': {"stop", "fail", "no entry"},
	'⚠': {"warn", "err", "warning"},
	'🚫': {"stop", "idle", "prohibited"},
	'⏳': {"clock", "idle", "hourglass"},
	'🔄': {"spin", "run", "arrows in a circle"},
	'⏭': {"skip", "skip", "next"},
	'❔': {"ask", "skip", "question mark"},
	'🔁': {"ask", "err", "repeat"},
	'➖': {"skip", "idle", "minus"},
	'⬜': {"dot", "idle", "white square"},
}

// emojiStyle asks for the coloured form of the character before it.
const emojiStyle = "\ufe0f"

// symbol draws an emoji of the table.
func symbol(emoji rune) template.HTML {
	s := symbols[emoji]
	//nolint:gosec // from the table above
	return template.HTML(`<span class="symbol c-` + s.class + `" role="img" aria-label="` + s.name + `">` + string(icon(s.icon)) + `</span>`)
}

// nextSymbol finds the first emoji of the table: it stands at s[from:to].
func nextSymbol(s string) (emoji rune, from, to int) {
	for i, r := range s {
		if _, ok := symbols[r]; ok {
			to := i + len(string(r))
			return r, i, to + len(s[to:]) - len(strings.TrimPrefix(s[to:], emojiStyle))
		}
	}
	return 0, -1, -1
}

// drawText escapes text and draws the emoji in it.
func drawText(s string) string {
	var b strings.Builder
	for {
		emoji, from, to := nextSymbol(s)
		if from < 0 {
			return b.String() + html.EscapeString(s)
		}
		b.WriteString(html.EscapeString(s[:from]) + string(symbol(emoji)))
		s = s[to:]
	}
}

// drawn is an emoji within a comment.
type drawn struct {
	ast.BaseInline
	emoji rune
}

var kindDrawn = ast.NewNodeKind("Symbol")

func (n *drawn) Kind() ast.NodeKind            { return kindDrawn }
func (n *drawn) Dump(source []byte, level int) { ast.DumpHelper(n, source, level, nil, nil) }

// drawSymbols puts drawn nodes where the text of a comment has emoji. What is
// code stays as it was written, and so does the text for a picture.
type drawSymbols struct{}

func (drawSymbols) Transform(doc *ast.Document, reader text.Reader, _ parser.Context) {
	var texts []*ast.Text
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.CodeSpan, *ast.Image:
			return ast.WalkSkipChildren, nil
		case *ast.Text:
			if entering {
				texts = append(texts, n)
			}
		}
		return ast.WalkContinue, nil
	})
	for _, t := range texts {
		for {
			emoji, from, to := nextSymbol(string(t.Segment.Value(reader.Source())))
			if from < 0 {
				break
			}
			before := ast.NewTextSegment(t.Segment.WithStop(t.Segment.Start + from))
			t.Parent().InsertBefore(t.Parent(), t, before)
			t.Parent().InsertBefore(t.Parent(), t, &drawn{emoji: emoji})
			t.Segment = t.Segment.WithStart(t.Segment.Start + to)
		}
	}
}

// RegisterFuncs implements renderer.NodeRenderer.
func (drawSymbols) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(kindDrawn, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			_, _ = w.WriteString(string(symbol(n.(*drawn).emoji)))
		}
		return ast.WalkContinue, nil
	})
}
