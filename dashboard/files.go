package dashboard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
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

// verifyLimit is the size up to which a file is read and verified before its
// first byte is sent. Longer ones are cut off where they turn out corrupt.
const verifyLimit = 16 << 20

func validRunID(id string) bool {
	return len(id) == 20 && strings.Trim(id, "0123456789abcdef-") == ""
}

// file serves one artifact of a run.
func (d *Dashboard) file(w http.ResponseWriter, r *http.Request) error {
	id, name := r.PathValue("id"), r.PathValue("path")
	if !validRunID(id) || name == "" || path.Clean("/"+name) != "/"+name {
		return ccci.ErrNotFound
	}
	body, info, err := d.cfg.Blobs.Get(r.Context(), ccci.ArtifactKey(ccci.RunID(id), name))
	if ccci.CodeOf(err) == ccci.CodeInvalid && err != nil {
		return ccci.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("opening %s of run %s: %w", name, id, err)
	}
	defer body.Close()

	h := w.Header()
	h.Set("Content-Security-Policy", artifactPolicy)
	h.Set("Cache-Control", "private, max-age=300")
	h.Set("ETag", `"`+strings.TrimPrefix(info.Digest, "sha256:")+`"`)
	if info.Digest != "" && matches(r.Header.Get("If-None-Match"), h.Get("ETag")) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/octet-stream")
	switch kind := ext(name); {
	case imageKinds[kind] != "":
		h.Set("Content-Type", imageKinds[kind])
	case textKinds[kind]:
		h.Set("Content-Type", "text/plain; charset=utf-8")
	default:
		h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", strings.Map(inFileName, path.Base(name))))
	}
	if info.Size <= verifyLimit {
		all, err := io.ReadAll(body)
		if err != nil {
			h.Set("Content-Security-Policy", policy)
			h.Del("Content-Disposition")
			if errors.Is(err, ccci.ErrCorrupt) {
				d.log.Error("serving an artifact", "run", id, "path", name, "error", err)
			}
			return fmt.Errorf("reading %s of run %s: %w", name, id, err)
		}
		body = io.NopCloser(bytes.NewReader(all))
	}
	h.Set("Content-Length", fmt.Sprint(info.Size))
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(w, body); err != nil {
		if errors.Is(err, ccci.ErrCorrupt) {
			d.log.Error("serving an artifact", "run", id, "path", name, "error", err)
		}
		panic(http.ErrAbortHandler) // the reader must not take a part for the whole
	}
	return nil
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
	if r.URL.Query().Get("follow") == "0" && !run.Status.Terminal() {
		data, _, err := d.writtenSoFar(r.Context(), run, 1<<30)
		if err != nil {
			return err
		}
		h.Set("Content-Security-Policy", artifactPolicy)
		h.Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(data[min(offset, int64(len(data))):])
		return nil
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
	c := http.NewResponseController(w)
	d.copyLog(r, w, c, body)
	return nil
}

// copyLog sends a log as it grows, until its end, or until reader or server leave.
func (d *Dashboard) copyLog(r *http.Request, w io.Writer, c *http.ResponseController, body io.ReadCloser) {
	for part := range pump(r.Context(), body) {
		if part.err != nil || d.stopped.Err() != nil {
			return
		}
		if _, err := w.Write(part.data); err != nil {
			return
		}
		_ = c.Flush()
	}
}
