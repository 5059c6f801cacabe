package browser

import (
	"context"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// maxDialogs is how many dialogs a page may open before it counts as one that cannot be used.
const maxDialogs = 100

// maxInFlight bounds how many requests of a page are kept count of.
const maxInFlight = 10_000

// maxDocuments bounds of how many documents of a page the status is kept.
const maxDocuments = 64

// documentStatus is what a document was answered with. One that became a download is shown nowhere.
type documentStatus struct {
	loader cdp.LoaderID
	status int
}

// elsewhere is the failure of a page that left the run.
func elsewhere(address string) error {
	return &checks.Failure{Message: "the page went to " + printable(address) + ", which is no address of this run"}
}

// finish says why the page cannot be judged any more. The first reason counts.
func (p *page) finish(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		p.ended = why
		close(p.end)
	}
}

// watch sees what happens in the tab, in order: it keeps count of the requests under way,
// and notices what ends a check.
func (p *page) watch(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		// A worker's own script is asked for in the tab, for no document, and loaded elsewhere: the
		// tab hears of no end of it.
		if e.LoaderID != "" {
			p.count(func() {
				if len(p.inFlight) < maxInFlight {
					p.inFlight[e.RequestID] = true
				}
			})
		}
		p.browser.refuse(e.Request.URL)
		if e.Type == network.ResourceTypeDocument && e.FrameID == p.frame() && !p.browser.route.reaches(e.Request.URL) {
			p.finish(elsewhere(e.Request.URL))
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument && e.FrameID == p.frame() {
			p.mu.Lock()
			if len(p.statuses) == maxDocuments {
				p.statuses = p.statuses[1:]
			}
			p.statuses = append(p.statuses, documentStatus{e.LoaderID, int(e.Response.Status)})
			p.mu.Unlock()
		}
	case *network.EventWebSocketCreated:
		p.browser.refuse(e.URL)
	case *network.EventLoadingFinished:
		p.count(func() { delete(p.inFlight, e.RequestID) })
	case *network.EventLoadingFailed:
		p.count(func() { delete(p.inFlight, e.RequestID) })
	case *cdppage.EventWindowOpen:
		if e.URL != "" && !p.browser.route.reaches(e.URL) {
			p.finish(elsewhere(e.URL))
		}
	case *cdppage.EventJavascriptDialogOpening:
		p.mu.Lock()
		p.dialogs++
		tooMany := p.dialogs > maxDialogs
		p.mu.Unlock()
		if tooMany {
			p.finish(&checks.Failure{Message: "the page opens one dialog after the other"})
		}
		// A page that asks whether it may be left may be; everything else is answered with no.
		answer := cdppage.HandleJavaScriptDialogParams{Accept: e.Type == cdppage.DialogTypeBeforeunload}
		p.later(func(ctx context.Context) { _, _ = chromedp.Call(ctx, cdppage.HandleJavaScriptDialog, answer) })
	case *target.EventAttachedToTarget:
		if e.TargetInfo.Type == "iframe" {
			p.count(func() { p.elsewhere = true })
		}
	case *inspector.EventTargetCrashed:
		p.finish(&checks.Failure{Message: "the page crashed the browser's renderer"})
	}
}

func (p *page) count(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.quietSince = time.Now()
}

func (p *page) isQuiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.inFlight) == 0 && time.Since(p.quietSince) >= quiet
}

// drawnElsewhere reports whether the page had a frame whose document is in another process,
// where it cannot be read from this tab.
func (p *page) drawnElsewhere() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.elsewhere
}

// frame is the tab's main frame.
func (p *page) frame() cdp.FrameID {
	return cdp.FrameID(chromedp.FromContext(p.ctx).Target.TargetID)
}

// watchTargets closes windows that the page opens: it is looked at alone.
func (p *page) watchTargets(event any) {
	created, ok := event.(*target.EventTargetCreated)
	if !ok || created.TargetInfo.Type != "page" {
		return
	}
	tab := chromedp.FromContext(p.ctx)
	if created.TargetInfo.BrowserContextID != tab.BrowserContextID || created.TargetInfo.TargetID == tab.Target.TargetID {
		return
	}
	popup := target.CloseTargetParams{TargetID: created.TargetInfo.TargetID}
	p.later(func(ctx context.Context) { _, _ = chromedp.CallBrowser(ctx, target.CloseTarget, popup) })
}

// later leaves what an event demands to attend: a command would wait for the very loop that
// delivers events. What is too much is left undone; the page then hangs, until its check ends.
func (p *page) later(do func(context.Context)) {
	select {
	case p.events <- do:
	default:
	}
}

// attend does what events demand, until the page is closed.
func (p *page) attend() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case do := <-p.events:
			ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
			do(ctx)
			cancel()
		}
	}
}
