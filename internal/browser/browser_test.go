package browser_test

import (
	"bytes"
	"context"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
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
	dir, err := os.MkdirTemp("", "cc-ci-test-") // t.TempDir is too long for Chromium's socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	elsewhere := t.TempDir()
	t.Setenv("TMPDIR", elsewhere)
	b, err := browser.Start(ctx, browser.Options{Dir: dir, Proxy: strings.TrimPrefix(server.URL, "https://"), Domain: "ci.localhost", AnyCertificate: true})
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

	shot, text, err := r.Screenshot(ctx, ccci.Screenshot{Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "drawn late") {
		t.Errorf("the picture was taken before the page was drawn: %q", text)
	}
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil || img.Bounds().Dx() != browser.Width || img.Bounds().Dy() != browser.Height {
		t.Errorf("screenshot: %v %v", img.Bounds(), err)
	}
	// One removal takes everything of a browser that nobody could close.
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("in the folder that was named: %v, %v", files, err)
	}
	if files, err := os.ReadDir(elsewhere); err != nil || len(files) != 0 {
		t.Errorf("in the temporary directory: %v, %v", files, err)
	}
	b.Close()
	b.Close() // legal twice
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("after Close: %v, %v", files, err)
	}
}
