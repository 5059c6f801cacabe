// Package browser drives a real Chromium for browser steps and screenshots. Chromium shows
// pages of a pull request: it runs in namespaces of its own, where nothing of the machine is
// but the programs and fonts that it needs, and its only way out is a proxy that knows the
// hosts of the run.
package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/internal/host"
)

// Width and Height are the size of every page and screenshot, in CSS pixels.
const Width, Height = 1280, 800

// Options say how Chromium is started.
type Options struct {
	Path  string // of the program; "" looks for it on PATH
	Route Route  // what pages may reach; nil: nothing
	// AnyCertificate accepts every certificate. For the embedded ingress, whose
	// authority only this machine knows; other clients of a run verify it.
	AnyCertificate bool
	Logger         *slog.Logger
}

// Browser is one Chromium process with everything that came of it. Safe for concurrent use.
type Browser struct {
	ctx    context.Context
	cancel func()
	once   sync.Once
	route  Route
	gate   *gate
	lost   <-chan struct{} // closed when Chromium is gone
	closed atomic.Bool     // by Close

	mu      sync.Mutex
	refused []string
}

// Find returns the path of a Chromium program, or an Error that says how to get one.
func Find() (string, error) {
	if path := host.Chromium(); path != "" {
		return path, nil
	}
	return "", ccci.Errorf(ccci.CodeInfra, "there is no Chromium on this machine").WithHint("install it (Debian: apt-get install chromium-headless-shell)")
}

// Start starts Chromium in namespaces of its own, or fails: it never runs without them.
// Close it when the run is over.
func Start(ctx context.Context, o Options) (*Browser, error) {
	if o.Path == "" {
		path, err := Find()
		if err != nil {
			return nil, err
		}
		o.Path = path
	}
	path, err := filepath.EvalSymlinks(o.Path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "finding %s: %w", o.Path, err)
	}
	o.Path = path
	if o.Route == nil {
		o.Route = func(string, string) string { return "" }
	}
	b, err := start(ctx, o, true)
	if errors.Is(err, errNoNamespaces) && os.Geteuid() == 0 && ctx.Err() == nil {
		// A kernel without user namespaces: root makes the others without, and leaves root
		// afterwards.
		b, err = start(ctx, o, false)
	}
	if errors.Is(err, errNoNamespaces) {
		return nil, unconfined(err)
	}
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "starting %s: %w", o.Path, err)
	}
	return b, nil
}

// errNoNamespaces says that the kernel refused the browser's confinement.
var errNoNamespaces = errors.New("no namespaces")

func start(ctx context.Context, o Options, users bool) (*Browser, error) {
	g, err := newGuest(users)
	if err != nil {
		return nil, err
	}
	defer g.close()
	allocCtx, cancelAlloc := chromedp.NewExecAllocator(context.WithoutCancel(ctx), flags(o, g)...)
	logf := func(format string, args ...any) {
		if o.Logger != nil {
			o.Logger.Debug("chromium", "message", fmt.Sprintf(format, args...))
		}
	}
	browserCtx, cancel := chromedp.NewContext(allocCtx, chromedp.WithErrorf(logf), chromedp.WithLogf(logf))
	b := &Browser{ctx: browserCtx, route: o.Route}
	b.cancel = func() {
		b.closed.Store(true)
		cancel()
		cancelAlloc()
		if b.gate != nil {
			b.gate.close()
		}
	}
	stop := context.AfterFunc(ctx, b.Close)
	defer stop()
	if err := chromedp.Do(browserCtx); err != nil {
		b.Close()
		return nil, g.explain(err)
	}
	listener, err := g.listener()
	if err != nil {
		b.Close()
		return nil, err
	}
	b.gate = openGate(listener, o.Route, o.Logger)
	b.lost = chromedp.FromContext(browserCtx).Browser.LostConnection
	_, err = chromedp.CallBrowser(browserCtx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorDeny})
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("refusing downloads: %w", err)
	}
	return b, nil
}

// flags are Chromium's options.
func flags(o Options, g *guest) []chromedp.ExecAllocatorOption {
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(o.Path), chromedp.UserDataDir(insideDir+"/profile"), chromedp.DisableGPU,
		chromedp.WindowSize(Width, Height),
		chromedp.Flag("no-sandbox", false), // the launcher decides
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("proxy-server", "http://"+gateAddr.String()),
		chromedp.Flag("proxy-bypass-list", "<-loopback>"), // loopback goes there too
		chromedp.Flag("deny-permission-prompts", true),
		chromedp.Flag("disable-popup-blocking", false),
		chromedp.Flag("disable-ipc-flooding-protection", false),
		// One process draws all frames of a page: they are all of the same run, what is hidden from
		// a picture is found in each, and it takes less memory.
		chromedp.Flag("disable-site-isolation-trials", true),
		chromedp.Flag("disable-features", "Translate,BlinkGenPropertyTrees,IsolateOrigins,site-per-process"),
		chromedp.Flag("renderer-process-limit", "4"),
		chromedp.Flag("js-flags", "--max-old-space-size=1024"), // MiB
		chromedp.Flag("disk-cache-size", "67108864"),
		chromedp.ModifyCmdFunc(g.confine),
		// Nothing of this process's environment: it may name proxies and hold secrets.
		chromedp.NoInheritEnv, chromedp.Env("HOME="+insideDir, "TMPDIR="+insideDir, "PATH="+os.Getenv("PATH")),
	)
	for _, name := range []string{"LANG", "FONTCONFIG_FILE", "FONTCONFIG_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			opts = append(opts, chromedp.Env(name+"="+value))
		}
	}
	if o.AnyCertificate {
		opts = append(opts, chromedp.IgnoreCertErrors)
	}
	return opts
}

// Close ends Chromium with every process of it. Nothing of it stays. Legal twice.
func (b *Browser) Close() { b.once.Do(b.cancel) }

// maxRefused bounds how many refused addresses are remembered.
const maxRefused = 20

// Refused lists the addresses outside of the run that pages asked for and did not get, as
// "host:port", at most 20. What their workers asked for is not among them.
func (b *Browser) Refused() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.refused)
}

// refuse remembers the address of a request that the gate refuses.
func (b *Browser) refuse(address string) {
	host, port, err := endpoint(address)
	if err != nil || b.route.reaches(address) {
		return
	}
	address = printable(net.JoinHostPort(host, port))
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.refused) < maxRefused && !slices.Contains(b.refused, address) {
		b.refused = append(b.refused, address)
	}
}

// died is the failure of a page that took Chromium with it: nil while Chromium runs, and
// after Close. There is no other page in it than the run's.
func (b *Browser) died() error {
	select {
	case <-b.lost:
	default:
		return nil
	}
	if b.closed.Load() {
		return nil
	}
	return &checks.Failure{Message: "the browser ended while it showed pages of this run"}
}

// Page opens an empty page with cookies of its own.
func (b *Browser) Page(ctx context.Context) (checks.Page, error) {
	tab, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	p := newPage(b, tab, cancel)
	// The first action makes the tab, which lives as long as that action's
	// context: it must be the tab's own.
	stop := context.AfterFunc(ctx, p.Close)
	defer stop()
	if err := p.open(); err != nil {
		p.Close()
		if died := b.died(); died != nil {
			return nil, died
		}
		return nil, err
	}
	return p, nil
}
