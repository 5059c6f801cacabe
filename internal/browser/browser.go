// Package browser drives a real Chromium for browser steps and screenshots.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/internal/host"
)

// Width and Height are the size of every page and screenshot, in CSS pixels.
const Width, Height = 1280, 800

// quiet is how long no request may be under way before a page counts as
// drawn; maxQuiet bounds the wait for it. Single-page apps draw after "load".
const quiet, maxQuiet = 300 * time.Millisecond, 5 * time.Second

// maxTemp is the longest path below which Chromium can make its socket: the name
// of a socket has at most 107 bytes.
const maxTemp = 107 - len("/org.chromium.Chromium.XXXXXX/SingletonSocket")

// Options say how Chromium is started.
type Options struct {
	Path string // of the program; "" looks for it on PATH
	// Dir is where Chromium's profile and temporary files are, in a folder that Close
	// removes; "" is the temporary directory.
	Dir string
	// Proxy is the address ("127.0.0.1:8443") that serves every host name under
	// Domain; "" leaves names to the resolver.
	Proxy, Domain string
	// AnyCertificate accepts every certificate. For the embedded ingress, whose
	// authority only this machine knows; other clients of a run verify it.
	AnyCertificate bool
	Logger         *slog.Logger
}

// Browser is one Chromium process. Safe for concurrent use.
type Browser struct {
	ctx    context.Context
	cancel func()
	once   sync.Once
	dir    string
}

// Find returns the path of a Chromium program, or an Error that says how to get one.
func Find() (string, error) {
	if path := host.Chromium(); path != "" {
		return path, nil
	}
	return "", ccci.Errorf(ccci.CodeInfra, "there is no Chromium on this machine").WithHint("install it (Debian: apt-get install chromium-headless-shell)")
}

// Start starts Chromium. Close it when the run is over.
func Start(ctx context.Context, o Options) (*Browser, error) {
	if o.Path == "" {
		path, err := Find()
		if err != nil {
			return nil, err
		}
		o.Path = path
	}
	dir, err := os.MkdirTemp(o.Dir, "b-")
	if err != nil {
		return nil, fmt.Errorf("making a profile folder for Chromium: %w", err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(o.Path), chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.DisableGPU,
		chromedp.WindowSize(Width, Height),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			// The browser never outlives the run.
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			throughLauncher(cmd)
		}),
	)
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium refuses its sandbox to root
	}
	if len(dir) <= maxTemp {
		opts = append(opts, chromedp.Env("TMPDIR="+dir)) // it leaves its socket behind
	}
	if o.AnyCertificate {
		opts = append(opts, chromedp.IgnoreCertErrors)
	}
	if o.Proxy != "" {
		opts = append(opts, chromedp.Flag("host-resolver-rules", fmt.Sprintf("MAP *.%s %s, MAP %s %s", o.Domain, o.Proxy, o.Domain, o.Proxy)))
	}
	allocCtx, cancelAlloc := chromedp.NewExecAllocator(context.WithoutCancel(ctx), opts...)
	logf := func(format string, args ...any) {
		if o.Logger != nil {
			o.Logger.Debug("chromium", "message", fmt.Sprintf(format, args...))
		}
	}
	browserCtx, cancel := chromedp.NewContext(allocCtx, chromedp.WithErrorf(logf), chromedp.WithLogf(logf))
	b := &Browser{ctx: browserCtx, dir: dir, cancel: func() { cancel(); cancelAlloc(); os.RemoveAll(dir) }}
	stop := context.AfterFunc(ctx, b.Close)
	defer stop()
	if err := chromedp.Do(browserCtx); err != nil {
		b.Close()
		return nil, ccci.Errorf(ccci.CodeInfra, "starting %s: %w", o.Path, err)
	}
	return b, nil
}

// Close ends Chromium and removes its profile. Legal twice.
func (b *Browser) Close() { b.once.Do(b.cancel) }

// Page opens an empty page with cookies of its own.
func (b *Browser) Page(ctx context.Context) (checks.Page, error) {
	tab, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	p := &page{ctx: tab, cancel: sync.OnceFunc(cancel), inFlight: map[network.RequestID]bool{}, quietSince: time.Now()}
	// The first action makes the tab, which lives as long as that action's
	// context: it must be the tab's own.
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	if err := chromedp.Do(tab, chromedp.EmulateViewport(Width, Height)); err != nil {
		p.Close()
		return nil, err
	}
	if err := chromedp.Listen(tab, p.watch); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

type page struct {
	ctx    context.Context
	cancel func()

	mu         sync.Mutex
	inFlight   map[network.RequestID]bool
	quietSince time.Time
}

// watch keeps count of the requests under way.
func (p *page) watch(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.inFlight[e.RequestID] = true
	case *network.EventLoadingFinished:
		delete(p.inFlight, e.RequestID)
	case *network.EventLoadingFailed:
		delete(p.inFlight, e.RequestID)
	default:
		return
	}
	p.quietSince = time.Now()
}

func (p *page) isQuiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.inFlight) == 0 && time.Since(p.quietSince) >= quiet
}

// bound gives the tab's context the caller's end.
func (p *page) bound(ctx context.Context) (context.Context, func()) {
	tab, cancel := context.WithCancelCause(p.ctx)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return tab, func() { stop(); cancel(nil) }
}

func (p *page) do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) error {
	tab, end := p.bound(ctx)
	defer end()
	err := chromedp.Do(tab, steps...)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (p *page) Open(ctx context.Context, url string) error {
	return p.do(ctx, chromedp.Navigate(url))
}

// Fill selects what a field holds and types over it, as a person does.
func (p *page) Fill(ctx context.Context, selector, value string) error {
	quoted, err := json.Marshal(selector)
	if err != nil {
		return fmt.Errorf("quoting the selector %q: %w", selector, err)
	}
	if value == "" {
		value = kb.Delete
	}
	selectAll := chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Evaluate[bool]("(e => { e.focus(); if (e.select) e.select(); return true })(document.querySelector("+string(quoted)+"))")(ctx, t)
		return err
	})
	return p.do(ctx, chromedp.WaitVisible(selector), selectAll, chromedp.SendKeys(selector, value))
}

func (p *page) Select(ctx context.Context, selector, value string) error {
	return p.do(ctx, chromedp.WaitVisible(selector), chromedp.SetValue(selector, value))
}

func (p *page) Click(ctx context.Context, selector string) error {
	return p.do(ctx, chromedp.WaitVisible(selector), chromedp.Click(selector))
}

func (p *page) See(ctx context.Context, selector string) error {
	return p.do(ctx, chromedp.WaitVisible(selector))
}

func (p *page) Press(ctx context.Context, key string) error {
	keys := map[string]string{"Enter": kb.Enter, "Tab": kb.Tab, "Escape": kb.Escape}
	code, ok := keys[key]
	if !ok {
		return ccci.Errorf(ccci.CodeInvalid, "there is no key %q", key).WithHint("use Enter, Tab or Escape")
	}
	return p.do(ctx, chromedp.KeyEvent(code))
}

func (p *page) Text(ctx context.Context, text string) error {
	return p.until(ctx, func() (bool, error) {
		seen, err := p.Visible(ctx)
		return strings.Contains(seen, text), err
	})
}

func (p *page) AtURL(ctx context.Context, part string) error {
	return p.until(ctx, func() (bool, error) {
		tab, end := p.bound(ctx)
		defer end()
		at, err := chromedp.Run(tab, chromedp.Location())
		return strings.Contains(at, part), err
	})
}

// until looks again every 100 ms; errors of a page that is being replaced pass.
func (p *page) until(ctx context.Context, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil && ctx.Err() == nil {
				return err
			}
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *page) Visible(ctx context.Context) (string, error) {
	tab, end := p.bound(ctx)
	defer end()
	tab, cancel := context.WithTimeout(tab, 5*time.Second)
	defer cancel()
	return chromedp.Run(tab, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
}

func (p *page) Screenshot(ctx context.Context) ([]byte, error) {
	deadline := time.Now().Add(maxQuiet)
	for !p.isQuiet() && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	tab, end := p.bound(ctx)
	defer end()
	return chromedp.Run(tab, chromedp.CaptureScreenshot())
}

func (p *page) Close() { p.cancel() }
