package browser

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// openTestGate serves a gate on a port of this machine.
func openTestGate(t *testing.T, route Route) (*gate, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := openGate(listener, route, nil)
	t.Cleanup(g.close)
	return g, listener.Addr().String()
}

// N3: the browser's proxy answers for the run's hosts alone, whatever is asked of it.
func TestN3_GateRefusesWhatIsNotTheRuns(t *testing.T) {
	f := newField(t)
	_, addr := openTestGate(t, f.route)
	_, port, _ := net.SplitHostPort(f.addr)
	for request, want := range map[string]int{
		"CONNECT " + runHost + ":443 HTTP/1.1\r\nHost: x\r\n\r\n":                                             200,
		"CONNECT " + strings.ToUpper(runHost) + ":443 HTTP/1.1\r\nHost: x\r\n\r\n":                            200,
		"CONNECT " + runHost + ":80 HTTP/1.1\r\nHost: x\r\n\r\n":                                              403,
		"CONNECT " + runHost + ".:443 HTTP/1.1\r\nHost: x\r\n\r\n":                                            403,
		"CONNECT " + otherRun + ":443 HTTP/1.1\r\nHost: " + runHost + ":443\r\n\r\n":                          403,
		"CONNECT " + f.addr + " HTTP/1.1\r\nHost: " + runHost + ":443\r\n\r\n":                                403,
		"CONNECT localhost:" + port + " HTTP/1.1\r\nHost: x\r\n\r\n":                                          403,
		"CONNECT [::1]:" + port + " HTTP/1.1\r\nHost: x\r\n\r\n":                                              403,
		"CONNECT " + runHost + " HTTP/1.1\r\nHost: x\r\n\r\n":                                                 400,
		"GET http://" + f.addr + "/ HTTP/1.1\r\nHost: " + runHost + "\r\n\r\n":                                403,
		"GET http://" + runHost + "@" + f.addr + "/ HTTP/1.1\r\nHost: " + runHost + "\r\n\r\n":                403,
		"POST http://" + f.addr + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx":                       403,
		"GET https://" + runHost + "/ HTTP/1.1\r\nHost: " + runHost + "\r\n\r\n":                              400,
		"GET ftp://" + f.addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n":                                               400,
		"GET / HTTP/1.1\r\nHost: " + f.addr + "\r\n\r\n":                                                      400,
		"GET http://" + runHost + "/a?b=c HTTP/1.1\r\nHost: " + f.addr + "\r\n\r\n":                           308,
		"GET http://" + f.addr + "/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": 403,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                                    400,
		"\x00\x03\x00\x58\x21\x12\xa4\x42aaaaaaaaaaaa\r\n\r\n":/* TURN, which knows no proxy */ 400,
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%q: %v %v, want %d", request, resp, err, want)
		} else if to := resp.Header.Get("Location"); want == 308 && to != "https://"+runHost+"/a?b=c" {
			t.Errorf("%q leads to %q", request, to)
		}
		conn.Close()
	}
	if n := f.hits.Load(); n != 0 {
		t.Errorf("%d connections arrived", n)
	}
}

// The gate hands plain HTTP on where the route says so, as it is for the dashboard of a server on
// this machine.
func TestGateForwardsPlainHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, r.URL, r.Header.Get("X-Forwarded-For"))
	}))
	defer server.Close()
	_, addr := openTestGate(t, Only(server.URL))
	proxy := func(*http.Request) (*url.URL, error) { return &url.URL{Scheme: "http", Host: addr}, nil }
	client := http.Client{Transport: &http.Transport{Proxy: proxy}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(server.URL + "/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := server.Listener.Addr().String() + "/a?b=c"; err != nil || string(body) != want {
		t.Errorf("%q, %v, want %q", body, err, want)
	}
}

// A page that is closed, or whose run ends, keeps no connection.
func TestGateEndsItsConnections(t *testing.T) {
	f := newField(t)
	g, addr := openTestGate(t, f.route)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n\r\n", runHost)
	r := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	g.close()
	g.close() // legal twice
	if n, err := io.Copy(io.Discard, r); n != 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// N3: what pages receive is bounded in sum; a page that wants more is the recipe's failure.
func TestN3_PagesReceiveNoMoreThanTheirShare(t *testing.T) {
	skipWithoutChromium(t)
	f := newField(t)
	f.serve(t, attack{html: told})
	b := startBrowser(t, Options{Route: f.route, AnyCertificate: true})
	b.gate.budget.Store(100)
	r := &checks.Runner{Target: checks.Target{Domain: runHost, Browser: b}, Limit: 10 * time.Second}
	mustFail(t, r.Run(t.Context(), ccci.Step{Browser: []ccci.BrowserStep{{Open: "/"}}}), "open /")
}
