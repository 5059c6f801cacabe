package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// N3: what a page may do to its own window never hangs, breaks or changes the check.
func TestN3_PageThatMisbehavesIsJudgedAsItIs(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	for name, html := range map[string]string{
		"print":         `<script>print(); fetch("/done")</script>`,
		"print on load": `<body onload='print(); print(); fetch("/done")'>`,
		"alert":         `<script>alert(1); confirm(2); prompt(3); fetch("/done")</script>`,
		"beforeunload":  `<script>onbeforeunload = e => { e.preventDefault(); return "stay" }; fetch("/done")</script>`,
		"window.open":   `<script>for (let i = 0; i < 20; i++) window.open("/"+i, "w"+i); fetch("/done")</script>`,
		"empty window":  `<script>const w = window.open(); if (w) { w.document.write("<h1>popup</h1>"); w.focus() } fetch("/done")</script>`,
		"a file":        `<script>location = "file:///etc/passwd"; setTimeout(() => fetch("/done"), 300)</script>`,
		"file frame":    `<iframe src="file:///etc/passwd"></iframe>` + told,
		"data":          `<script>location = "data:text/html,CANARY"; setTimeout(() => fetch("/done"), 300)</script>`,
		"filesystem":    `<script>location = "filesystem:https://` + runHost + `/temporary/x"; setTimeout(() => fetch("/done"), 300)</script>`,
		"source":        `<script>location = "view-source:https://` + runHost + `/"; setTimeout(() => fetch("/done"), 300)</script>`,
		"chrome":        `<script>location = "chrome://version"; setTimeout(() => fetch("/done"), 300)</script>`,
		"download":      `<body><a id=a download=x href="/download">x</a><script>a.click(); setTimeout(() => fetch("/done"), 300)</script>`,
		"permissions": `<script>navigator.geolocation.getCurrentPosition(() => {}, () => {}); Notification.requestPermission();
			navigator.mediaDevices && navigator.mediaDevices.getUserMedia({audio: true, video: true}).catch(() => {}); setTimeout(() => fetch("/done"), 300)</script>`,
		"full screen":  `<body><script>document.documentElement.requestFullscreen().catch(() => {}); try { document.body.requestPointerLock() } catch {} ; setTimeout(() => fetch("/done"), 300)</script>`,
		"file chooser": `<body><input type=file id=i><script>try { i.showPicker() } catch {} i.click(); setTimeout(() => fetch("/done"), 300)</script>`,
	} {
		t.Run(name, func(t *testing.T) {
			f.serve(t, attack{html: html})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			page, err := b.Page(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer page.Close()
			f.mustStay(t, ctx, page)
			if text, err := page.Visible(ctx); err != nil || strings.Contains(text, "root:") || strings.Contains(text, "popup") {
				t.Errorf("the page shows %q, %v", text, err)
			}
			if err := page.Open(ctx, "https://"+runHost+"/again"); err != nil { // it can be left
				t.Error(err)
			}
		})
	}
}

// N3: a page that can no longer be judged is the recipe's failure, which says why, in the time
// that its step has; nothing of it is ever "infrastructure errored".
func TestN3_PageThatCannotBeJudgedIsTheRecipesFailure(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	for name, c := range map[string]struct {
		html, want string
		limit      time.Duration
	}{
		"dialogs without end": {`<script>for (;;) alert(1)</script>`, "one dialog after the other", 20 * time.Second},
		"hangs":               {`<script>for (;;);</script>`, "in time", 2 * time.Second},
		"hangs later":         {`<script>onload = () => setTimeout(() => { for (;;); }, 10)</script>`, "in time", 2 * time.Second},
		"takes memory":        {`<script>const a = []; for (;;) a.push(new Array(1e6).fill({}))</script>`, "", 2 * time.Second},
		"never ends":          {`<img src="/endless">`, "in time", 2 * time.Second},
		"is a download":       {`<script>location = "/302?/download"</script>`, `text "nowhere"`, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			f.serve(t, attack{html: c.html})
			r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: c.limit}
			started := time.Now()
			mustFail(t, r.Run(t.Context(), ccci.Step{Browser: []ccci.BrowserStep{{Open: "/"}, {Text: "nowhere"}}}), c.want)
			if took := time.Since(started); took > c.limit+12*time.Second { // what the page shows is asked for once more, then it is closed
				t.Errorf("it took %s", took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := r.Screenshot(ctx, ccci.Screenshot{Path: "/"}, nil); err != nil {
				mustFail(t, err, "")
			}
		})
	}
	t.Run("crashes its renderer", func(t *testing.T) {
		f.serve(t, attack{html: told})
		page, err := b.Page(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer page.Close()
		f.mustStay(t, t.Context(), page)
		ctx, cancel := context.WithTimeout(page.(interface{ tab() context.Context }).tab(), 2*time.Second)
		defer cancel()
		_, _ = chromedp.Call(ctx, cdppage.Crash, cdp.Empty{})
		mustFail(t, page.Text(t.Context(), "nowhere"), "crashed")
		_, err = page.Screenshot(t.Context(), nil)
		mustFail(t, err, "crashed")
	})
	// The browser still serves the next page.
	f.serve(t, attack{html: told})
	page, err := b.Page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	f.mustStay(t, t.Context(), page)
}

// N3: a page that takes the whole browser with it is the recipe's failure, and every page after it.
func TestN3_BrowserThatAPageEndedIsTheRecipesFailure(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	f.serve(t, attack{html: told})
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	opened, err := b.Page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Open(t.Context(), "https://"+runHost+"/"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	_, _ = cdp.Call(ctx, chromedp.FromContext(b.ctx).Browser, cdpbrowser.Crash, cdp.Empty{})
	<-b.lost
	mustFail(t, opened.See(t.Context(), "body"), "the browser ended")
	r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 10 * time.Second}
	mustFail(t, r.Run(t.Context(), ccci.Step{Browser: []ccci.BrowserStep{{Open: "/"}}}), "the browser ended")
	_, err = r.Screenshot(t.Context(), ccci.Screenshot{Path: "/"}, nil)
	mustFail(t, err, "the browser ended")
}

// N3: what a page makes DevTools say is bounded before this process holds it.
func TestN3_PageThatSaysTooMuchIsTheRecipesFailure(t *testing.T) {
	skipWithoutChromium(t)
	for name, html := range map[string]string{
		"console":   `<script>console.log("x".repeat(2 ** 26))</script>`,
		"exception": `<script>throw "x".repeat(2 ** 26)</script>`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t)
			f.serve(t, attack{html: html})
			b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
			r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 20 * time.Second}
			mustFail(t, r.Run(t.Context(), ccci.Step{Browser: []ccci.BrowserStep{{Open: "/"}, {Text: "nowhere"}}}), "the browser ended")
		})
	}
}

func mustFail(t *testing.T, err error, want string) {
	t.Helper()
	var failure *checks.Failure
	if !errors.As(err, &failure) || !strings.Contains(failure.Message, want) {
		t.Errorf("got %T %v, want a failure of the recipe with %q", err, err, want)
	}
}

// N3: an address that only whoever drives the browser could open shows nothing of the machine.
func TestN3_BrowserSeesNoFileOfTheMachine(t *testing.T) {
	skipWithoutChromium(t)
	b := startBrowser(t, Options{})
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("CANARY"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{secret, "/etc/passwd", "/var/run/docker.sock", "/run", "/proc/1/environ", "/root", "/home", "/var", "/etc/cc-ci", "/"} {
		page, err := b.Page(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = page.Open(t.Context(), "file://"+path)
		if _, err := page.Visible(t.Context()); err == nil || !strings.Contains(err.Error(), "no address of this run") {
			t.Errorf("%s was judged: %v", path, err)
		}
		text, err := chromedp.Run(page.(interface{ tab() context.Context }).tab(), chromedp.Evaluate[string](`document.documentElement?.outerHTML ?? ""`))
		if err != nil || strings.Contains(text, "CANARY") || strings.Contains(text, "root:") || strings.Contains(text, "docker") {
			t.Errorf("%s shows %q, %v", path, text, err)
		}
		page.Close()
	}
}

// U17: no picture shows a secret of the run as text, wherever on the page it stands: with another secret of the
// same length each picture has the same pixels.
func TestU17_PicturesShowNoSecret(t *testing.T) {
	skipWithoutChromium(t)
	type secrets struct{ plain, quoted string }
	one, another := secrets{"s3cr3t-Of-The-Run", `qu"ote<&>'\s3cr3t`}, secrets{"Ab0ve+Al1+We+W4it", `&W4it<"e>\'s3cr3t`}
	if len(one.plain) != len(another.plain) || len(one.quoted) != len(another.quoted) {
		t.Fatal("the secrets differ in length")
	}
	const sub = "sandbox-" + runHost
	var body atomic.Value
	var holds atomic.Pointer[secrets]
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		html := body.Load().(string)
		switch r.URL.Path {
		case "/frame":
			html = "<p>{secret}</p>"
		case "/isolated":
			w.Header().Set("Origin-Agent-Cluster", "?1")
			html = "<p>{secret}</p>"
		}
		s := holds.Load()
		fill := strings.NewReplacer("{secret}", s.plain, "{json}", fmt.Sprintf("%q", s.quoted), "{1}", s.plain[:6], "{2}", s.plain[6:9], "{3}", s.plain[9:14], "{4}", s.plain[14:])
		fmt.Fprint(w, "<!doctype html><meta charset=utf-8><body>", fill.Replace(html))
	}))
	defer server.Close()
	b := startBrowser(t, Options{AnyCertificate: true, Route: func(host, port string) string {
		if port == "443" && (host == runHost || host == sub) {
			return server.Listener.Addr().String()
		}
		return ""
	}})
	r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 20 * time.Second}
	for name, html := range map[string]string{
		"text":            `<p>the password is {secret}.</p>`,
		"large text":      `<h1 style="font: 80px monospace">{secret}</h1>`,
		"field":           `<input value="{secret}">`,
		"typed":           `<input id=i><script>i.value = "{secret}"</script>`,
		"number field":    `<input type=email value="{secret}">`,
		"text area":       `<textarea>{secret}</textarea>`,
		"placeholder":     `<input placeholder="{secret}">`,
		"attribute":       `<style>b::after { content: attr(data-x) }</style><b data-x="{secret}"></b>`,
		"option":          `<select><option>{secret}</option></select>`,
		"cut":             `<p><b>{1}</b>{2}<i>{3}<u>{4}</u></i></p>`,
		"a letter each":   `<p id=p></p><script>for (const c of "{secret}") { const s = document.createElement("span"); s.textContent = c; p.append(s) }</script>`,
		"with line ends":  "<pre>{1}{2}\n{3}{4}</pre>",
		"SVG":             `<svg width=600 height=40><text y=30>{secret}</text></svg>`,
		"editable":        `<div contenteditable>{secret}</div>`,
		"open tree":       `<div id=d></div><script>d.attachShadow({mode: "open"}).innerHTML = "<p>{secret}</p>"</script>`,
		"closed tree":     `<div id=d></div><script>d.attachShadow({mode: "closed"}).innerHTML = "<p>{secret}</p>"</script>`,
		"frame":           `<iframe srcdoc="<p>{secret}</p>"></iframe>`,
		"frame elsewhere": `<iframe src="https://` + sub + `/frame"></iframe>`,
		"isolated frame":  `<iframe src="https://` + sub + `/isolated"></iframe>`,
		"sandbox":         `<iframe sandbox srcdoc="<p>{secret}</p>"></iframe>`,
		"object":          `<object data="/frame" type="text/html"></object>`,
		"quotes":          `<p id=p></p><script>p.textContent = {json}</script>`,
		"table":           `<table><tr><td>user<td>{secret}</table>`,
	} {
		t.Run(name, func(t *testing.T) {
			body.Store(html)
			shown := func(s secrets, hide ...string) image.Image {
				t.Helper()
				holds.Store(&s)
				shot, err := r.Screenshot(t.Context(), ccci.Screenshot{Path: "/"}, hide)
				if err != nil {
					t.Fatal(err)
				}
				if len(hide) > 0 && (strings.Contains(shot.Text, s.plain) || strings.Contains(shot.Text, s.quoted)) {
					t.Errorf("the page still shows %q", shot.Text)
				}
				picture, err := png.Decode(bytes.NewReader(shot.PNG))
				if err != nil {
					t.Fatal(err)
				}
				return picture
			}
			hidden := shown(one, one.plain, one.quoted)
			if at := unlike(hidden, shown(another, another.plain, another.quoted)); !at.Empty() {
				t.Errorf("the picture tells one secret from another at %v", at)
			}
			plain := shown(one)
			if unlike(plain, shown(another)).Empty() || unlike(plain, hidden).Empty() { // or the page would show nothing of it
				t.Error("without hiding, the picture is the same for another secret, or for none")
			}
		})
	}
}

// unlike is the least rectangle with all pixels in which two pictures differ.
func unlike(a, b image.Image) (at image.Rectangle) {
	one, ok := a.(*image.RGBA)
	other, also := b.(*image.RGBA)
	if !ok || !also || one.Rect != other.Rect || one.Stride != other.Stride { // Chromium's are alike
		return a.Bounds().Union(b.Bounds())
	}
	for i := 0; i < len(one.Pix); i += 4 {
		if !bytes.Equal(one.Pix[i:i+4], other.Pix[i:i+4]) {
			x, y := one.Rect.Min.X+i%one.Stride/4, one.Rect.Min.Y+i/one.Stride
			at = at.Union(image.Rect(x, y, x+1, y+1))
		}
	}
	return at
}

// U17: a page that writes a secret again whenever it is taken out is in no picture; its check is
// none of this one's business.
func TestU17_PageThatInsistsOnASecretIsInNoPicture(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	f.serve(t, attack{html: `<p id=p></p><script>const s = "s3cr3t-Of-The-Run", write = () => { if (p.textContent !== s) p.textContent = s };
		new MutationObserver(write).observe(p, {childList: true, characterData: true, subtree: true}); write()</script>`})
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 20 * time.Second}
	shot, err := r.Screenshot(t.Context(), ccci.Screenshot{Path: "/"}, []string{"s3cr3t-Of-The-Run"})
	if err != nil || shot.PNG != nil || !strings.Contains(shot.Text, "the app's page") {
		t.Errorf("picture %t, text %q, %v", shot.PNG != nil, shot.Text, err)
	}
}

// U16: the status is that of the document that is shown: not of a redirection, a frame, a picture, a
// download or a page before it.
func TestU16_StatusOfTheDocumentThatIsShown(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 20 * time.Second}
	frame := `<iframe src="/status?200"></iframe><img src="/status?404">` + told
	for name, c := range map[string]struct {
		path, html string
		want       int
		steps      []ccci.BrowserStep
	}{
		"success":                  {"/", frame, 200, nil},
		"success with a bad frame": {"/", `<iframe src="/status?500"></iframe>` + told, 200, nil},
		"an error":                 {"/status?502", "", 502, nil},
		"refused":                  {"/status?401", "", 401, nil},
		"asks for a password":      {"/status?401&basic", "", 401, nil},
		"forbidden":                {"/status?403", "", 403, nil},
		"redirects to an error":    {"/302?/status?502", "", 502, nil},
		"redirects to success":     {"/302?/status?200", "", 200, nil},
		"goes to an error":         {"/", `<script>location = "/status?503"</script>`, 503, []ccci.BrowserStep{{Text: "status 503"}}},
		"an error that downloads":  {"/status?500&download", "", 500, nil},
		"an error, then success":   {"/status?500", "", 200, []ccci.BrowserStep{{Open: "/status?200"}}},
		"an error with a history":  {"/status?500", "", 500, []ccci.BrowserStep{{Open: "/status?200"}, {Open: "/status?500"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f.serve(t, attack{html: c.html})
			shot, err := r.Screenshot(t.Context(), ccci.Screenshot{Path: c.path, Steps: c.steps}, nil)
			if err != nil || shot.Status != c.want {
				t.Errorf("status %d, want %d: %v", shot.Status, c.want, err)
			}
		})
	}
}

func (p *page) tab() context.Context { return p.ctx }
