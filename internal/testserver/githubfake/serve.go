package githubfake

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ServeHTTP implements [http.Handler]: the API below its prefix, git elsewhere.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, apiPrefix)
	if !ok {
		s.serveGit(w, r)
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	inner := r.Clone(r.Context())
	inner.URL.Path, inner.URL.RawPath = path, ""

	s.mu.Lock()
	fault := s.fault(inner)
	s.mu.Unlock()
	if fault != nil && !fault.After {
		s.misbehave(w, fault)
		return
	}
	held := s.api(inner, text)
	if fault != nil {
		s.misbehave(w, fault)
		return
	}
	maps.Copy(w.Header(), held.header)
	w.WriteHeader(held.status)
	w.Write(held.text())
}

// misbehave answers with a fault.
func (s *Server) misbehave(w http.ResponseWriter, f *Fault) {
	if f.Hangup {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			conn.Close()
		}
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Date", s.Now().Format(http.TimeFormat))
	for name, value := range f.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(f.Status)
	io.WriteString(w, f.Body)
}

// api answers one request: who asks, how much is left, what is there, whether it changed.
func (s *Server) api(r *http.Request, body []byte) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Requests++
	if r.Method != http.MethodGet {
		s.stats.Writes++
	}
	op := -1
	who, out := s.identify(r)
	switch {
	case out.status != 0:
	case who.used >= s.limit && s.now.Before(who.window):
		out = refusal(http.StatusForbidden, "API rate limit exceeded for user ID %d.", who.user.id)
	default:
		var path string
		if path, out = s.named(r); out.status == 0 {
			inner := r.Clone(r.Context())
			inner.URL.Path = path
			inner.Body = io.NopCloser(bytes.NewReader(body))
			if op = s.spec.find(r.Method, path); op < 0 {
				s.problem("%s %s is no operation of the extract", r.Method, path)
				out = notFound
				break
			}
			if problem := s.spec.checkRequest(op, inner, body); problem != "" {
				s.problem("%s", problem)
			}
			out = s.handle(op, inner, who, body)
		}
	}
	if out.header == nil {
		out.header = http.Header{}
	}
	text := out.text()
	if op >= 0 {
		if problem := s.spec.checkAnswer(op, out.status, text); problem != "" {
			s.problem("%s", problem)
		}
	}
	h := out.header.Clone()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Date", s.now.Format(http.TimeFormat))
	if r.Method == http.MethodGet && out.status == http.StatusOK {
		// An ETag belongs to the token that asked.
		etag := fmt.Sprintf(`W/"%x"`, sha256.Sum256(append([]byte(r.Header.Get("Authorization")), text...)))
		h.Set("ETag", etag)
		h.Set("Vary", "Accept, Authorization")
		if r.Header.Get("If-None-Match") == etag {
			out = reply{status: http.StatusNotModified}
		}
	}
	if who != nil && who.scopes != nil {
		h.Set("X-OAuth-Scopes", strings.Join(who.scopes, ", "))
	}
	if who != nil && !who.expires.IsZero() && who.app == nil {
		h.Set("GitHub-Authentication-Token-Expiration", who.expires.Format("2006-01-02 15:04:05 MST"))
	}
	s.charge(who, out.status, h)
	return reply{status: out.status, header: h, body: out.body}
}

// charge counts a request against the primary limit, unless nothing had changed.
func (s *Server) charge(who *identity, status int, h http.Header) {
	if status == http.StatusNotModified {
		s.stats.NotModified++
	} else {
		s.stats.Points++
	}
	if who == nil {
		return
	}
	if !s.now.Before(who.window) {
		who.used, who.window = 0, s.now.Add(time.Hour)
	}
	if status != http.StatusNotModified && who.used < s.limit {
		who.used++
	}
	h.Set("X-RateLimit-Limit", strconv.Itoa(s.limit))
	h.Set("X-RateLimit-Used", strconv.Itoa(who.used))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(s.limit-who.used))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(who.window.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
}

// named turns a path by a repository's number or former name into one by its name.
func (s *Server) named(r *http.Request) (string, reply) {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/repositories/"); ok {
		number, rest, _ := strings.Cut(rest, "/")
		id, _ := strconv.ParseInt(number, 10, 64)
		if s.repos[id] == nil {
			return "", notFound
		}
		return strings.TrimSuffix("/repos/"+s.repos[id].full()+"/"+rest, "/"), reply{}
	}
	parts := strings.SplitN(path, "/", 5)
	if len(parts) < 4 || parts[1] != "repos" {
		return path, reply{}
	}
	repo := s.repos[s.names[strings.ToLower(parts[2]+"/"+parts[3])]]
	if repo == nil || strings.EqualFold(repo.full(), parts[2]+"/"+parts[3]) {
		return path, reply{}
	}
	to := fmt.Sprintf("%s%s/repositories/%d", s.URL, apiPrefix, repo.id)
	if len(parts) == 5 {
		to += "/" + parts[4]
	}
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	status, message := http.StatusMovedPermanently, "Moved Permanently"
	if r.Method != http.MethodGet {
		status, message = http.StatusTemporaryRedirect, "Temporary Redirect"
	}
	out := answer(status, map[string]any{"message": message, "url": to, "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects"})
	out.header.Set("Location", to)
	return "", out
}

// identify finds out whose token it is.
func (s *Server) identify(r *http.Request) (*identity, reply) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == "" {
		return nil, refusal(http.StatusUnauthorized, "Requires authentication")
	}
	if strings.Count(token, ".") == 2 {
		if a := s.speaksAs(token); a != nil {
			return &identity{user: a.bot, app: a}, reply{}
		}
		return nil, refusal(http.StatusUnauthorized, "A JSON web token could not be decoded")
	}
	who := s.tokens[token]
	if who == nil || !who.expires.IsZero() && !s.now.Before(who.expires) {
		return nil, refusal(http.StatusUnauthorized, "Bad credentials")
	}
	return who, reply{}
}

// speaksAs verifies an App's own token.
func (s *Server) speaksAs(token string) *app {
	signed := token[:strings.LastIndex(token, ".")]
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var c struct {
		IAT, EXP int64
		ISS      string
	}
	if err != nil || json.Unmarshal(claims, &c) != nil {
		return nil
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[len(signed)+1:])
	if err != nil || c.IAT > s.now.Unix() || c.EXP <= s.now.Unix() || c.EXP-c.IAT > 600 {
		return nil
	}
	sum := sha256.Sum256([]byte(signed))
	for _, a := range s.apps {
		if strconv.FormatInt(a.id, 10) == c.ISS && rsa.VerifyPKCS1v15(a.key, crypto.SHA256, sum[:], signature) == nil {
			return a
		}
	}
	return nil
}
