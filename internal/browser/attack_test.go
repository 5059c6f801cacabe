package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

const runHost, otherRun = "app-123456.ci.localhost", "app-654321.ci.localhost"

// attack is a page of the run that tries to reach {canary}, a server of the machine.
type attack struct {
	name string
	html string
	// leaves: the page itself goes there, which ends the check.
	leaves bool
	// spelling of the canary's host; "" is 127.0.0.1.
	host string
	// own: Chromium refuses it without our help, or has no way to name its server to the gate.
	own bool
}

const told = `<script>window.onload = () => setTimeout(() => fetch("/done"), 100)</script>`

var attacks = []attack{
	{name: "iframe", html: `<iframe src="http://{canary}/"></iframe>` + told},
	{name: "iframe to a non-loopback address", html: `<iframe src="https://{local}/"></iframe>` + told},
	{name: "location", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "location by https", html: `<script>location = "https://{canary}/"</script>`, leaves: true},
	{name: "location to a non-loopback address", html: `<script>location = "http://{local}/"</script>`, leaves: true},
	{name: "meta refresh", html: `<meta http-equiv="refresh" content="0;url=http://{canary}/">`, leaves: true},
	{name: "redirect", html: `<script>location = "/302?http://{canary}/"</script>`, leaves: true},
	{name: "form", html: `<form method=post action="http://{canary}/"><input name=a value=b></form><script>document.forms[0].submit()</script>`, leaves: true},
	{name: "form of a frame, into the top", html: `<iframe srcdoc='<form method=post target=_top action="http://{canary}/"></form><script>document.forms[0].submit()</script>'></iframe>`, leaves: true},
	{name: "window.open", html: `<body><button id=go onclick='window.open("http://{canary}/")'>go</button><script>go.click(); setTimeout(() => fetch("/done"), 300)</script>`, leaves: true},
	{name: "fetch", html: `<script>fetch("http://{canary}/", {mode: "no-cors"}).finally(() => fetch("/done"))</script>`},
	{name: "blind post", html: `<script>fetch("http://{canary}/", {mode: "no-cors", method: "POST", body: "x"}).finally(() => fetch("/done"))</script>`},
	{name: "beacon", html: `<script>navigator.sendBeacon("http://{canary}/", "x"); setTimeout(() => fetch("/done"), 500)</script>`},
	{name: "XHR", html: `<script>const x = new XMLHttpRequest(); x.onloadend = () => fetch("/done"); x.open("GET", "http://{canary}/"); x.send()</script>`},
	{name: "image", html: `<img src="http://{canary}/x.png" onerror='fetch("/done")'>`},
	{name: "redirected image", html: `<img src="/302?http://{canary}/x.png" onerror='fetch("/done")'>`},
	{name: "script", html: `<script src="http://{canary}/x.js" onerror='fetch("/done")'></script>`},
	{name: "style sheet", html: `<link rel=stylesheet href="http://{canary}/x.css" onerror='fetch("/done")'>`},
	{name: "object", html: `<object data="http://{canary}/"></object>` + told},
	{name: "video", html: `<video src="http://{canary}/x.mp4" autoplay onerror='fetch("/done")'></video>`},
	{name: "prefetch", html: `<link rel=prefetch href="http://{canary}/"><link rel=preconnect href="http://{canary}/">` + told},
	{name: "event source", html: `<script>new EventSource("http://{canary}/").onerror = () => fetch("/done")</script>`},
	{name: "WebSocket", html: `<script>new WebSocket("ws://{canary}/").onerror = () => fetch("/done")</script>`},
	{name: "WebSocket by TLS", html: `<script>new WebSocket("wss://{canary}/").onerror = () => fetch("/done")</script>`},
	{name: "worker", html: `<script>const w = new Worker("/worker.js?http://{canary}/"); w.onmessage = () => fetch("/done")</script>`},
	{name: "service worker", html: `<script>navigator.serviceWorker.register("/service.js?http://{canary}/").then(() => navigator.serviceWorker.ready).then(() => setTimeout(() => fetch("/done"), 500))</script>`},
	{name: "STUN", own: true, html: `<script>(async () => {
		const p = new RTCPeerConnection({iceServers: [{urls: "stun:{udp}"}, {urls: "turn:{canary}?transport=tcp", username: "a", credential: "b"}]});
		p.createDataChannel("x"); await p.setLocalDescription(await p.createOffer()); setTimeout(() => fetch("/done"), 1500) })()</script>`},
	{name: "localhost", host: "localhost", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "localhost with a dot", host: "localhost.", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "a name that resolves to loopback", host: "x.localhost", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "decimal", host: "2130706433", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "hexadecimal", host: "0x7f000001", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "octal", host: "0177.0.0.1", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "short", host: "127.1", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "zero", host: "0.0.0.0", html: `<img src="http://{canary}/" onerror='fetch("/done")'>`},
	{name: "IPv6 with IPv4 inside", host: "[::ffff:127.0.0.1]", html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "the run's host with another port", host: runHost, html: `<script>location = "http://{canary}/"</script>`, leaves: true},
	{name: "another run", html: `<script>location = "https://` + otherRun + `/canary"</script>`, leaves: true},
	{name: "a frame of another run", html: `<iframe src="https://` + otherRun + `/canary"></iframe>` + told},
}

// field is what the attacks are made from and against.
type field struct {
	run   *httptest.Server
	addr  string // of a canary on loopback
	local string // of one on another address of the machine, "" if it has none
	udp   string
	hits  atomic.Int32
	done  chan struct{}

	mu   sync.Mutex
	html string
}

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{done: make(chan struct{}, 64)}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != runHost {
			f.hits.Add(1)
			fmt.Fprint(w, "CANARY")
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>app</title><body>the app's page", f.html)
	})
	mux.HandleFunc("/302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.RawQuery, http.StatusFound) })
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.RawQuery[:3])
		if r.URL.Query().Has("basic") {
			w.Header().Set("WWW-Authenticate", `Basic realm="app"`)
		}
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<!doctype html><title>app</title><body>status %d", status)
		if r.URL.Query().Has("download") {
			fmt.Fprint(w, `<script>location = "/download"</script>`)
		}
	})
	mux.HandleFunc("/favicon.ico", http.NotFound)
	mux.HandleFunc("/download", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Disposition", `attachment; filename="x.bin"`)
		fmt.Fprint(w, "CANARY")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/done", func(http.ResponseWriter, *http.Request) {
		select {
		case f.done <- struct{}{}:
		default:
		}
	})
	script := func(path, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprintf(w, body, r.URL.RawQuery)
		})
	}
	script("/worker.js", `fetch(%q, {mode: "no-cors"}).finally(() => postMessage(1))`)
	script("/service.js", `const ask = () => fetch(%q, {mode: "no-cors"}); self.oninstall = e => e.waitUntil(ask().catch(() => {})); self.onfetch = () => ask()`)
	f.run = httptest.NewTLSServer(mux)
	t.Cleanup(f.run.Close)

	f.addr = f.canary(t, "127.0.0.1")
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			f.local = f.canary(t, ip.IP.String())
			break
		}
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	f.udp = packets.LocalAddr().String()
	go func() {
		for buf := make([]byte, 2048); ; {
			if _, _, err := packets.ReadFrom(buf); err != nil {
				return
			}
			f.hits.Add(1)
		}
	}()
	return f
}

// canary is a service that must never see a connection.
func (f *field) canary(t *testing.T, ip string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.hits.Add(1)
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\nCANARY")
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// serve makes the run's page the attack's, and returns a part of the address that it goes to
// which every spelling of it has.
func (f *field) serve(t *testing.T, a attack) (named string) {
	t.Helper()
	if strings.Contains(a.html, "{local}") && f.local == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("this machine has no address but loopback")
		}
		t.Skip("this machine has no address but loopback")
	}
	_, port, _ := net.SplitHostPort(f.addr)
	target, named := or(a.host, "127.0.0.1")+":"+port, ":"+port
	switch {
	case strings.Contains(a.html, "{local}"):
		named = f.local
	case strings.Contains(a.html, otherRun):
		named = otherRun
	}
	f.mu.Lock()
	f.html = strings.NewReplacer("{canary}", target, "{local}", f.local, "{udp}", f.udp).Replace(a.html)
	f.mu.Unlock()
	f.hits.Store(0)
	for len(f.done) > 0 {
		<-f.done
	}
	return named
}

func (f *field) route(host, port string) string {
	if host == runHost && port == "443" {
		return f.run.Listener.Addr().String()
	}
	return ""
}

func skipWithoutChromium(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts Chromium")
	}
	if _, err := Find(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func startBrowser(t *testing.T, o Options) *Browser {
	t.Helper()
	b, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// N3: whatever a page of the run tries, no server of the machine and no other run sees a
// connection; a page that goes there itself ends the check with the address named.
func TestN3_BrowserIsAGuest(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	var refused refusals
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true, Logger: slog.New(&refused)})
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			named := f.serve(t, a)
			before := refused.of(named)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			page, err := b.Page(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer page.Close()
			if a.leaves {
				f.mustLeave(t, ctx, page, named)
			} else {
				f.mustStay(t, ctx, page)
				if refused.of(named) == before && !a.own {
					t.Error("nothing was refused: the attack did not take place")
				}
			}
			if n := f.hits.Load(); n != 0 {
				t.Errorf("%d connections arrived", n)
			}
		})
	}
}

// refusals is a log that counts what the gate refused.
type refusals struct {
	slog.Handler
	mu        sync.Mutex
	addresses []string
}

func (r *refusals) Enabled(context.Context, slog.Level) bool { return true }

func (r *refusals) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if record.Message == refusal {
		record.Attrs(func(a slog.Attr) bool { r.addresses = append(r.addresses, a.Value.String()); return true })
	}
	return nil
}

// of says how often an address with a part was refused.
func (r *refusals) of(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, address := range r.addresses {
		if strings.Contains(address, part) {
			n++
		}
	}
	return n
}

// mustLeave opens the page and waits for the failure that names where it went.
func (f *field) mustLeave(t *testing.T, ctx context.Context, page checks.Page, named string) {
	t.Helper()
	err := page.Open(ctx, "https://"+runHost+"/")
	if err == nil {
		err = page.Text(ctx, "this is nowhere")
	}
	var failure *checks.Failure
	if !errors.As(err, &failure) || !strings.Contains(failure.Message, "no address of this run") || !strings.Contains(failure.Message, named) {
		t.Fatalf("got %v, want a failure that names the address with %s", err, named)
	}
	if _, err := page.Screenshot(ctx, nil); !errors.As(err, &failure) {
		t.Errorf("a picture was taken: %v", err)
	}
	if text, err := page.Visible(ctx); !errors.As(err, &failure) || text != "" {
		t.Errorf("the page was read: %q, %v", text, err)
	}
}

// mustStay opens the page, waits until the attack took place, and judges the page as usual.
func (f *field) mustStay(t *testing.T, ctx context.Context, page checks.Page) {
	t.Helper()
	if err := page.Open(ctx, "https://"+runHost+"/"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		t.Fatal("the attack did not come to its end")
	}
	text, err := page.Visible(ctx)
	if err != nil || !strings.Contains(text, "the app's page") || strings.Contains(text, "CANARY") {
		t.Errorf("the page shows %q, %v", text, err)
	}
	if _, err := page.Screenshot(ctx, nil); err != nil {
		t.Errorf("no picture: %v", err)
	}
}

// The control of the test above: without the confinement each of these pages does reach the
// canary, so that a browser which tries nothing would not pass for one that is confined.
func TestN3_BrowserWithoutWallsIsNone(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	path, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.IgnoreCertErrors, chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Env("TMPDIR="+os.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP "+runHost+":443 "+f.run.Listener.Addr().String()+", MAP "+otherRun+" "+f.run.Listener.Addr().String()))
	alloc, cancelAlloc := chromedp.NewExecAllocator(t.Context(), opts...)
	defer cancelAlloc()
	unconfined, cancel := chromedp.NewContext(alloc)
	defer cancel()
	if err := chromedp.Do(unconfined); err != nil {
		t.Fatal(err)
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			f.serve(t, a)
			tab, closeTab := chromedp.NewContext(unconfined, chromedp.WithNewBrowserContext())
			defer closeTab()
			if err := chromedp.Do(tab); err != nil {
				t.Fatal(err)
			}
			opening, stop := context.WithTimeout(tab, 10*time.Second)
			defer stop()
			_ = chromedp.Do(opening, chromedp.Navigate("https://"+runHost+"/")) // it may be a picture or a page by TLS that is none
			for end := time.Now().Add(10 * time.Second); f.hits.Load() == 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the attack does not arrive without the confinement: it proves nothing")
				}
			}
		})
	}
}
