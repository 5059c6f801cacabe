package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/compose/types"
)

// names is a resolver with fixed answers.
type names map[string][]string

func (n names) LookupHost(_ context.Context, host string) ([]string, error) {
	if addrs, ok := n[host]; ok {
		return addrs, nil
	}
	return nil, &net.DNSError{Name: host, IsNotFound: true}
}

// front serves routers over TLS; its client reaches it under every name.
func front(t *testing.T, res resolver, routers ...Router) *http.Client {
	t.Helper()
	p := newProxies(res, slog.New(slog.DiscardHandler))
	t.Cleanup(p.forget)
	table, err := newTable(routers, p.handler)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(table)
	t.Cleanup(srv.Close)
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
			},
			DisableKeepAlives: true,
		},
	}
}

// backend starts an app and returns a router to it for host a.test.
func backend(t *testing.T, h http.HandlerFunc) Router {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return Router{Name: "r", Rule: "Host(`a.test`)", Domain: "a.test", Priority: 10, TLS: true,
		Backend: Backend{Host: "app", Port: srv.Listener.Addr().(*net.TCPAddr).Port, Scheme: "http", PassHost: true}}
}

var local = names{"tasks.app": {"127.0.0.1"}}

func ask(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "6.6.6.6")
	req.Header.Set("X-Forwarded-Prefix", "/forged")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestProxyTellsTheBackendWhoAsked(t *testing.T) {
	c := front(t, local, backend(t, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		fmt.Fprintln(w, r.Host, h.Get("X-Forwarded-Proto"), h.Get("X-Forwarded-Host"), h.Get("X-Forwarded-Port"), h.Get("X-Forwarded-For"), h.Get("X-Forwarded-Prefix"), r.URL)
	}))
	if _, body := ask(t, c, "https://a.test/x%2Fy?b=1;c=2"); body != "a.test https a.test 443 127.0.0.1  /x%2Fy?b=1;c=2\n" {
		t.Errorf("backend saw %q", body)
	}
	if _, body := ask(t, c, "https://a.test:4433/"); !strings.HasPrefix(body, "a.test:4433 https a.test:4433 4433 ") {
		t.Errorf("backend saw %q", body)
	}
}

func TestProxyFallbackIsTraefiks(t *testing.T) {
	c := front(t, local, backend(t, func(http.ResponseWriter, *http.Request) {}))
	resp, body := ask(t, c, "https://b.test/")
	if resp.StatusCode != 404 || body != "404 page not found\n" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("unknown host got %d %q", resp.StatusCode, body)
	}
}

func TestProxyOfDeadBackends(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).Port
	l.Close()
	r := Router{Rule: "Host(`a.test`)", Domain: "a.test", TLS: true, Backend: Backend{Host: "app", Port: closed, Scheme: "http"}}
	if resp, _ := ask(t, front(t, local, r), "https://a.test/"); resp.StatusCode != 502 {
		t.Errorf("a closed port gives %d, want 502", resp.StatusCode)
	}
	if resp, body := ask(t, front(t, names{}, r), "https://a.test/"); resp.StatusCode != 503 || body != "no available server\n" {
		t.Errorf("a service without tasks gives %d %q, want 503", resp.StatusCode, body)
	}
	if code := failure(fmt.Errorf("dial: %w", context.DeadlineExceeded)); code != 504 {
		t.Errorf("a timeout gives %d, want 504", code)
	}
}

func TestProxyTriesEveryTask(t *testing.T) {
	r := backend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	// Nothing listens on 127.0.0.2; the second task serves.
	if _, body := ask(t, front(t, names{"tasks.app": {"127.0.0.2", "127.0.0.1"}}, r), "https://a.test/"); body != "served" {
		t.Errorf("got %q", body)
	}
	if _, body := ask(t, front(t, names{"app": {"127.0.0.1"}}, r), "https://a.test/"); body != "served" {
		t.Errorf("a plain name without tasks: got %q", body)
	}
}

func TestProxyPriority(t *testing.T) {
	page := func(text string) Router {
		return backend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
	}
	long, short, first := page("long"), page("short"), page("first")
	long.Rule, long.Priority = "Host(`a.test`) && PathPrefix(`/x`)", 33
	short.Priority = 14
	first.Rule, first.Priority = "PathPrefix(`/x/y`)", 1000
	c := front(t, local, short, long, first)
	for path, want := range map[string]string{"/": "short", "/x": "long", "/x/y": "first"} {
		if _, body := ask(t, c, "https://a.test"+path); body != want {
			t.Errorf("%s went to %q, want %q", path, body, want)
		}
	}
}

func TestProxyServesNoRouterWithoutTLS(t *testing.T) {
	r := backend(t, func(http.ResponseWriter, *http.Request) {})
	plain, web := r, r
	plain.TLS, web.EntryPoints = false, []string{"web"}
	if resp, _ := ask(t, front(t, local, plain, web), "https://a.test/"); resp.StatusCode != 404 {
		t.Errorf("got %d, want 404 as from Traefik", resp.StatusCode)
	}
}

// Events must pass when they are written, not when a buffer is full.
func TestProxyStreams(t *testing.T) {
	goOn := make(chan struct{})
	c := front(t, local, backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "8") // Go's proxy passes bodies of unknown length at once anyway
		fmt.Fprintln(w, "one")
		w.(http.Flusher).Flush()
		select {
		case <-goOn:
		case <-r.Context().Done():
		}
		fmt.Fprintln(w, "two")
	}), Router{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://a.test/", nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); line != "one\n" {
		t.Fatalf("first line = %q, %v", line, err)
	}
	close(goOn)
	if line, err := lines.ReadString('\n'); line != "two\n" {
		t.Fatalf("second line = %q, %v", line, err)
	}
}

// A connection that was upgraded, as for WebSockets, is passed both ways, also
// through a middleware that sets headers.
func TestProxyUpgrades(t *testing.T) {
	r := backend(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		line, _ := buf.ReadString('\n')
		fmt.Fprintf(conn, "echo %s", line)
	})
	r.Middlewares = []Middleware{fileMiddlewares["security@file"]}
	p := newProxies(local, slog.New(slog.DiscardHandler))
	table, err := newTable([]Router{r}, p.handler)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(table)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("upgrade answered %+v, %v", resp, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := in.ReadString('\n'); line != "echo hello\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

func TestWebRedirectsToHTTPS(t *testing.T) {
	for in, want := range map[string]string{
		"http://a.test/x?y=1":  "https://a.test/x?y=1", // ports are mapped
		"http://a.test:8080/x": "https://a.test:4433/x",
	} {
		w := httptest.NewRecorder()
		redirectToHTTPS(4433).ServeHTTP(w, httptest.NewRequest("GET", in, nil))
		if w.Code != 301 || w.Header().Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", in, w.Code, w.Header().Get("Location"), want)
		}
	}
}

func TestMiddlewares(t *testing.T) {
	for _, tc := range []struct {
		name    string
		kind    string
		options map[string]string
		url     string
		want    string // "path" seen by the backend, or "code location"
	}{
		{"strip", "stripprefix", map[string]string{"prefixes": "/other, /app"}, "https://a.test/app/x", "/x prefix=/app"},
		{"strip to root", "stripprefix", map[string]string{"prefixes": "/app"}, "https://a.test/app", "/ prefix=/app"},
		{"strip nothing", "stripprefix", map[string]string{"prefixes": "/app"}, "https://a.test/y", "/y prefix="},
		{"strip keeps escapes", "stripprefix", map[string]string{"prefixes": "/app"}, "https://a.test/app/x%2Fy", "/x%2Fy prefix=/app"},
		{"strip by expression", "stripprefixregex", map[string]string{"regex": "/v[0-9]+"}, "https://a.test/v12/x", "/x prefix=/v12"},
		{"add", "addprefix", map[string]string{"prefix": "/app"}, "https://a.test/x", "/app/x prefix="},
		{"replace", "replacepath", map[string]string{"path": "/z"}, "https://a.test/x?q=1", "/z?q=1 prefix="},
		{"replace by expression", "replacepathregex", map[string]string{"regex": "^/x/(.*)", "replacement": "/y/$1"}, "https://a.test/x/1", "/y/1 prefix="},
		{"redirect by expression", "redirectregex", map[string]string{"regex": "^https://www\\.(.*)", "replacement": "https://${1}", "permanent": "true"}, "https://www.a.test/x", "301 https://a.test/x"},
		{"redirect that does not match", "redirectregex", map[string]string{"regex": "^https://www\\.(.*)", "replacement": "https://${1}"}, "https://a.test/x", "/x prefix="},
		{"redirect to the scheme it has", "redirectscheme", map[string]string{"scheme": "https"}, "https://a.test/x", "/x prefix="},
		{"redirect to http", "redirectscheme", map[string]string{"scheme": "http", "port": "81"}, "https://a.test/x", "302 http://a.test:81/x"},
		{"force host", "headers", map[string]string{"sslforcehost": "true", "sslhost": "a.test"}, "https://www.a.test/x", "301 https://a.test/x"},
		{"host is forced already", "headers", map[string]string{"sslforcehost": "true", "sslhost": "a.test"}, "https://a.test/x", "/x prefix="},
		{"guards let nobody pass", "basicauth", map[string]string{"users": "a:b"}, "https://a.test/x", "501 "},
		{"compress is passed over", "compress", nil, "https://a.test/x", "/x prefix="},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := backend(t, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s prefix=%s", r.URL, r.Header.Get("X-Forwarded-Prefix"))
			})
			r.Rule = "PathPrefix(`/`)"
			r.Middlewares = []Middleware{{Name: "m", Kind: tc.kind, Options: tc.options}}
			resp, got := ask(t, front(t, local, r), tc.url)
			if resp.StatusCode != 200 {
				got = strconv.Itoa(resp.StatusCode) + " " + resp.Header.Get("Location")
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestHeadersMiddleware(t *testing.T) {
	r := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Powered-By", "php")
		fmt.Fprint(w, r.Header.Get("X-Script"))
	})
	r.Middlewares = []Middleware{{Name: "m", Kind: "headers", Options: map[string]string{
		"customrequestheaders.x-script": "yes", "customresponseheaders.x-powered-by": "", "customresponseheaders.x-own": "1",
		"stsseconds": "60", "stsincludesubdomains": "true", "framedeny": "true",
	}}}
	resp, body := ask(t, front(t, local, r), "https://a.test/")
	h := resp.Header
	if body != "yes" || h.Get("X-Powered-By") != "" || h.Get("X-Own") != "1" || h.Get("X-Frame-Options") != "DENY" ||
		h.Get("Strict-Transport-Security") != "max-age=60; includeSubDomains" {
		t.Errorf("body %q, headers %v", body, h)
	}
}

// A router answers for the hosts of its run alone, whatever its rule is: this one, which was proven to be
// for its own hosts when it was read in another way, and those that nobody proved.
func TestN3_ARouterIsForItsRunsHosts(t *testing.T) {
	answering := func(name string) Router {
		r := backend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
		r.Name, r.Domain, r.Rule = name, "demo-0a1b2c.ci.test", "Host(`demo-0a1b2c.ci.test`)"
		return r
	}
	victim := answering("victim")
	victim.Domain, victim.Rule = "wiki-ffffff.ci.test", "HostRegexp(`^.+$`)"
	for _, rule := range []string{
		"HostRegexp(`.+`)", "PathPrefix(`/`)", "Host(`wiki-ffffff.ci.test`, `www.wiki-ffffff.ci.test`) || PathPrefix(`/`)", "!Host(`x`)",
	} {
		hostile := answering("hostile")
		hostile.Rule, hostile.Priority = rule, 1000000
		client := front(t, local, victim, hostile)
		for host, want := range map[string]string{
			"demo-0a1b2c.ci.test": "hostile", "WWW.Demo-0a1b2c.ci.test.": "hostile", "sandbox-demo-0a1b2c.ci.test": "hostile",
			"wiki-ffffff.ci.test": "victim", "www.wiki-ffffff.ci.test": "victim",
			"xdemo-0a1b2c.ci.test": "404 page not found\n", "ci.test": "404 page not found\n", "other.test": "404 page not found\n",
			"demo-0a1b2c.ci.test.other.test": "404 page not found\n",
		} {
			if _, body := ask(t, client, "https://"+host+"/"); body != want {
				t.Errorf("%s: %s answers %q", rule, host, body)
			}
		}
	}
	lost := answering("lost") // of a file that an earlier version wrote
	lost.Domain, lost.Rule = "", "PathPrefix(`/`)"
	if _, body := ask(t, front(t, local, lost), "https://ci.test/"); body != "404 page not found\n" {
		t.Errorf("a router without a domain answers %q", body)
	}
}

// The rule that admission and the ingress once read differently is no rule.
func TestN3_RulesAreReadInOneWay(t *testing.T) {
	stack := stackOf(map[string]types.Labels{"app": labels(enable, port, secure, "routers.r.priority=1000000",
		"routers.r.rule=Host(`blog-1a2b3c.ci.test`) && Header(`X`, \"(a\\\") || HostRegexp(`.+`) || Header(`y)`, \") //\")")})
	if routers, warnings := Routers(stack); len(routers) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0], "backslash") {
		t.Errorf("%+v, %q", routers, warnings)
	}
}
