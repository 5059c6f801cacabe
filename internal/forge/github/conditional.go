package github

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
)

// conditional is a transport that asks "has it changed?" wherever it knows an
// earlier answer. An unchanged one (304) costs no primary points and is
// given back from memory as a 200, with the new answer's Date. Answers are known
// by address and token: an ETag of one token means nothing to another.
type conditional struct {
	next  http.RoundTripper
	bound int // bytes of all bodies

	mu      sync.Mutex
	size    int
	byKey   map[string]*list.Element // of *answer
	recency *list.List               // the front was used last
}

type answer struct {
	key    string
	etag   string
	header http.Header
	body   []byte
}

func newConditional(next http.RoundTripper, bound int) *conditional {
	return &conditional{next: next, bound: bound, byKey: map[string]*list.Element{}, recency: list.New()}
}

func (c *conditional) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.Header.Get("Cache-Control") == "no-store" {
		return c.next.RoundTrip(req)
	}
	token := sha256.Sum256([]byte(req.Header.Get("Authorization")))
	key := string(token[:]) + req.Header.Get("Accept") + " " + req.URL.String()
	known := c.get(key)
	if known != nil {
		req = req.Clone(req.Context())
		req.Header.Set("If-None-Match", known.etag)
	}
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusNotModified && known != nil:
		discard(resp)
		header := maps.Clone(known.header)
		maps.Copy(header, resp.Header)
		header.Set("X-From-Cache", "1")
		return &http.Response{
			Status: "200 OK", StatusCode: http.StatusOK, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
			Header: header, Body: io.NopCloser(bytes.NewReader(known.body)), ContentLength: int64(len(known.body)), Request: resp.Request,
		}, nil
	case resp.StatusCode == http.StatusOK && strings.Contains(resp.Header.Get("Content-Type"), "json"):
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if !json.Valid(body) { // never to be given back again
			c.drop(key)
			return resp, nil
		}
		c.put(&answer{key: key, etag: resp.Header.Get("ETag"), header: resp.Header.Clone(), body: body})
	case resp.StatusCode < 500:
		c.drop(key) // gone or moved; trouble of the server's own says nothing
	}
	return resp, nil
}

func (c *conditional) get(key string) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return nil
	}
	c.recency.MoveToFront(e)
	return e.Value.(*answer)
}

func (c *conditional) put(a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(a.key)
	if a.etag == "" || a.cost() > c.bound {
		return
	}
	c.byKey[a.key] = c.recency.PushFront(a)
	c.size += a.cost()
	for c.size > c.bound {
		c.remove(c.recency.Back().Value.(*answer).key)
	}
}

func (c *conditional) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *conditional) remove(key string) {
	e, ok := c.byKey[key]
	if !ok {
		return
	}
	c.size -= e.Value.(*answer).cost()
	c.recency.Remove(e)
	delete(c.byKey, key)
}

// cost counts an entry's headers and bookkeeping as 2 KiB.
func (a *answer) cost() int { return len(a.body) + len(a.key) + 2<<10 }
