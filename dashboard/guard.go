package dashboard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// policy allows what our own origin serves and nothing else: no inline script
// or style, no frames, no plugins.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard sets the headers that every answer bears and turns away requests that
// a hostile page could have made a browser send.
func (d *Dashboard) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	if d.base != nil {
		// The error is impossible: New made sure that the address is an origin.
		_ = crossOrigin.AddTrustedOrigin(d.base.Scheme + "://" + d.base.Host)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), browsing-topics=()")
		h.Set("Cache-Control", "no-cache")
		defer d.rescue(w, r)

		writes := r.Method != http.MethodGet && r.Method != http.MethodHead
		// Reads are public. With the local forge they carry form tokens, and
		// the machine is somebody's own: a name that was made to point here
		// (DNS rebinding) reads nothing.
		if (writes || d.cfg.Forge != nil) && r.URL.Path != "/healthz" && !d.knownHost(r.Host) {
			d.fail(w, r, ccci.Errorf(ccci.CodeRefused, "This server does not answer to the name %q", r.Host).
				WithHint("Open it by its address, or set the dashboard's url in the configuration to the name you use."))
			return
		}
		if writes {
			if err := crossOrigin.Check(r); err != nil {
				d.fail(w, r, ccci.Errorf(ccci.CodeRefused, "This form was sent from another site: %w", err).
					WithHint("Open the page here and send the form from there."))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// rescue answers a request whose handler panicked.
func (d *Dashboard) rescue(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	d.fail(w, r, fmt.Errorf("answering %s: panic: %v", r.URL.Path, v))
}

// knownHost reports whether a Host header names this machine in a way that no
// foreign DNS entry can imitate: an IP address, localhost, or the configured name.
func (d *Dashboard) knownHost(host string) bool {
	if d.base != nil && strings.EqualFold(host, d.base.Host) {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	return net.ParseIP(name) != nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// tokens ties forms to the browser they were shown in. A token is valid as long
// as this process lives and the browser keeps its cookie.
type tokens struct {
	key    []byte
	rand   io.Reader
	secure bool // the cookie travels over TLS only
}

const sessionCookie = "cc-ci-session"

var errToken = errors.New("the form's token is not valid")

func newTokens(rnd io.Reader, secure bool) (*tokens, error) {
	t := &tokens{key: make([]byte, 32), rand: rnd, secure: secure}
	if _, err := io.ReadFull(rnd, t.key); err != nil {
		return nil, fmt.Errorf("reading randomness for form tokens: %w", err)
	}
	return t, nil
}

// issue returns the token for a form in the answer to r, and gives the browser
// a session where it has none.
func (t *tokens) issue(w http.ResponseWriter, r *http.Request) (string, error) {
	if c, err := r.Cookie(sessionCookie); err == nil && len(c.Value) == 32 {
		return t.sign(c.Value), nil
	}
	var b [16]byte
	if _, err := io.ReadFull(t.rand, b[:]); err != nil {
		return "", fmt.Errorf("reading randomness for a session: %w", err)
	}
	session := hex.EncodeToString(b[:])
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: session, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: t.secure || r.TLS != nil,
	})
	return t.sign(session), nil
}

func (t *tokens) check(r *http.Request) error {
	c, err := r.Cookie(sessionCookie)
	if err != nil || !hmac.Equal([]byte(t.sign(c.Value)), []byte(r.PostFormValue("token"))) {
		return errToken
	}
	return nil
}

func (t *tokens) sign(session string) string {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(session))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
