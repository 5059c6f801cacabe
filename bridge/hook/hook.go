// Package hook takes webhooks. A delivery is a hint and nothing more: once its
// signature fits, the repository that it names is looked at, and everything that
// counts is read again through the forge's API. So a replayed or a forged body can
// cost one look and cause no run.
//
// The endpoint is open to everybody, so what is refused is refused before a byte of the
// body is read. Each client has its share of places, nearly all deliveries are read before
// they take a buffer, and the long ones share a few buffers of bounded size.
package hook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/quota"
)

// Verifier checks a delivery's signature over its whole body and reads from it what
// is needed: the repository, the delivery's own id ("" for none), and whether it
// tells of something that matters here. It is safe for concurrent use and keeps
// nothing of body, which is used again.
type Verifier func(header http.Header, body []byte) (repo ccci.RepoRef, delivery string, relevant bool, err error)

// Source is a forge that may send deliveries, to /hook/<Name>.
type Source struct {
	Name string
	// Signatures names the headers one of which must hold an HMAC-SHA256 in hexadecimal, as it
	// is or behind "sha256=". A delivery without any is refused unread.
	Signatures []string
	// Verify is nil as long as there is no key to verify with; then every delivery is refused.
	Verify Verifier
}

// Outcomes of a delivery, as Options.Observe is told.
const (
	Accepted   = "accepted"   // the repository is looked at
	Seen       = "seen"       // the same delivery came before
	Irrelevant = "irrelevant" // well signed, about something else
	Unsigned   = "unsigned"   // no signature
	Forged     = "forged"     // a signature that does not fit, or a body that does not parse
	TooLarge   = "too-large"
	NoKey      = "no-key" // the forge is known and has no key
	Unknown    = "unknown"
	Malformed  = "malformed" // method, content type, a body that was cut off
	Busy       = "busy"
)

// Options of [New]. Sources and Publish are required.
type Options struct {
	Sources []Source
	// Publish hands on that a repository is to be looked at.
	Publish func(ctx context.Context, forge string, repo ccci.RepoRef) error
	Limit   int64 // bytes of a body; default 1 MiB
	// Parallel is how many bodies longer than 32 KiB are read at a time; default 8. Together
	// with Limit it bounds the memory. One client has half of them.
	Parallel int
	// Proxies are the addresses whose X-Forwarded-For is believed; of any other peer the
	// connection's own address is the client.
	Proxies  []netip.Prefix
	Patience time.Duration // for a body to arrive, and to wait for a turn; default 5 s
	Observe  func(forge, outcome string)
	Logger   *slog.Logger
}

// Handler takes POST /hook/<forge>.
type Handler struct {
	opts    Options
	log     *slog.Logger
	sources map[string]Source
	places  *quota.Quota  // for deliveries that are read, of any length
	long    *quota.Quota  // for those that have or wait for a buffer
	buffers chan []byte   // as many as long bodies may be read at a time; they grow as needed and are kept
	closers chan struct{} // one per connection that is ended politely
	seen    seen
}

// New checks the options.
func New(o Options) (*Handler, error) {
	o.Limit = cmp.Or(o.Limit, 1<<20)
	o.Parallel = cmp.Or(o.Parallel, 8)
	o.Patience = cmp.Or(o.Patience, 5*time.Second)
	if o.Publish == nil || o.Limit < 0 || o.Parallel < 0 || o.Patience < 0 {
		return nil, ccci.Errorf(ccci.CodeInvalid, "making the webhook endpoint: nobody to publish to, or a negative limit")
	}
	if o.Observe == nil {
		o.Observe = func(string, string) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{opts: o, log: o.Logger.With("part", "hook"), sources: map[string]Source{},
		places: quota.New(256, 32), long: quota.New(math.MaxInt32, (o.Parallel+1)/2),
		buffers: make(chan []byte, o.Parallel), closers: make(chan struct{}, 16)}
	for range o.Parallel {
		h.buffers <- nil
	}
	for _, s := range o.Sources {
		if _, twice := h.sources[s.Name]; twice || s.Name == "" || (s.Verify != nil && len(s.Signatures) == 0) {
			return nil, ccci.Errorf(ccci.CodeInvalid, "making the webhook endpoint: forge %q is named twice, or says of no header that it signs", s.Name)
		}
		h.sources[s.Name] = s
	}
	return h, nil
}

// ServeHTTP answers one delivery. 202 says that it is taken up, 204 that it is of no interest.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	source, outcome, code := h.judge(r)
	if code != 0 {
		h.opts.Observe(source.Name, outcome)
		h.refuse(w, r, code)
		return
	}
	outcome, code = h.receive(w, r, source)
	h.opts.Observe(source.Name, outcome)
	if outcome == Busy {
		w.Header().Set("Retry-After", "10")
	}
	if code >= 400 {
		h.refuse(w, r, code)
		return
	}
	w.WriteHeader(code)
}

// judge refuses what can be refused unread; code 0 lets it through.
func (h *Handler) judge(r *http.Request) (source Source, outcome string, code int) {
	name, ok := forgeOf(r.URL.Path)
	source, known := h.sources[name]
	switch {
	case !ok || !known:
		return source, Unknown, http.StatusNotFound
	case r.Method != http.MethodPost:
		return source, Malformed, http.StatusMethodNotAllowed
	case source.Verify == nil:
		return source, NoKey, http.StatusServiceUnavailable
	case !signed(r.Header, source.Signatures):
		return source, Unsigned, http.StatusUnauthorized
	case r.ContentLength > h.opts.Limit:
		return source, TooLarge, http.StatusRequestEntityTooLarge
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" || r.Header.Get("Content-Encoding") != "" {
		return source, Malformed, http.StatusUnsupportedMediaType
	}
	return source, "", 0
}

// Path is where deliveries go; the forge's name follows.
const Path = "/hook/"

func forgeOf(path string) (string, bool) {
	if len(path) <= len(Path) || path[:len(Path)] != Path {
		return "", false
	}
	return path[len(Path):], true
}

func signed(h http.Header, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		mac, err := hex.DecodeString(strings.TrimPrefix(h.Get(name), "sha256="))
		return err == nil && len(mac) == sha256.Size
	})
}

// shortBody is how much of a body is read before it takes a buffer, in bytes. Deliveries about
// comments have less, unless the comment is long.
const shortBody = 32 << 10

// receive reads a body and acts on it.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, source Source) (outcome string, code int) {
	who := quota.ClientOf(r, h.opts.Proxies)
	if !h.places.Enter(who, 1) {
		return Busy, http.StatusServiceUnavailable
	}
	defer h.places.Leave(who, 1)
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(h.opts.Patience)) // not every writer can
	size := min(h.opts.Limit+1, shortBody)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength+1) // with room to see the end
	}
	head, err := readAll(r.Body, make([]byte, 0, size), size-1)
	switch {
	case err != nil:
		return Malformed, http.StatusBadRequest
	case int64(len(head)) == size: // there is more
		return h.receiveLong(w, r, source, who, head)
	}
	_ = conn.SetReadDeadline(time.Time{})
	return h.act(r, source, head)
}

// receiveLong goes on after the head of a long body, when a buffer is free.
func (h *Handler) receiveLong(w http.ResponseWriter, r *http.Request, source Source, who netip.Prefix, head []byte) (outcome string, code int) {
	if !h.long.Enter(who, 1) {
		return Busy, http.StatusServiceUnavailable
	}
	defer h.long.Leave(who, 1)
	waiting, cancel := context.WithTimeout(r.Context(), h.opts.Patience)
	defer cancel()
	var buf []byte
	select {
	case buf = <-h.buffers:
		defer func() { h.buffers <- buf }() // a verifier that panics must not keep it
	case <-waiting.Done():
		return Busy, http.StatusServiceUnavailable
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(h.opts.Patience))
	var err error
	buf, err = readAll(io.MultiReader(bytes.NewReader(head), r.Body), buf, h.opts.Limit)
	switch {
	case err != nil:
		return Malformed, http.StatusBadRequest
	case int64(len(buf)) > h.opts.Limit:
		return TooLarge, http.StatusRequestEntityTooLarge
	}
	_ = conn.SetReadDeadline(time.Time{})
	return h.act(r, source, buf)
}

// readAll reads r into buf, growing it, and stops one byte beyond limit.
func readAll(r io.Reader, buf []byte, limit int64) ([]byte, error) {
	buf = buf[:0]
	for int64(len(buf)) <= limit {
		if len(buf) == cap(buf) {
			size := min(max(2*int64(cap(buf)), 16<<10), limit+1)
			buf = append(make([]byte, 0, size), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// act verifies a whole body and hands on what it hints at.
func (h *Handler) act(r *http.Request, source Source, body []byte) (string, int) {
	repo, delivery, relevant, err := source.Verify(r.Header, body)
	switch {
	case err != nil:
		h.log.Info("a delivery was refused", "forge", source.Name, "from", r.RemoteAddr, "error", err)
		return Forged, http.StatusUnauthorized
	case !relevant:
		return Irrelevant, http.StatusNoContent
	case h.seen.has(source.Name, delivery):
		return Seen, http.StatusAccepted
	}
	if err := h.opts.Publish(r.Context(), source.Name, repo); err != nil {
		h.log.Warn("handing on a delivery; the next look comes anyway", "forge", source.Name, "repository", repo, "error", err)
		return Busy, http.StatusServiceUnavailable
	}
	h.seen.add(source.Name, delivery)
	h.log.Debug("a delivery", "forge", source.Name, "repository", repo, "delivery", delivery)
	return Accepted, http.StatusAccepted
}

// politeBody is how large a body the server may read to its end to keep the connection.
const politeBody = 16 << 10

// refuse answers and, when a body is still to come, ends the connection itself: net/http
// would keep each for half a second, which a flood makes thousands of.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, code int) {
	if r.ContentLength >= 0 && r.ContentLength <= politeBody {
		if r.ContentLength > 0 { // the server reads it to its end, for as long as this
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.opts.Patience))
		}
		http.Error(w, http.StatusText(code), code)
		return
	}
	w.Header().Set("Connection", "close")
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, http.StatusText(code), code)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, refusals[code])
	select {
	case h.closers <- struct{}{}:
		defer func() { <-h.closers }()
	default:
		return
	}
	// Whoever sends on while the connection closes may lose the answer; a few are waited for.
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = conn.Read(make([]byte, 512))
}
