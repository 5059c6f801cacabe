package browser_test

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
	"github.com/recipe-maintainers/cc-ci/internal/browser"
)

// A page that draws half a second after it was loaded, as single-page apps do.
const form = `<!doctype html><title>app</title><body><form action="/hello" method="get">
<textarea id="name" name="name"></textarea><input id="other" name="other" value="old"><button id="go">Go</button></form>
<script>setTimeout(() => fetch("/slow").then(r => r.text()).then(t => { document.body.insertAdjacentHTML("beforeend", "<p id=late>" + t + "</p>") }), 50)</script>`

func TestA22_StepsInARealBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Chromium")
	}
	if _, err := browser.Find(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(form))
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("drawn late"))
	})
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("hello " + r.FormValue("other") + r.FormValue("name") + " at " + r.Host))
	})
	server := httptest.NewTLSServer(mux)
	defer server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	files := t.TempDir()
	t.Setenv("TMPDIR", files)
	b, err := browser.Start(ctx, browser.Options{Route: runRoute(server, "app-123456.ci.localhost"), AnyCertificate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := &checks.Runner{Target: checks.Target{Domain: "app-123456.ci.localhost", Browser: b}, Limit: 20 * time.Second}

	steps := []ccci.BrowserStep{{Open: "/"}, {See: "#late"}, {Fill: "#other", Value: "new"}, {Fill: "#name", Value: "Ada {{.Marker}}"}, {Click: "#go"}, {Text: "hello newAda m1 at app-123456.ci.localhost"}, {URL: "/hello"}}
	if err := r.WithMarker("m1").Run(ctx, ccci.Step{Name: "say hello", Browser: steps}); err != nil {
		t.Error(err)
	}

	err = r.Run(ctx, ccci.Step{Name: "what is not there", Browser: []ccci.BrowserStep{{Open: "/"}, {Text: "good bye"}}, Timeout: 2 * time.Second})
	if err == nil || !strings.Contains(err.Error(), `browser step 2, text "good bye"`) {
		t.Errorf("got %v", err)
	}

	shot, err := r.Screenshot(ctx, ccci.Screenshot{Path: "/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(shot.Text, "drawn late") {
		t.Errorf("the picture was taken before the page was drawn: %q", shot.Text)
	}
	img, err := png.Decode(bytes.NewReader(shot.PNG))
	if err != nil || img.Bounds().Dx() != browser.Width || img.Bounds().Dy() != browser.Height {
		t.Errorf("screenshot: %v %v", img.Bounds(), err)
	}
	if refused := b.Refused(); len(refused) > 0 { // what Chromium asks for of its own accord is no page's
		t.Errorf("outside of the run: %q", refused)
	}
	b.Close()
	b.Close() // legal twice
	// Also one that nobody could close has nothing to leave.
	if left, err := os.ReadDir(files); err != nil || len(left) != 0 {
		t.Errorf("in the temporary directory: %v, %v", left, err)
	}
}

// runRoute is that of a run: its hosts by HTTPS, all served by one proxy.
func runRoute(server *httptest.Server, hosts ...string) browser.Route {
	addr := server.Listener.Addr().String()
	return func(host, port string) string {
		if port == "443" && slices.Contains(hosts, host) {
			return addr
		}
		return ""
	}
}

// A22: an interface of the machine that comes while a page is loaded or a form is sent,
// as another run's containers bring one, breaks nothing off and has nothing sent again.
func TestA22_PageSurvivesANewInterface(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Chromium")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may make an interface")
	}
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2=%t", http2), func(t *testing.T) { surviveANewInterface(t, http2) })
	}
}

func surviveANewInterface(t *testing.T, http2 bool) {
	const device = "ccci-browser"
	link := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %q: %w: %s", args, err, out)
		}
		return nil
	}
	_ = link("link", "del", device) // of a test that was killed
	comeAndGo := func() {
		for _, args := range [][]string{
			{"link", "add", device, "type", "veth", "peer", "name", device + "2"},
			{"addr", "add", "192.0.2.77/32", "dev", device}, {"link", "set", device, "up"}, {"link", "set", device + "2", "up"},
			{"link", "del", device},
		} {
			if err := link(args...); err != nil {
				t.Error(err)
			}
		}
	}
	// More than the six connections that a browser has to one host over HTTP/1.1, so
	// that some wait for one: those are broken off there, and all over HTTP/2.
	const scripts = 12
	mux := http.NewServeMux()
	answers := map[string]*atomic.Int32{}
	serve := func(path string, slow bool, answer http.HandlerFunc) {
		asked := &atomic.Int32{}
		answers[path] = asked
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) == 1 && slow {
				comeAndGo()
				select {
				case <-r.Context().Done():
					t.Errorf("the browser gave %s up", path)
				case <-time.After(time.Second): // it would have, at once
				}
			}
			answer(w, r)
		})
	}
	serve("/page", true, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!doctype html><form method="post" action="/done"><input id="name" name="name"><button>Send</button></form><p id="drawn"></p>`)
		for i := range scripts {
			fmt.Fprintf(w, `<script src="/%d.js"></script>`, i)
		}
	})
	for i := range scripts {
		serve(fmt.Sprintf("/%d.js", i), i == 0, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			io.WriteString(w, `document.getElementById("drawn").append("x")`)
		})
	}
	serve("/done", true, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "welcome "+r.FormValue("name")) })
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = http2
	server.StartTLS()
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := browser.Start(ctx, browser.Options{Route: browser.Only(server.URL), AnyCertificate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	page, err := b.Page(ctx)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			seen, _ := page.Visible(t.Context())
			t.Fatalf("%v; the page shows:\n%s", err, seen)
		}
	}
	must(page.Open(ctx, server.URL+"/page"))
	seen, err := page.Visible(ctx)
	must(err)
	if n := strings.Count(seen, "x"); n != scripts {
		t.Errorf("%d of %d scripts came", n, scripts)
	}
	must(page.Fill(ctx, "#name", "ada"))
	must(page.Click(ctx, "button"))
	must(page.Text(ctx, "welcome ada"))
	for path, asked := range answers {
		if n := asked.Load(); n != 1 {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
}
