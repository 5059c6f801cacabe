package hook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
)

const key = "swordfish"

// forged is a signature of the right form.
var forged = strings.Repeat("0", 64)

func sign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// verify is a verifier as an adapter has one.
func verify(h http.Header, body []byte) (ccci.RepoRef, string, bool, error) {
	if !hmac.Equal([]byte(h.Get("X-Signature")), []byte(sign(body))) {
		return ccci.RepoRef{}, "", false, errors.New("the signature does not fit")
	}
	var e struct{ Repo, Event string }
	if err := json.Unmarshal(body, &e); err != nil {
		return ccci.RepoRef{}, "", false, err
	}
	repo, err := ccci.ParseRepoRef(e.Repo)
	return repo, h.Get("X-Delivery"), e.Event == "comment", err
}

// notes keeps what a handler did.
type notes struct {
	mu        sync.Mutex
	published []string
	outcomes  []string
	fail      error
}

func (n *notes) publish(_ context.Context, forge string, repo ccci.RepoRef) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	n.published = append(n.published, ccci.ForgeHint(forge, repo))
	return nil
}

func (n *notes) observe(forge, outcome string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outcomes = append(n.outcomes, strings.TrimSpace(forge+" "+outcome))
}

func (n *notes) count(outcome string) (all int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.outcomes {
		if o == outcome {
			all++
		}
	}
	return all
}

func newHandler(t *testing.T) (*hook.Handler, *notes) {
	t.Helper()
	n := &notes{}
	h, err := hook.New(hook.Options{Publish: n.publish, Observe: n.observe, Sources: []hook.Source{
		{Name: "gitea", Signatures: []string{"X-Signature"}, Verify: verify}, {Name: "keyless", Signatures: []string{"X-Signature"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return h, n
}

// untouchable is a body that must not be read.
type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) { u.t.Error("the body was read"); return 0, io.EOF }

func TestA5_RefusedUnread(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path, signature, kind, encoding string
		length                                  int64
		code                                    int
		outcome                                 string
	}{
		"method":           {method: "GET", path: "/hook/gitea", signature: forged, code: 405, outcome: "gitea malformed"},
		"unknown forge":    {path: "/hook/elsewhere", signature: forged, code: 404, outcome: "unknown"},
		"no forge":         {path: "/hook/", signature: forged, code: 404, outcome: "unknown"},
		"no key":           {path: "/hook/keyless", signature: forged, code: 503, outcome: "keyless no-key"},
		"unsigned":         {path: "/hook/gitea", code: 401, outcome: "gitea unsigned"},
		"short signature":  {path: "/hook/gitea", signature: "00", code: 401, outcome: "gitea unsigned"},
		"no hexadecimal":   {path: "/hook/gitea", signature: strings.Repeat("x", 64), code: 401, outcome: "gitea unsigned"},
		"stated too large": {path: "/hook/gitea", signature: forged, length: 1<<20 + 1, code: 413, outcome: "gitea too-large"},
		"not JSON":         {path: "/hook/gitea", signature: forged, kind: "text/plain", code: 415, outcome: "gitea malformed"},
		"form":             {path: "/hook/gitea", signature: forged, kind: "application/x-www-form-urlencoded", code: 415, outcome: "gitea malformed"},
		"compressed":       {path: "/hook/gitea", signature: forged, encoding: "gzip", code: 415, outcome: "gitea malformed"},
	} {
		h, n := newHandler(t)
		method := tc.method
		if method == "" {
			method = "POST"
		}
		r := httptest.NewRequest(method, tc.path, untouchable{t})
		r.ContentLength = tc.length
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		if tc.kind != "" {
			r.Header.Set("Content-Type", tc.kind)
		}
		r.Header.Set("Content-Encoding", tc.encoding)
		r.Header.Set("X-Signature", tc.signature)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tc.code || len(n.published) != 0 || fmt.Sprint(n.outcomes) != "["+tc.outcome+"]" {
			t.Errorf("%s: %d, %v, published %v", name, w.Code, n.outcomes, n.published)
		}
	}
}

func post(h http.Handler, body, signature, delivery string) int {
	r := httptest.NewRequest("POST", "/hook/gitea", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Signature", signature)
	r.Header.Set("X-Delivery", delivery)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestA5_SignedDeliveries(t *testing.T) {
	h, n := newHandler(t)
	body := `{"repo":"coop/wiki","event":"comment"}`
	steps := []struct {
		body, signature, delivery string
		code                      int
		outcome                   string
		published                 int
	}{
		{body, sign([]byte(body)), "d1", 202, hook.Accepted, 1},
		{body, sign([]byte(body)), "d1", 202, hook.Seen, 1},
		{body, sign([]byte(body)), "d2", 202, hook.Accepted, 2},
		{body, sign([]byte(body)), "", 202, hook.Accepted, 3}, // no id: nothing to remember
		{body, sign([]byte(body)), "", 202, hook.Accepted, 4},
		{body, forged, "d3", 401, hook.Forged, 4},
		{body, "sha256=" + forged, "d3", 401, hook.Forged, 4},
		{body, "00", "d3", 401, hook.Unsigned, 4},
		{body + " ", sign([]byte(body)), "d3", 401, hook.Forged, 4},
		{`{"repo":"coop/wiki","event":"push"}`, sign([]byte(`{"repo":"coop/wiki","event":"push"}`)), "d4", 204, hook.Irrelevant, 4},
		{`{}`, sign([]byte(`{}`)), "d5", 401, hook.Forged, 4},
		{`[`, sign([]byte(`[`)), "d6", 401, hook.Forged, 4},
	}
	for i, s := range steps {
		code := post(h, s.body, s.signature, s.delivery)
		if last := n.outcomes[len(n.outcomes)-1]; code != s.code || last != "gitea "+s.outcome || len(n.published) != s.published {
			t.Errorf("step %d: %d, %s, %d published", i, code, last, len(n.published))
		}
	}
	if n.published[0] != "coop/wiki gitea" {
		t.Errorf("published %q", n.published[0])
	}
	// What could not be handed on is not remembered as seen.
	n.fail = errors.New("no bus")
	if code := post(h, body, sign([]byte(body)), "d9"); code != 503 {
		t.Errorf("without a bus: %d", code)
	}
	n.fail = nil
	if code := post(h, body, sign([]byte(body)), "d9"); code != 202 || len(n.published) != 5 {
		t.Errorf("sent again: %d, %d published", code, len(n.published))
	}
}

func TestA5_BodyLargerThanItSays(t *testing.T) {
	h, n := newHandler(t)
	server := httptest.NewServer(h)
	defer server.Close()
	body := bytes.Repeat([]byte("x"), 3<<20)
	r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/hook/gitea", io.MultiReader(bytes.NewReader(body))) // no length: chunked
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Signature", sign(body))
	res, err := http.DefaultClient.Do(r)
	if err == nil { // the answer may be lost when the connection ends under the rest of the body
		res.Body.Close()
		if res.StatusCode != 413 {
			t.Errorf("%s", res.Status)
		}
	}
	if len(n.published) != 0 || fmt.Sprint(n.outcomes) != "[gitea too-large]" {
		t.Errorf("outcomes %v, published %v", n.outcomes, n.published)
	}
	// One of exactly the limit is read.
	head := `{"repo":"coop/wiki","event":"comment","pad":"`
	whole := []byte(head + strings.Repeat("x", 1<<20-len(head)-2) + `"}`)
	if code := post(h, string(whole), sign(whole), "d"); code != 202 {
		t.Errorf("a body of 1 MiB: %d", code)
	}
}

// Bodies that never come hold neither a turn nor a connection for long.
func TestA5_SlowBodies(t *testing.T) {
	n := &notes{}
	h, err := hook.New(hook.Options{Publish: n.publish, Observe: n.observe, Parallel: 1, Patience: 300 * time.Millisecond,
		Sources: []hook.Source{{Name: "gitea", Signatures: []string{"X-Signature"}, Verify: verify}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	for _, signature := range []string{"", "X-Signature: " + forged + "\r\n"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /hook/gitea HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: 10\r\n\r\n{", signature)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn) // until the server ends the connection
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%q: %q, %v", signature, answer, err)
		}
	}
	// The one turn is free again.
	body := `{"repo":"coop/wiki","event":"comment"}`
	if code := post(h, body, sign([]byte(body)), "d"); code != 202 {
		t.Errorf("afterwards: %d", code)
	}
}

// slow opens deliveries that never end, in the name of a client, and waits until they are taken.
func slow(t *testing.T, address, client, body string, n int) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		// The answer to Expect says that the body is being read.
		fmt.Fprintf(conn, "POST /hook/gitea HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %s\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nX-Signature: %s\r\nContent-Length: 1000000\r\n\r\n", client, forged)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, len("HTTP/1.1 100"))
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != "HTTP/1.1 100" {
			t.Fatalf("%q, %v", line, err)
		}
		if _, err := io.WriteString(conn, body); err != nil {
			t.Fatal(err)
		}
	}
}

// Slow deliveries without a key take no place of genuine ones: neither of short ones, which need no
// buffer, nor of long ones, of whose buffers one client has half. One client has a part of all places.
func TestA5_SlowBodiesKeepNobodyWaiting(t *testing.T) {
	n := &notes{}
	h, err := hook.New(hook.Options{Publish: n.publish, Observe: n.observe, Patience: time.Minute, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Sources: []hook.Source{{Name: "gitea", Signatures: []string{"X-Signature"}, Verify: verify}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	deliver := func(client string, pad int) int {
		t.Helper()
		body := fmt.Sprintf(`{"repo":"coop/wiki","event":"comment","pad":%q}`, strings.Repeat("x", pad))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/hook/gitea", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", client)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Signature", sign([]byte(body)))
		res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	slow(t, address, "192.0.2.1", "{", 20)
	slow(t, address, "192.0.2.1", strings.Repeat("x", 40<<10), 12) // half of the 8 buffers, and no more
	for deadline := time.Now().Add(10 * time.Second); n.count("gitea busy") < 8; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d long bodies of one client are refused", n.count("gitea busy"))
		}
	}
	slow(t, address, "192.0.2.1", "{", 8)
	slow(t, address, "192.0.2.2", "{", 24)
	for _, pad := range []int{10, 31 << 10, 32 << 10, 33 << 10, 500 << 10} {
		if code := deliver("198.51.100.1", pad); code != http.StatusAccepted {
			t.Errorf("a genuine delivery of %d bytes: %d", pad, code)
		}
	}
	if code := deliver("192.0.2.1", 10); code != http.StatusServiceUnavailable {
		t.Errorf("a delivery beyond one client's places: %d", code)
	}
	if code := deliver("192.0.2.2", 10); code != http.StatusAccepted {
		t.Errorf("a delivery within them: %d", code)
	}
}

func TestNew_refuses(t *testing.T) {
	n := &notes{}
	for name, o := range map[string]hook.Options{
		"nobody":        {},
		"twice":         {Publish: n.publish, Sources: []hook.Source{{Name: "a"}, {Name: "a"}}},
		"no name":       {Publish: n.publish, Sources: []hook.Source{{}}},
		"nothing signs": {Publish: n.publish, Sources: []hook.Source{{Name: "a", Verify: verify}}},
		"negative":      {Publish: n.publish, Limit: -1},
	} {
		if _, err := hook.New(o); ccci.CodeOf(err) != ccci.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
