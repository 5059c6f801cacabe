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
	"strings"
	"sync"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge/hook"
)

const key = "swordfish"

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
		"method":           {method: "GET", path: "/hook/gitea", signature: "x", code: 405, outcome: "gitea malformed"},
		"unknown forge":    {path: "/hook/elsewhere", signature: "x", code: 404, outcome: "unknown"},
		"no forge":         {path: "/hook/", signature: "x", code: 404, outcome: "unknown"},
		"no key":           {path: "/hook/keyless", signature: "x", code: 503, outcome: "keyless no-key"},
		"unsigned":         {path: "/hook/gitea", code: 401, outcome: "gitea unsigned"},
		"stated too large": {path: "/hook/gitea", signature: "x", length: 1<<20 + 1, code: 413, outcome: "gitea too-large"},
		"not JSON":         {path: "/hook/gitea", signature: "x", kind: "text/plain", code: 415, outcome: "gitea malformed"},
		"form":             {path: "/hook/gitea", signature: "x", kind: "application/x-www-form-urlencoded", code: 415, outcome: "gitea malformed"},
		"compressed":       {path: "/hook/gitea", signature: "x", encoding: "gzip", code: 415, outcome: "gitea malformed"},
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
		{body, "00", "d3", 401, hook.Forged, 4},
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
	for _, signature := range []string{"", "X-Signature: 00\r\n"} {
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
