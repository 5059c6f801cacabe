package dashboard

import (
	"bytes"
	"html"
	"html/template"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown renders a comment. Raw HTML is left out, but for details and
// summary without attributes, which forges have and reports use. Pictures are
// shown from this site only; one from elsewhere becomes a link, since fetching it
// would tell its server who reads. Emoji of the bot are drawn, see [symbols].
func (d *Dashboard) markdown(body string) (template.HTML, error) {
	md := goldmark.New(
		goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)), extension.Strikethrough, extension.TaskList, extension.Linkify),
		goldmark.WithParserOptions(parser.WithASTTransformers(util.Prioritized(ownPictures{d}, 100), util.Prioritized(drawSymbols{}, 200), util.Prioritized(belowTitle{}, 300))),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(&folds{}, 100), util.Prioritized(drawSymbols{}, 200))),
	)
	var b bytes.Buffer
	if err := md.Convert([]byte(body), &b); err != nil {
		return "", err
	}
	//nolint:gosec // goldmark without raw HTML
	return template.HTML(strings.ReplaceAll(closeFolds(b.String()), "<pre>", focusablePre)), nil
}

// focusablePre begins a block that the keyboard can scroll. Within text "<pre>" is escaped.
const focusablePre = `<pre tabindex="0" role="group" aria-label="Code">`

// belowTitle puts the headings of a comment right below the page's own, whatever ranks they were
// written with: ranks of a page may not be passed over.
type belowTitle struct{}

func (belowTitle) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) {
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if heading, ok := n.(*ast.Heading); ok && entering {
			heading.Level = 2
		}
		return ast.WalkContinue, nil
	})
}

// ownPictures rewrites links and pictures.
type ownPictures struct{ d *Dashboard }

func (t ownPictures) Transform(doc *ast.Document, reader text.Reader, _ parser.Context) {
	var pictures []*ast.Image
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Image:
			n.Destination = []byte(t.d.ownLink(string(n.Destination)))
			if !strings.HasPrefix(string(n.Destination), "/") {
				pictures = append(pictures, n)
			}
		case *ast.Link:
			if own := t.d.ownLink(string(n.Destination)); own != "" {
				n.Destination = []byte(own)
			}
			foreign(n, string(n.Destination))
		case *ast.AutoLink:
			foreign(n, string(n.URL(reader.Source())))
		}
		return ast.WalkContinue, nil
	})
	for _, p := range pictures {
		link := ast.NewLink()
		link.Destination = p.Destination
		foreign(link, string(p.Destination))
		for c := p.FirstChild(); c != nil; {
			next := c.NextSibling()
			link.AppendChild(link, c)
			c = next
		}
		if link.FirstChild() == nil {
			link.AppendChild(link, ast.NewString([]byte("picture")))
		}
		p.Parent().ReplaceChild(p.Parent(), p, link)
	}
}

// foreign keeps a link to another site from learning where it stood.
func foreign(n ast.Node, destination string) {
	if !strings.HasPrefix(destination, "/") && !strings.HasPrefix(destination, "#") {
		n.SetAttributeString("rel", []byte("nofollow noopener noreferrer"))
	}
}

// folds renders the few tags of HTML that comments may hold.
type folds struct{}

func (f *folds) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHTMLBlock, f.block)
	r.Register(ast.KindRawHTML, f.inline)
}

func (f *folds) block(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	n := node.(*ast.HTMLBlock)
	var raw strings.Builder
	for i := range n.Lines().Len() {
		line := n.Lines().At(i)
		raw.Write(line.Value(source))
	}
	if n.HasClosure() {
		raw.Write(n.ClosureLine.Value(source))
	}
	if n.HTMLBlockType == ast.HTMLBlockType6 || n.HTMLBlockType == ast.HTMLBlockType7 {
		_, _ = w.WriteString(harmlessTags(raw.String()))
	}
	return ast.WalkSkipChildren, nil
}

func (f *folds) inline(w util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	n := node.(*ast.RawHTML)
	var raw strings.Builder
	for i := range n.Segments.Len() {
		segment := n.Segments.At(i)
		raw.Write(segment.Value(source))
	}
	_, _ = w.WriteString(harmlessTags(raw.String()))
	return ast.WalkSkipChildren, nil
}

var (
	remark  = regexp.MustCompile(`(?s)<!--.*?-->`)
	tag     = regexp.MustCompile(`<[^>]*>?`)
	allowed = regexp.MustCompile(`^</?(?:details|summary|br|kbd|sub|sup)>$|^<br ?/>$`)
)

// harmlessTags keeps the tags that comments may hold, drops all others, and
// escapes the text between them.
func harmlessTags(raw string) string {
	raw = remark.ReplaceAllString(raw, "")
	var b strings.Builder
	at := 0
	for _, span := range tag.FindAllStringIndex(raw, -1) {
		b.WriteString(drawText(html.UnescapeString(raw[at:span[0]])))
		if t := strings.ToLower(raw[span[0]:span[1]]); allowed.MatchString(t) {
			b.WriteString(t)
		}
		at = span[1]
	}
	b.WriteString(drawText(html.UnescapeString(raw[at:])))
	return b.String()
}

var foldTag = regexp.MustCompile(`</?(?:details|summary)>`)

// closeFolds drops closing tags that close nothing and closes what was left
// open, so that a comment cannot reach beyond itself.
func closeFolds(rendered string) string {
	var open []string
	out := foldTag.ReplaceAllStringFunc(rendered, func(t string) string {
		name := strings.Trim(t, "</>")
		if t[1] != '/' {
			open = append(open, name)
			return t
		}
		if len(open) == 0 || open[len(open)-1] != name {
			return ""
		}
		open = open[:len(open)-1]
		return t
	})
	for i := len(open) - 1; i >= 0; i-- {
		out += "</" + open[i] + ">"
	}
	return out
}
