package dashboard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// badgeLife is how long a badge is served without asking the store. Hints from
// the bus end it sooner; browsers and image proxies are told the same time.
const badgeLife = 30 * time.Second

// Colours of badges. White text on each has a contrast of at least 4.5.
const (
	badgeGrey   = "#6b7280"
	badgeRed    = "#c0262d"
	badgeViolet = "#7c3aed"
)

var levelColours = [...]string{badgeRed, "#b4481a", "#a65a00", "#856a00", "#5a7410", "#1a7f37"}

// face is the right-hand side of a recipe's badge.
type face struct {
	text   string
	full   string // the same with the names of what was skipped, for the badge's title
	colour string
}

func faceOf(text, colour string) face { return face{text, text, colour} }

// face returns the right-hand side of a recipe's badge (U7). A run under way changes nothing: the
// last result stays until there is a new one.
func (s standing) face() face {
	if s.Speaks == nil {
		return faceOf(ccci.WordNotTested, badgeGrey)
	}
	short, full := ccci.LevelWords(s.Speaks.Level, s.Speaks.Stages)
	word := s.Speaks.Status.Word()
	switch {
	case s.Stale && s.Speaks.Status == ccci.StatusPassed:
		return face{short + ", " + ccci.WordStale, full + ", " + ccci.WordStale, badgeGrey}
	case s.Stale:
		return faceOf(ccci.WordStale, badgeGrey)
	case s.Speaks.Status == ccci.StatusErrored || s.Speaks.Status == ccci.StatusInconclusive:
		return faceOf(word, badgeViolet)
	case s.Speaks.Status == ccci.StatusFlaky:
		return face{word + ", " + short, word + ", " + full, badgeViolet}
	case s.Speaks.Status == ccci.StatusRefused || s.Speaks.Status == ccci.StatusFailed && s.Speaks.Level == 0:
		return faceOf(word, badgeRed)
	case s.Speaks.Status == ccci.StatusFailed:
		return face{word + ", " + short, word + ", " + full, badgeRed}
	}
	return face{short, full, levelColour(s.Speaks.Level)}
}

func levelColour(level int) string {
	return levelColours[min(max(level, 0), len(levelColours)-1)]
}

// widths of the printable ASCII characters from space to ~, in tenths of a
// pixel at 11 px, in DejaVu Sans, whose widths are those of Verdana.
var widths = [...]int{35, 44, 51, 92, 70, 105, 86, 30, 43, 43, 55, 92, 35, 40, 35, 37, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 37, 37, 92, 92, 92, 58,
	110, 75, 75, 77, 85, 70, 63, 85, 83, 32, 32, 72, 61, 95, 82, 87, 66, 87, 76, 70, 67, 81, 75, 109, 75, 67, 75, 43, 37, 43, 92, 55,
	55, 67, 70, 60, 70, 68, 39, 70, 70, 31, 31, 64, 31, 107, 70, 67, 70, 70, 45, 57, 43, 70, 65, 90, 65, 65, 58, 70, 37, 70, 92}

// textWidth returns the width of s in tenths of a pixel at 11 px.
func textWidth(s string) int {
	w := 0
	for _, r := range s {
		if r >= ' ' && r <= '~' {
			w += widths[r-' ']
		} else {
			w += 110 // as wide as the widest: never too narrow
		}
	}
	return w
}

// drawSVG draws a badge of two boxes.
func drawSVG(label string, f face) []byte {
	const pad = 60
	lw, tw := textWidth(label), textWidth(f.text)
	left, right := (lw+2*pad)/10, (tw+2*pad)/10
	all := left + right
	name := html.EscapeString(label + ": " + f.full)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="%s"><title>%s</title>`, all, name, name)
	fmt.Fprintf(&b, `<clipPath id="r"><rect width="%d" height="20" rx="4"/></clipPath><g clip-path="url(#r)">`, all)
	fmt.Fprintf(&b, `<rect width="%d" height="20" fill="#33383f"/><rect x="%d" width="%d" height="20" fill="%s"/></g>`, left, left, right, f.colour)
	b.WriteString(`<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="110">`)
	fmt.Fprintf(&b, `<text transform="scale(.1)" x="%d" y="140" textLength="%d">%s</text>`, pad, lw, html.EscapeString(label))
	fmt.Fprintf(&b, `<text transform="scale(.1)" x="%d" y="140" textLength="%d">%s</text></g></svg>`, left*10+pad, tw, html.EscapeString(f.text))
	b.WriteByte('\n')
	return []byte(b.String())
}

// drawnBadge is a badge ready to be sent.
type drawnBadge struct {
	body  []byte
	etag  string
	known bool // the recipe is enrolled or ever ran, and a pull request or branch can be called so
}

// badgeKey names a badge.
type badgeKey struct {
	recipe string
	about  ccci.Subject
}

func (d *Dashboard) drawBadge(ctx context.Context, key badgeKey) (drawnBadge, error) {
	runs, err := d.cfg.Store.LatestOf(ctx, key.recipe, key.about)
	if err != nil {
		return drawnBadge{}, fmt.Errorf("reading the latest runs of %s: %w", key.recipe, err)
	}
	if len(runs) == 0 && !slices.Contains(d.cfg.Recipes(), key.recipe) {
		return unknownBadge("recipe"), nil
	}
	return newBadge(stand(key.recipe, key.about, runs, d.now(), d.cfg.StaleAfter).face(), true), nil
}

func newBadge(f face, known bool) drawnBadge {
	body := drawSVG("cc-ci", f)
	sum := sha256.Sum256(body)
	return drawnBadge{body: body, etag: `"` + hex.EncodeToString(sum[:8]) + `"`, known: known}
}

func unknownBadge(what string) drawnBadge { return newBadge(faceOf("unknown "+what, badgeGrey), false) }

// badge serves /badge/<recipe>.svg (A28), with ?pr=N that of a pull request, with ?branch=NAME
// that of a branch.
func (d *Dashboard) badge(w http.ResponseWriter, r *http.Request) error {
	recipe, ok := strings.CutSuffix(r.PathValue("file"), ".svg")
	if !ok || !validName(recipe) {
		return ccci.ErrNotFound
	}
	about, unknown := subjectOf(r.URL.Query())
	var b drawnBadge
	if unknown != "" {
		b = unknownBadge(unknown)
	} else {
		var err error
		if b, err = d.badges.get(r.Context(), badgeKey{recipe, about}); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", "image/svg+xml; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=30, stale-while-revalidate=60")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("ETag", b.etag)
	if matches(r.Header.Get("If-None-Match"), b.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if !b.known {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = w.Write(b.body)
	return nil
}

// subjectOf reads what a badge is asked about. unknown says what cannot be: "" when all is well.
func subjectOf(query url.Values) (about ccci.Subject, unknown string) {
	pulls, branches := query["pr"], query["branch"]
	switch {
	case len(pulls) == 0 && len(branches) == 0:
		return ccci.SubjectRecipe, ""
	case len(pulls) == 1 && len(branches) == 0:
		n, err := strconv.ParseInt(pulls[0], 10, 32)
		if err != nil || n < 1 || strconv.FormatInt(n, 10) != pulls[0] {
			return "", "pull request"
		}
		return ccci.SubjectPull(int(n)), ""
	case len(branches) == 1 && len(pulls) == 0:
		if name := branches[0]; name != "" && len(name) <= branchLimit && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl) {
			return ccci.SubjectBranch(name), ""
		}
	}
	return "", "branch"
}

// branchLimit is how long a branch's name may be, in bytes: longer ones fit no file system.
const branchLimit = 255

// matches reports whether an If-None-Match header names etag.
func matches(header, etag string) bool {
	if header == "" {
		return false
	}
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == etag || part == "*" {
			return true
		}
	}
	return false
}

// validName reports whether s can be a recipe's name: what Docker and DNS
// allow, and short.
func validName(s string) bool {
	return s != "" && len(s) <= 100 && s[0] != '.' && s[0] != '-' && strings.Trim(s,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// badgeCache keeps drawn badges. Many requests for one that is not there cause
// one drawing.
type badgeCache struct {
	draw func(context.Context, badgeKey) (drawnBadge, error)
	now  func() time.Time

	mu      sync.RWMutex
	entries map[badgeKey]*badgeEntry
}

type badgeEntry struct {
	done    chan struct{} // closed when badge and err are set
	badge   drawnBadge
	err     error
	expires time.Time
}

// badgeLimit bounds the cache: requests choose names, numbers and branches.
const badgeLimit = 4096

func newBadgeCache(draw func(context.Context, badgeKey) (drawnBadge, error), now func() time.Time) *badgeCache {
	return &badgeCache{draw: draw, now: now, entries: map[badgeKey]*badgeEntry{}}
}

func (c *badgeCache) get(ctx context.Context, key badgeKey) (drawnBadge, error) {
	now := c.now()
	c.mu.RLock()
	e := c.entries[key]
	c.mu.RUnlock()
	if e == nil || now.After(e.expires) {
		e = c.fill(ctx, key, now)
	}
	select {
	case <-e.done:
		return e.badge, e.err
	case <-ctx.Done():
		return drawnBadge{}, ctx.Err()
	}
}

// fill draws a badge, unless somebody else began to in the meantime.
func (c *badgeCache) fill(ctx context.Context, key badgeKey, now time.Time) *badgeEntry {
	c.mu.Lock()
	if e := c.entries[key]; e != nil && !now.After(e.expires) {
		c.mu.Unlock()
		return e
	}
	if len(c.entries) >= badgeLimit {
		for other := range c.entries { // any one will do
			delete(c.entries, other)
			break
		}
	}
	e := &badgeEntry{done: make(chan struct{}), expires: now.Add(badgeLife)}
	c.entries[key] = e
	c.mu.Unlock()

	// Others wait for this drawing: it outlives the request that began it.
	e.badge, e.err = c.draw(context.WithoutCancel(ctx), key)
	if e.err != nil {
		c.forgetEntry(key, e)
	}
	close(e.done)
	return e
}

// forget drops a recipe's badges.
func (c *badgeCache) forget(recipe string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.entries, func(key badgeKey, _ *badgeEntry) bool { return key.recipe == recipe })
}

func (c *badgeCache) forgetEntry(key badgeKey, e *badgeEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[key] == e {
		delete(c.entries, key)
	}
}
