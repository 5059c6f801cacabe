package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

//go:embed templates static
var embedded embed.FS

// frame is what every page is rendered with.
type frame struct {
	Site    string // title of the whole site
	Title   string // of this page
	Nav     string // which entry of the navigation is the current one
	Pulls   bool   // there is a local forge
	Version string
	// Live is the address of the page's event stream; "" when the page is at rest.
	Live string
	// Refresh is after how many seconds a browser without JavaScript loads the
	// page again; 0: not at all.
	Refresh int
	Body    any
}

// page wraps a handler whose errors become a page that says what to do.
func (d *Dashboard) page(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			d.fail(w, r, err)
		}
	})
}

func (d *Dashboard) parsePages() (map[string]*template.Template, error) {
	shared := template.New("").Funcs(d.functions())
	shared, err := shared.ParseFS(embedded, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("reading the shared templates: %w", err)
	}
	files, err := fs.Glob(embedded, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("listing the templates: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, f := range files {
		name := strings.TrimSuffix(path.Base(f), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		t, err := shared.Clone()
		if err == nil {
			t, err = t.ParseFS(embedded, f)
		}
		if err != nil {
			return nil, fmt.Errorf("reading template %s: %w", f, err)
		}
		pages[name] = t
	}
	return pages, nil
}

// render writes a page.
func (d *Dashboard) render(w http.ResponseWriter, r *http.Request, code int, name string, f frame) error {
	page, err := d.draw(name, f)
	if err != nil {
		return err
	}
	release, ok := d.hold(r, page)
	if !ok {
		tooMany(w, errBusy.Error())
		return nil
	}
	defer release()
	d.send(w, r, code, page)
	return nil
}

// errLong says that a page is longer than those of one address may be together.
var errLong = errors.New("the page is too long")

// boundedPage is a page while it is drawn.
type boundedPage struct{ text bytes.Buffer }

func (p *boundedPage) Write(b []byte) (int, error) {
	if p.text.Len()+len(b) > pageBytesPerAddress {
		return 0, errLong
	}
	return p.text.Write(b)
}

// draw builds a page in memory, so that an error on the way is an error page and not
// half a page.
func (d *Dashboard) draw(name string, f frame) ([]byte, error) {
	f.Site, f.Version, f.Pulls = d.cfg.Title, d.cfg.Version, d.cfg.Forge != nil
	var b boundedPage
	if err := d.pages[name].ExecuteTemplate(&b, "layout", f); err != nil {
		return nil, fmt.Errorf("rendering page %s: %w", name, err)
	}
	return bytes.Clone(b.text.Bytes()), nil // without the room in which it grew
}

// hold takes room for a page that waits for its reader, who may take its time.
func (d *Dashboard) hold(r *http.Request, page []byte) (release func(), ok bool) {
	if len(page) <= shortPage {
		return func() {}, true
	}
	who, size := d.limits.clientOf(r), int64(len(page))
	if !d.waiting.Enter(who, size) {
		return nil, false
	}
	return func() { d.waiting.Leave(who, size) }, true
}

func (d *Dashboard) send(w http.ResponseWriter, r *http.Request, code int, page []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(page) // a reader who left is nobody's error
	}
}

// problem is the body of an error page.
type problem struct {
	Code    int
	Heading string
	Message string
	Hint    string
}

// fail answers with an error page. What nobody classified is logged, and the
// reader is told only that it is our fault.
func (d *Dashboard) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // the reader left
	}
	if errors.Is(err, errBusy) {
		tooMany(w, errBusy.Error())
		return
	}
	p := problem{Code: http.StatusInternalServerError, Heading: "Something went wrong on our side",
		Message: "The page could not be put together. It is not your fault, and it was written to the server's log.",
		Hint:    "Try again in a moment."}
	var e *ccci.Error
	switch {
	case errors.Is(err, ccci.ErrNotFound) || errors.As(err, &e) && e.Code == ccci.CodeNotFound:
		p = problem{Code: http.StatusNotFound, Heading: "There is nothing here",
			Message: "This address leads to nothing. It may have been mistyped, or what was there was removed."}
	case errors.As(err, &e) && e.Code == ccci.CodeInvalid:
		p = problem{Code: http.StatusBadRequest, Heading: "That cannot be read"}
	case errors.As(err, &e) && e.Code == ccci.CodeRefused:
		p = problem{Code: http.StatusForbidden, Heading: "That is not allowed"}
	case errors.As(err, &e) && e.Code == ccci.CodeConflict:
		p = problem{Code: http.StatusConflict, Heading: "That collides with the present state"}
	case errors.Is(err, errLong):
		p.Heading, p.Message, p.Hint = "This page is too long", fmt.Sprintf("It would have more than %s.", size(pageBytesPerAddress)), ""
	}
	if e != nil && p.Code != http.StatusInternalServerError {
		p.Message, p.Hint = sentence(e.Message), ccci.HintOf(err)
	}
	if p.Code == http.StatusInternalServerError {
		d.log.Error("answering a request", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	w.Header().Del("ETag")
	w.Header().Set("Cache-Control", "no-store")
	if err := d.render(w, r, p.Code, "error", frame{Title: p.Heading, Body: p}); err != nil {
		d.log.Error("rendering the error page", "error", err)
		http.Error(w, p.Heading, p.Code)
	}
}

func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

func (d *Dashboard) nowhere(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return d.render(w, r, http.StatusMethodNotAllowed, "error", frame{Title: "That cannot be done here",
			Body: problem{Code: http.StatusMethodNotAllowed, Heading: "That cannot be done here",
				Message: "This address can only be read."}})
	}
	return ccci.ErrNotFound
}

func (d *Dashboard) robots(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("User-agent: *\nDisallow: /runs\nDisallow: /events\nDisallow: /pulls\n"))
	return nil
}

// assets are the files of static/, served under names that hold a digest of
// their content, so that browsers may keep them for ever.
type assets struct {
	files map[string]asset  // by served name
	names map[string]string // name in static/ -> served name
}

type asset struct {
	kind string
	body []byte
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}, names: map[string]string{}}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	entries, err := fs.ReadDir(embedded, "static")
	if err != nil {
		return nil, fmt.Errorf("listing the static files: %w", err)
	}
	for _, e := range entries {
		body, err := fs.ReadFile(embedded, "static/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("reading a static file: %w", err)
		}
		ext := path.Ext(e.Name())
		sum := sha256.Sum256(body)
		served := strings.TrimSuffix(e.Name(), ext) + "-" + hex.EncodeToString(sum[:6]) + ext
		a.files[served] = asset{kind: kinds[ext], body: body}
		a.names[e.Name()] = served
	}
	return a, nil
}

// path returns the address of a file in static/.
func (a *assets) path(name string) (string, error) {
	served, ok := a.names[name]
	if !ok {
		return "", fmt.Errorf("there is no static file %q", name)
	}
	return "/static/" + served, nil
}

func (d *Dashboard) static(w http.ResponseWriter, r *http.Request) error {
	f, ok := d.assets.files[r.PathValue("file")]
	if !ok {
		return ccci.ErrNotFound
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(f.body)
	return nil
}

func (d *Dashboard) favicon(w http.ResponseWriter, r *http.Request) error {
	to, err := d.assets.path("icon.svg")
	if err != nil {
		return err
	}
	http.Redirect(w, r, to, http.StatusFound)
	return nil
}
