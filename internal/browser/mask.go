package browser

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// hideScript replaces each of the given texts, in a document and its open shadow trees, by
// dots: in text, also where one text is cut into several nodes, in attributes, and in what
// fields hold. It returns how often it found one. With frames, embedded documents that cannot
// be read from here are hidden.
const hideScript = `(secrets, frames) => {
	let found = 0;
	const clean = text => {
		for (const s of secrets) if (text.includes(s)) { text = text.split(s).join('•'.repeat(s.length)); found++; }
		return text;
	};
	const nodes = [];
	const walk = root => {
		const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT | NodeFilter.SHOW_COMMENT);
		for (let n = walker.currentNode; n; n = walker.nextNode()) {
			if (n.nodeType === Node.TEXT_NODE) { nodes.push(n); continue; }
			if (n.nodeType === Node.COMMENT_NODE) { const v = clean(n.data); if (v !== n.data) n.data = v; continue; }
			if (n.nodeType !== Node.ELEMENT_NODE) continue;
			for (const a of n.attributes) { const v = clean(a.value); if (v !== a.value) a.value = v; }
			if (n instanceof HTMLInputElement || n instanceof HTMLTextAreaElement) {
				const v = clean(n.value);
				if (v !== n.value) { n.value = v; if (n.value !== v) n.value = ''; }
			}
			if (frames && 'contentDocument' in n && !n.contentDocument) n.style.setProperty('visibility', 'hidden', 'important');
			if (n.shadowRoot) walk(n.shadowRoot);
		}
	};
	walk(document);
	const all = nodes.map(n => n.data).join(''), at = [], lean = [];
	for (let i = 0; i < all.length; i++) if (!/\s/.test(all[i])) { at.push(i); lean.push(all[i]); }
	const joined = lean.join(''), covered = new Uint8Array(all.length);
	for (const s of secrets) {
		const needle = s.replace(/\s/g, '');
		for (let k = needle ? joined.indexOf(needle) : -1; k >= 0; k = joined.indexOf(needle, k + needle.length)) {
			found++;
			for (let i = k; i < k + needle.length; i++) covered[at[i]] = 1;
		}
	}
	let from = 0;
	for (const n of nodes) {
		const data = n.data, end = from + data.length;
		if (covered.subarray(from, end).includes(1))
			n.data = Array.from({length: data.length}, (_, i) => covered[from + i] ? '•' : data[i]).join('');
		from = end;
	}
	return found;
}`

// hideNode does the same to one node that only DevTools reach, in a closed shadow tree.
const hideNode = `function (secret) {
	const dots = '•'.repeat(secret.length), clean = text => text.split(secret).join(dots);
	let found = 0;
	if ('data' in this && this.data.includes(secret)) { this.data = clean(this.data); found++; }
	for (const a of this.attributes || []) if (a.value.includes(secret)) { a.value = clean(a.value); found++; }
	return found;
}`

// hide takes texts out of the page, in every frame, and returns how often it found one. What a
// page draws without text (an image, a canvas) cannot be read and stays.
func (p *page) hide(ctx context.Context, texts []string) (found int, err error) {
	if len(texts) == 0 {
		return 0, nil
	}
	quoted, err := json.Marshal(texts)
	if err != nil {
		return 0, fmt.Errorf("quoting what is to be hidden: %w", err)
	}
	expression := fmt.Sprintf("(%s)(%s, %t)", hideScript, quoted, p.drawnElsewhere())
	return run(ctx, p, func(ctx context.Context, t *chromedp.Target) (int, error) {
		tree, err := cdp.Call(ctx, t, cdppage.GetFrameTree, cdp.Empty{})
		if err != nil {
			return 0, err
		}
		total := 0
		for _, frame := range frames(tree.FrameTree) {
			n, err := isolated[int](expression, frame)(ctx, t)
			if err != nil {
				return 0, err
			}
			total += n
		}
		for _, text := range texts {
			n, err := hideInClosedTrees(ctx, t, text)
			if err != nil {
				return 0, err
			}
			total += n
		}
		return total, nil
	})
}

func frames(tree *cdppage.FrameTree) []cdp.FrameID {
	ids := []cdp.FrameID{tree.Frame.ID}
	for _, child := range tree.ChildFrames {
		ids = append(ids, frames(child)...)
	}
	return ids
}

// maxSearch is how many nodes with one text are looked at; more of them is a page that is in
// no picture.
const maxSearch = 1000

func hideInClosedTrees(ctx context.Context, t *chromedp.Target, text string) (found int, err error) {
	search, err := cdp.Call(ctx, t, dom.PerformSearch, dom.PerformSearchParams{Query: text})
	if err != nil || search.ResultCount == 0 {
		return 0, err
	}
	if search.ResultCount > maxSearch {
		return int(search.ResultCount), nil
	}
	results, err := cdp.Call(ctx, t, dom.GetSearchResults, dom.GetSearchResultsParams{SearchID: search.SearchID, ToIndex: search.ResultCount})
	if err != nil {
		return 0, err
	}
	for _, id := range results.NodeIDs {
		node, err := cdp.Call(ctx, t, dom.ResolveNode, dom.ResolveNodeParams{NodeID: id})
		if err != nil {
			return 0, err
		}
		n, err := chromedp.CallFunctionOn[int](hideNode, func(params *runtime.CallFunctionOnParams) { params.ObjectID = node.Object.ObjectID }, text)(ctx, t)
		if err != nil {
			return 0, err
		}
		found += n
	}
	return found, nil
}

// maxPictures is how often a picture is taken of a page that writes again what was hidden.
const maxPictures = 3

// capture takes a picture in which none of the texts was to be read, before or after.
func (p *page) capture(ctx context.Context, hide []string) ([]byte, error) {
	for range maxPictures {
		if _, err := p.hide(ctx, hide); err != nil {
			return nil, err
		}
		png, err := run(ctx, p, chromedp.CaptureScreenshot())
		if err != nil {
			return nil, err
		}
		if found, err := p.hide(ctx, hide); err != nil || found == 0 {
			return png, err
		}
	}
	return nil, checks.ErrSecretShown
}
