package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Route returns the address ("127.0.0.1:8443") that serves a host name and port, or "" for
// one that the browser may not reach. Both are as they stand in a URL, the host in lower
// case. Safe for concurrent use.
type Route func(host, port string) string

// Only routes to the server of a URL ("http://127.0.0.1:8080/"), by the name or address that
// it has there.
func Only(address string) Route {
	host, port, err := endpoint(address)
	return func(h, p string) string {
		if err == nil && h == host && p == port {
			return net.JoinHostPort(host, port)
		}
		return ""
	}
}

// ports are those of URLs that state none.
var ports = map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}

// endpoint returns the host, in lower case, and the port that a URL asks. URLs that ask no
// server are an error.
func endpoint(address string) (host, port string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", err
	}
	port = or(u.Port(), ports[u.Scheme])
	if ports[u.Scheme] == "" || u.Hostname() == "" {
		return "", "", fmt.Errorf("%q asks no server", address)
	}
	return strings.ToLower(u.Hostname()), port, nil
}

// reaches reports whether a page at an address would be one of the run's. Addresses that name
// no host take their content from a page that is open already.
func (r Route) reaches(address string) bool {
	if strings.HasPrefix(address, "about:") {
		return true
	}
	host, port, err := endpoint(strings.TrimPrefix(address, "blob:"))
	return err == nil && (r(host, port) != "" || r.upgrades(host, port))
}

// upgrades reports whether a host answers plain HTTP by sending the browser to HTTPS, as the
// proxies of Co-op Cloud do.
func (r Route) upgrades(host, port string) bool {
	return port == "80" && r(host, "80") == "" && r(host, "443") != ""
}

const (
	// refusal is what the log says of an address that is refused. Chromium asks for some of
	// its own accord.
	refusal = "the browser may not reach an address"
	// maxReceived bounds what all pages of a browser receive together, in bytes.
	maxReceived = 1 << 30
	dialLimit   = 10 * time.Second
)

// gate is the proxy that is Chromium's only way out of its network namespace. It asks no
// resolver: a name is either one of the run's, whose address it is given, or refused.
type gate struct {
	route  Route
	log    *slog.Logger
	server *http.Server
	plain  *httputil.ReverseProxy
	budget atomic.Int64 // bytes that may still be received

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// openGate serves a browser on the listener until close.
func openGate(listener net.Listener, route Route, log *slog.Logger) *gate {
	g := &gate{route: route, log: log, conns: map[net.Conn]bool{}}
	g.budget.Store(maxReceived)
	g.plain = &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host }, // the rest stays as it is
		Transport:    &http.Transport{DialContext: g.dialPlain, DisableCompression: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 1 << 20},
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	g.server = &http.Server{
		Handler: g, ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 256 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	go g.server.Serve(listener) // until Close
	return g
}

// close ends every connection of the browser. Legal twice.
func (g *gate) close() {
	g.server.Close()
	g.mu.Lock()
	g.closed = true
	open := slices.Collect(maps.Keys(g.conns))
	g.mu.Unlock()
	for _, conn := range open {
		conn.Close()
	}
	g.plain.Transport.(*http.Transport).CloseIdleConnections()
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		g.tunnel(w, r)
		return
	}
	if r.URL.Scheme != "http" || r.URL.Host == "" { // not asked as a proxy
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	host, port := strings.ToLower(r.URL.Hostname()), or(r.URL.Port(), "80")
	switch {
	case g.route(host, port) != "":
		g.plain.ServeHTTP(w, r)
	case g.route.upgrades(host, port):
		to := *r.URL
		to.Scheme, to.Host = "https", host
		http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
	default:
		g.refuse(w, host, port)
	}
}

func (g *gate) refuse(w http.ResponseWriter, host, port string) {
	if g.log != nil {
		g.log.Debug(refusal, "address", printable(net.JoinHostPort(host, port)))
	}
	w.WriteHeader(http.StatusForbidden)
}

// tunnel hands a connection for TLS or a WebSocket on to the server of one of the run's hosts.
func (g *gate) tunnel(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	host = strings.ToLower(host)
	addr := g.route(host, port)
	if addr == "" {
		g.refuse(w, host, port)
		return
	}
	server, err := g.dial(r.Context(), addr)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer g.forget(server)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if !g.keep(client) {
		client.Close()
		return
	}
	defer g.forget(client)
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.Copy(server, buffered)
		halfClose(server)
	}()
	io.Copy(client, server)
	halfClose(client)
	<-sent
}

// halfClose tells the other side that nothing more comes.
func halfClose(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
		return
	}
	conn.Close()
}

func (g *gate) dialPlain(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addr := g.route(strings.ToLower(host), port)
	if addr == "" {
		return nil, errors.New("the browser may not reach " + address)
	}
	return g.dial(ctx, addr)
}

// dial connects to a server of the run, in the network of this process. What comes from it is
// counted.
func (g *gate) dial(ctx context.Context, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialLimit}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	counted := &countedConn{conn.(*net.TCPConn), g}
	if !g.keep(counted) {
		conn.Close()
		return nil, net.ErrClosed
	}
	return counted, nil
}

func (g *gate) keep(conn net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.conns[conn] = true
	}
	return !g.closed
}

func (g *gate) forget(conn net.Conn) {
	conn.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, conn)
}

// countedConn is a connection to a server of the run.
type countedConn struct {
	*net.TCPConn
	gate *gate
}

var errTooMuch = errors.New("the pages of this run received too much")

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if c.gate.budget.Add(-int64(n)) < 0 {
		return 0, errTooMuch
	}
	return n, err
}

// WriteTo keeps io.Copy from going around Read.
func (c *countedConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// Close is the transport's way to say that it is done with a connection.
func (c *countedConn) Close() error {
	err := c.TCPConn.Close()
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	delete(c.gate.conns, c)
	return err
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// printable shortens an address of a page for people, and leaves nothing in it that a terminal
// takes for a command.
func printable(address string) string {
	const most = 200
	if len(address) > most {
		address = address[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, address)
}
