package checks

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Hosts are the host names of one run: those of its app and of what that depends on. Steps
// reach them and nothing else. The zero value holds none. Safe for concurrent use.
type Hosts struct {
	mu    sync.RWMutex
	names map[string]bool
}

// Add makes host names part of the run.
func (h *Hosts) Add(names ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names == nil {
		h.names = map[string]bool{}
	}
	for _, name := range names {
		h.names[strings.ToLower(name)] = true
	}
}

// Has reports whether a host name, as it stands in a URL, is one of the run's or below one, as
// www.HOST: admission lets an app route those, and no other run can have one. Another spelling
// of the same name is not.
func (h *Hosts) Has(name string) bool {
	name = strings.ToLower(name)
	h.mu.RLock()
	defer h.mu.RUnlock()
	for own := range h.names {
		if ccci.HostWithin(name, own) {
			return true
		}
	}
	return false
}

// stranger is put before a host name to make one that nobody has.
const stranger = "nobody-"

// Within returns a transport that refuses requests for any host but the run's, and but the
// one that a probe asks for to learn what the proxy answers for an unknown name.
func (h *Hosts) Within(transport http.RoundTripper) http.RoundTripper { return within{h, transport} }

type within struct {
	hosts *Hosts
	next  http.RoundTripper
}

func (w within) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Hostname()
	if !w.hosts.Has(host) && !w.hosts.Has(strings.TrimPrefix(host, stranger)) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("%s is no host of this run", host)
	}
	return w.next.RoundTrip(req)
}

// redirection says where an answer sends its client to: an address of the run or, in words, one
// that nothing follows. HTTP is asked for by HTTPS, where the proxy sends it.
func (r *Runner) redirection(resp *http.Response) (next *url.URL, elsewhere string) {
	if resp.StatusCode < 300 || resp.StatusCode > 399 || resp.Header.Get("Location") == "" {
		return nil, ""
	}
	to, err := resp.Location()
	if err == nil && (to.Scheme == "https" || to.Scheme == "http") && r.reaches(to) {
		if to.Scheme == "http" {
			to.Scheme, to.Host = "https", strings.TrimSuffix(to.Host, ":80")
		}
		to.User = nil
		return to, ""
	}
	address := resp.Header.Get("Location")
	if len(address) > 200 {
		address = address[:200] + "..."
	}
	return nil, fmt.Sprintf("%q", address)
}

func (r *Runner) reaches(u *url.URL) bool {
	if r.Target.Hosts != nil {
		return r.Target.Hosts.Has(u.Hostname())
	}
	var own Hosts
	own.Add(r.Target.Domain)
	for _, name := range r.Target.Domains {
		own.Add(name)
	}
	return own.Has(u.Hostname())
}
