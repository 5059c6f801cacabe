package browser

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// U16: a picture is taken once the page's own requests have ended, whatever they were for: none is
// waited for that ends elsewhere. And one that is under way is waited for.
func TestU16_PictureWaitsForThePageAlone(t *testing.T) {
	pages := map[string]string{
		"/plain":       `hello`,
		"/blob":        `hello<script>new Worker(URL.createObjectURL(new Blob(["postMessage(1)"]))).onmessage = () => document.body.append("worked")</script>`,
		"/worker":      `hello<script>new Worker("/worker.js").onmessage = () => document.body.append("worked")</script>`,
		"/shared":      `hello<script>new SharedWorker("/worker.js").port.start()</script>`,
		"/gone":        `hello<script>new Worker("/gone.js")</script>`,
		"/ends":        `hello<script>const w = new Worker("/worker.js"); w.onmessage = () => w.terminate()</script>`,
		"/elsewhere":   `hello<img src="https://picture.example.net/1.png"><iframe src="https://frame.example.net/"></iframe>`,
		"/data":        `hello<img src="data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7">`,
		"/speculation": `hello<script type="speculationrules">{"prefetch":[{"source":"list","urls":["/plain"],"eagerness":"immediate"}]}</script>`,
		"/slow":        `hello<script>fetch("/slow.txt")</script>`,
	}
	mux := http.NewServeMux()
	for path, text := range pages {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<!doctype html><body>"+text)
		})
	}
	mux.HandleFunc("/worker.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, "postMessage(1)")
	})
	slow := time.Second
	mux.HandleFunc("/slow.txt", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
		}
	})
	ctx, b, address := pageServer(t, mux)
	for path := range pages {
		t.Run(path[1:], func(t *testing.T) {
			page, err := b.Page(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer page.Close()
			if err := page.Open(ctx, address+path); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := page.Screenshot(ctx, nil); err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			if took >= maxQuiet || path == "/slow" && took < slow*3/4 {
				t.Errorf("the picture took %s", took)
			}
			if path == "/blob" || path == "/worker" {
				if err := page.Text(ctx, "worked"); err != nil {
					t.Errorf("the worker did not work: %v", err)
				}
			}
		})
	}
}

// U10: a selector is CSS. What has the same text in a script or a style sheet is not meant.
func TestU10_SelectorsAreCSSAlone(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!doctype html><style media="print">#bar, #go, #list, #name { display: none }</style><body data-is="#bar #go #list #name">
<div id="bar">bar</div><button id="go" onclick="document.body.append('gone')">Go</button><select id="list"><option>1<option>2</select><input id="name">
<script>/* #bar #go #list #name */</script>`)
	})
	ctx, b, address := pageServer(t, mux)
	page, err := b.Page(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"open", func() error { return page.Open(ctx, address+"/") }},
		{"see", func() error { return page.See(ctx, "#bar") }},
		{"fill", func() error { return page.Fill(ctx, "#name", "ada") }},
		{"select", func() error { return page.Select(ctx, "#list", "2") }},
		{"click", func() error { return page.Click(ctx, "#go") }},
		{"text", func() error { return page.Text(ctx, "gone") }},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
	}
}

// pageServer serves pages of the run and starts a browser that reaches them.
func pageServer(t *testing.T, pages http.Handler) (context.Context, *Browser, string) {
	t.Helper()
	skipWithoutChromium(t)
	server := httptest.NewTLSServer(pages)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, startBrowser(t, Options{Route: Only(server.URL), AnyCertificate: true}), server.URL
}
