package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/runlog"
)

// Artifacts come from a recipe under test: whatever they are, they run nowhere.
const artifactPolicy = "default-src 'none'; sandbox; frame-ancestors 'none'"

// imageKinds are shown as pictures, textKinds as plain text; all else, HTML and
// SVG among it, is offered for download.
var (
	imageKinds = map[string]string{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
	textKinds  = map[string]bool{".txt": true, ".log": true, ".json": true, ".md": true, ".yml": true, ".yaml": true, ".env": true, ".sarif": true, ".csv": true}
)

func ext(name string) string { return strings.ToLower(path.Ext(name)) }

func validRunID(id string) bool {
	return len(id) == 20 && strings.Trim(id, "0123456789abcdef-") == ""
}

// file serves one artifact of a run.
func (d *Dashboard) file(w http.ResponseWriter, r *http.Request) error {
	id, name := r.PathValue("id"), r.PathValue("path")
	if !validRunID(id) || name == "" || path.Clean("/"+name) != "/"+name {
		return ccci.ErrNotFound
	}
	body, info, err := d.cfg.Blobs.Open(r.Context(), ccci.ArtifactKey(ccci.RunID(id), name))
	if ccci.CodeOf(err) == ccci.CodeInvalid && err != nil {
		return ccci.ErrNotFound
	}
	if errors.Is(err, ccci.ErrCorrupt) {
		d.log.Error("serving an artifact", "run", id, "path", name, "error", err)
	}
	if err != nil {
		return fmt.Errorf("opening %s of run %s: %w", name, id, err)
	}
	defer body.Close()

	h := w.Header()
	h.Set("Content-Security-Policy", artifactPolicy)
	h.Set("Cache-Control", "private, max-age=300")
	h.Set("ETag", `"`+strings.TrimPrefix(info.Digest, "sha256:")+`"`)
	h.Set("Content-Type", "application/octet-stream")
	switch kind := ext(name); {
	case imageKinds[kind] != "":
		h.Set("Content-Type", imageKinds[kind])
	case textKinds[kind]:
		h.Set("Content-Type", "text/plain; charset=utf-8")
	default:
		h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", strings.Map(inFileName, path.Base(name))))
	}
	http.ServeContent(w, onePart(r), "", info.Modified, body)
	return nil
}

// onePart takes a request for several ranges for one of the whole: a reader could ask for
// the same bytes many times over.
func onePart(r *http.Request) *http.Request {
	if !strings.Contains(r.Header.Get("Range"), ",") {
		return r
	}
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	return whole
}

func inFileName(r rune) rune {
	if r < ' ' || r > '~' || strings.ContainsRune(`"\/:*?<>|%`, r) {
		return '_'
	}
	return r
}

// rawLog serves a run's log as it was written. While the run is going on it
// follows the log to its end, as tail does; follow=0 stops at what is there.
func (d *Dashboard) rawLog(w http.ResponseWriter, r *http.Request) error {
	run, err := d.findRun(r)
	if err != nil {
		return err
	}
	offset, err := startOffset(r)
	if err != nil {
		return err
	}
	h := w.Header()
	growing := !run.Status.Terminal()
	follows := growing && r.URL.Query().Get("follow") != "0"
	if follows {
		done, ok := d.stream(w, r)
		if !ok {
			return nil
		}
		defer done()
	}
	body, err := d.openLog(r.Context(), run, offset)
	if errors.Is(err, ccci.ErrNotFound) {
		return ccci.Errorf(ccci.CodeNotFound, "There is no log of run %s", run.ID).
			WithHint("A queued run has none yet; of an old run it may have been removed.")
	}
	if err != nil {
		return err
	}
	h.Set("Content-Security-Policy", artifactPolicy)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return body.Close()
	}
	d.copyLog(r, w, body, growing && !follows)
	return nil
}

// copyLog sends a log as it grows, until its end, until it is silent when only what is
// there is wanted, or until reader or server leave.
func (d *Dashboard) copyLog(r *http.Request, w http.ResponseWriter, body io.ReadCloser, untilSilent bool) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(d.stopped, cancel)()
	_ = runlog.Copy(ctx, flushing{w, http.NewResponseController(w)}, body, untilSilent) // the answer has begun
}

// flushing hands on at once what is written.
type flushing struct {
	io.Writer
	now *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		_ = f.now.Flush()
	}
	return n, err
}
