package github

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// redirects is a transport that follows a renamed or moved repository, within
// the API's own host alone: the token never goes to another one. A write is
// repeated as the write it was. Nothing about an organisation is followed: there
// a redirect means that we may see public members only, and that a yes would be
// worth nothing.
type redirects struct {
	api  *url.URL
	next http.RoundTripper

	moved sync.Map // "/repos/OWNER/NAME" -> "/repositories/ID"
}

const hops = 3

func (t *redirects) RoundTrip(req *http.Request) (*http.Response, error) {
	asked := req
	prefix := t.repoPrefix(req.URL.Path)
	if known, ok := t.moved.Load(prefix); ok {
		req = aim(req, req.URL.ResolveReference(&url.URL{Path: known.(string) + req.URL.Path[len(prefix):], RawQuery: req.URL.RawQuery}))
	}
	for range hops + 1 {
		if req.Body != nil && req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req.Body = body
		}
		resp, err := t.next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		to, follow, err := t.follows(req, resp)
		if err != nil {
			discard(resp)
			return nil, err
		}
		if !follow {
			if resp.StatusCode == http.StatusNotFound {
				t.moved.Delete(prefix)
			}
			return resp, nil
		}
		discard(resp)
		if id := t.idPrefix(to.Path); resp.StatusCode != http.StatusFound && prefix != "" && id != "" &&
			to.Path[len(id):] == asked.URL.Path[len(prefix):] {
			t.moved.Store(prefix, id) // so that a renamed repository costs one point, not one a poll
		}
		req = aim(req, to)
	}
	return nil, fmt.Errorf("GitHub redirected more than %d times from %s", hops, asked.URL.Path)
}

func (t *redirects) follows(req *http.Request, resp *http.Response) (*url.URL, bool, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	case http.StatusFound:
		if isWrite(req) {
			return nil, false, nil
		}
	default:
		return nil, false, nil
	}
	if t.repoPrefix(req.URL.Path) == "" && t.idPrefix(req.URL.Path) == "" {
		return nil, false, nil
	}
	to, err := req.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, false, fmt.Errorf("GitHub redirected %s to nowhere", req.URL.Path)
	}
	if to.Scheme != t.api.Scheme || to.Host != t.api.Host || to.User != nil || !strings.HasPrefix(to.Path, t.api.Path) {
		return nil, false, fmt.Errorf("GitHub redirected %s to another host, %s, which is not followed", req.URL.Path, to.Host)
	}
	return to, true, nil
}

// repoPrefix is "/repos/OWNER/NAME" of an API path below it, or "".
func (t *redirects) repoPrefix(path string) string {
	rest, ok := strings.CutPrefix(path, t.api.Path+"repos/")
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) < 2 {
		return ""
	}
	return t.api.Path + "repos/" + parts[0] + "/" + parts[1]
}

// idPrefix is "/repositories/ID" of an API path below it, or "".
func (t *redirects) idPrefix(path string) string {
	rest, ok := strings.CutPrefix(path, t.api.Path+"repositories/")
	id, _, _ := strings.Cut(rest, "/")
	if !ok || id == "" || strings.Trim(id, "0123456789") != "" {
		return ""
	}
	return t.api.Path + "repositories/" + id
}

func aim(req *http.Request, to *url.URL) *http.Request {
	out := req.Clone(req.Context())
	out.URL, out.Host = to, ""
	if req.GetBody == nil && req.Body != nil {
		out.Body = io.NopCloser(http.NoBody)
	}
	return out
}
