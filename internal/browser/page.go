package browser

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// quiet is how long no request may be under way before a page counts as
// drawn; maxQuiet bounds the wait for it. Single-page apps draw after "load".
const quiet, maxQuiet = 300 * time.Millisecond, 5 * time.Second

// maxText bounds what is read of a page, in characters.
const maxText = 1 << 20

// page is one page of the run. What makes it unfit to be judged ends every action on it: see
// end in watch.go.
type page struct {
	browser *Browser
	ctx     context.Context
	cancel  func()
	closing sync.Once
	events  chan func(context.Context) // what an event demands to be done

	mu         sync.Mutex
	inFlight   map[network.RequestID]bool
	quietSince time.Time
	dialogs    int
	statuses   []documentStatus
	elsewhere  bool          // a frame is drawn by a process of its own
	ended      error         // why the page cannot be judged any more
	end        chan struct{} // closed with it
}

func newPage(b *Browser, ctx context.Context, cancel func()) *page {
	return &page{
		browser: b, ctx: ctx, cancel: cancel, inFlight: map[network.RequestID]bool{}, quietSince: time.Now(),
		events: make(chan func(context.Context), 64), end: make(chan struct{}),
	}
}

// open makes the tab and begins to watch it.
func (p *page) open() error {
	if err := chromedp.Do(p.ctx, chromedp.EmulateViewport(Width, Height)); err != nil {
		return err
	}
	if err := chromedp.Listen(p.ctx, p.watch); err != nil {
		return err
	}
	if err := chromedp.ListenBrowser(p.ctx, p.watchTargets); err != nil {
		return err
	}
	go p.attend()
	return nil
}

// do runs actions until they are done, ctx is, or the page has ended.
func (p *page) do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) error {
	_, err := run(ctx, p, chromedp.Steps(steps...))
	return err
}

// run runs one action on the tab, which lives longer than ctx.
func run[T any](ctx context.Context, p *page, action chromedp.Action[T]) (T, error) {
	tab, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stop()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-p.end:
			cancel(p.failure())
		case <-done:
		}
	}()
	value, err := chromedp.Run(tab, action)
	if failure := p.failure(); failure != nil {
		return value, failure
	}
	if err != nil && ctx.Err() != nil {
		return value, context.Cause(ctx)
	}
	return value, err
}

// failure is why the page cannot be judged any more, or nil.
func (p *page) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return p.ended
	}
	return p.browser.died()
}

// shown is the tab's main frame, with the document that is in it.
func (p *page) shown(ctx context.Context) (cdp.Frame, error) {
	tree, err := run(ctx, p, func(ctx context.Context, t *chromedp.Target) (cdppage.GetFrameTreeResult, error) {
		return cdp.Call(ctx, t, cdppage.GetFrameTree, cdp.Empty{})
	})
	if err != nil {
		return cdp.Frame{}, err
	}
	return *tree.FrameTree.Frame, nil
}

// settled fails unless the document in the tab is one of the run's.
func (p *page) settled(ctx context.Context) error {
	frame, err := p.shown(ctx)
	if err != nil {
		return err
	}
	at := or(frame.UnreachableURL, frame.URL)
	if p.browser.route.reaches(at) {
		return nil
	}
	p.finish(elsewhere(at))
	return p.failure()
}

func (p *page) Open(ctx context.Context, url string) error {
	return p.do(ctx, chromedp.Navigate(url))
}

// act does something to a document of the run, and to no other.
func (p *page) act(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) error {
	if err := p.settled(ctx); err != nil {
		return err
	}
	return p.do(ctx, steps...)
}

// Selectors are CSS and name the first element that matches: a plain string is searched for in
// the text of scripts and style sheets as well, which are never visible.

func (p *page) Select(ctx context.Context, selector, value string) error {
	return p.act(ctx, chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.SetValue(chromedp.CSS(selector), value))
}

func (p *page) Click(ctx context.Context, selector string) error {
	return p.act(ctx, chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
}

func (p *page) See(ctx context.Context, selector string) error {
	if err := p.act(ctx, chromedp.WaitVisible(chromedp.CSS(selector))); err != nil {
		return err
	}
	return p.settled(ctx)
}

func (p *page) Press(ctx context.Context, key string) error {
	keys := map[string]string{"Enter": kb.Enter, "Tab": kb.Tab, "Escape": kb.Escape}
	code, ok := keys[key]
	if !ok {
		return ccci.Errorf(ccci.CodeInvalid, "there is no key %q", key).WithHint("use Enter, Tab or Escape")
	}
	return p.act(ctx, chromedp.KeyEvent(code))
}

func (p *page) Text(ctx context.Context, text string) error {
	return p.until(ctx, func() (bool, error) {
		seen, err := p.Visible(ctx)
		return strings.Contains(seen, text), err
	})
}

func (p *page) AtURL(ctx context.Context, part string) error {
	return p.until(ctx, func() (bool, error) {
		at, err := run(ctx, p, chromedp.Location())
		if err == nil {
			err = p.settled(ctx)
		}
		return err == nil && strings.Contains(at, part), err
	})
}

// until looks again every 100 ms; errors of a page that is being replaced pass.
func (p *page) until(ctx context.Context, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		if ok {
			return nil
		}
		var failure *checks.Failure
		if errors.As(err, &failure) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Visible reads the page in a world of its own, whose functions the page cannot replace.
func (p *page) Visible(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := p.settled(ctx); err != nil {
		return "", err
	}
	text, err := run(ctx, p, isolated[string](fmt.Sprintf("(document.body ? document.body.innerText : '').slice(0, %d)", maxText), ""))
	if err != nil {
		return "", err
	}
	return text, p.settled(ctx)
}

// isolated evaluates an expression in a world that shares the document with the page's own
// scripts and nothing else. Of frame "" it is the main one.
func isolated[T any](expression string, frame cdp.FrameID) chromedp.Action[T] {
	return func(ctx context.Context, t *chromedp.Target) (T, error) {
		var none T
		if frame == "" {
			frame = cdp.FrameID(t.TargetID)
		}
		world, err := cdp.Call(ctx, t, cdppage.CreateIsolatedWorld, cdppage.CreateIsolatedWorldParams{FrameID: frame, WorldName: "cc-ci"})
		if err != nil {
			return none, err
		}
		return chromedp.Evaluate[T](expression, func(params *runtime.EvaluateParams) { params.ContextID = world.ExecutionContextID })(ctx, t)
	}
}

// Screenshot waits until the page is quiet and takes a picture of it without the texts to hide.
func (p *page) Screenshot(ctx context.Context, hide []string) ([]byte, error) {
	deadline := time.Now().Add(maxQuiet)
	for !p.isQuiet() && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-p.end:
			return nil, p.failure()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := p.settled(ctx); err != nil {
		return nil, err
	}
	png, err := p.capture(ctx, hide)
	if err != nil {
		return nil, err
	}
	return png, p.settled(ctx) // a page that was replaced meanwhile is in no picture
}

func (p *page) Status(ctx context.Context) (int, error) {
	frame, err := p.shown(ctx)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.statuses {
		if d.loader == frame.LoaderID {
			return d.status, nil
		}
	}
	return 0, nil
}

func (p *page) Close() { p.closing.Do(p.cancel) }
