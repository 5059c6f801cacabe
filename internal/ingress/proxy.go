package ingress

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of the entry points, as Co-op Cloud's Traefik has them.
const (
	entryWeb    = "web"
	entrySecure = "web-secure"
)

// dialTimeout bounds one connection to a backend; after it the client gets 504.
const dialTimeout = 10 * time.Second

// table is an immutable set of routes for one entry point, the first match decides.
type table []route

type route struct {
	match   matcher
	handler http.Handler
	router  Router
}

// newTable builds the routes that serve TLS on web-secure. Plain HTTP never
// reaches a router: the entry point web redirects everything.
func newTable(routers []Router, proxy func(Backend) http.Handler) (table, error) {
	var t table
	for _, r := range routers {
		if !r.TLS || (len(r.EntryPoints) > 0 && !slices.Contains(r.EntryPoints, entrySecure)) {
			continue
		}
		match, err := r.matcher()
		if err != nil {
			return nil, fmt.Errorf("router %s: %w", r.Name, err)
		}
		handler := proxy(r.Backend)
		for _, m := range slices.Backward(r.Middlewares) {
			wrap, err := newMiddleware(m)
			if err != nil {
				return nil, fmt.Errorf("router %s: middleware %s: %w", r.Name, m.Name, err)
			}
			handler = wrap(handler)
		}
		t = append(t, route{match: match, handler: handler, router: r})
	}
	slices.SortStableFunc(t, func(a, b route) int {
		return cmp.Or(cmp.Compare(b.router.Priority, a.router.Priority), cmp.Compare(a.router.Name, b.router.Name))
	})
	return t, nil
}

func (t table) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Del("X-Forwarded-Prefix") // only a middleware may say it
	for _, route := range t {
		if route.match(r) {
			route.handler.ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r) // word for word what Traefik answers
}

// redirectToHTTPS is the entry point web. A client that named a port reached us
// by it and needs ours for HTTPS; one that did not has the ports mapped.
func redirectToHTTPS(port int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = net.JoinHostPort(name, strconv.Itoa(port))
		}
		redirect(w, r, "https://"+strings.TrimSuffix(host, ":443")+r.URL.RequestURI(), true)
	})
}

// newTransport makes the way to the backends. Containers come and go under the
// same name, so idle connections are not kept for long.
func newTransport(resolver resolver) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialBackend(ctx, resolver, dialer, network, addr)
		},
		// What is behind is the app's own container; its name is not in any certificate.
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		IdleConnTimeout:     5 * time.Second,
		MaxIdleConnsPerHost: 16,
		DisableCompression:  true,
		Protocols:           new(http.Protocols),

		MaxResponseHeaderBytes: 1 << 20,
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// resolver is the part of net.Resolver that is needed.
type resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// errNoServer says that a service has no running task.
var errNoServer = errors.New("no available server")

// dialBackend connects to one of a swarm service's tasks. The name tasks.<service> holds the
// tasks' own addresses whatever the endpoint mode is, so that it also works where the kernel cannot
// do virtual addresses. Only tasks that are healthy are in there.
func dialBackend(ctx context.Context, res resolver, dialer *net.Dialer, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addrs, err := res.LookupHost(ctx, "tasks."+host)
	if err != nil {
		addrs, err = res.LookupHost(ctx, host)
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return nil, fmt.Errorf("%s: %w", host, errNoServer)
	}
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, ip := range addrs {
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(ip, port))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// proxies makes the handler in front of a backend.
type proxies struct {
	transport, h2c *http.Transport
	logger         *slog.Logger
}

func newProxies(resolver resolver, logger *slog.Logger) *proxies {
	p := &proxies{transport: newTransport(resolver), h2c: newTransport(resolver), logger: logger}
	p.h2c.Protocols = new(http.Protocols)
	p.h2c.Protocols.SetUnencryptedHTTP2(true)
	return p
}

func (p *proxies) forget() {
	p.transport.CloseIdleConnections()
	p.h2c.CloseIdleConnections()
}

func (p *proxies) handler(b Backend) http.Handler {
	target := &url.URL{Scheme: b.Scheme, Host: net.JoinHostPort(b.Host, strconv.Itoa(b.Port))}
	transport := p.transport
	if b.Scheme == "h2c" {
		target.Scheme, transport = "http", p.h2c
	}
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // streams and events pass at once
		ErrorLog:      slog.NewLogLogger(p.logger.Handler(), slog.LevelDebug),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came, also where Go would not parse it
			r.Out.Host = r.In.Host
			if !b.PassHost {
				r.Out.Host = target.Host
			}
			forwarded(r)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			code := failure(err)
			p.logger.WarnContext(r.Context(), "backend does not answer", "backend", b.Host, "port", b.Port, "status", code, "error", err)
			http.Error(w, cmp.Or(map[int]string{http.StatusServiceUnavailable: errNoServer.Error()}[code], http.StatusText(code)), code)
		},
	}
}

// forwarded tells the backend about the client. What the client itself claimed
// in these headers is dropped: no proxy stands before this one.
func forwarded(r *httputil.ProxyRequest) {
	r.SetXForwarded()
	h := r.Out.Header
	port := "443"
	if _, p, err := net.SplitHostPort(r.In.Host); err == nil {
		port = p
	}
	h.Set("X-Forwarded-Port", port)
	h.Set("X-Forwarded-Server", "cc-ci-ingress")
	if ip, _, err := net.SplitHostPort(r.In.RemoteAddr); err == nil {
		h.Set("X-Real-Ip", ip)
	}
	if prefix := r.In.Header.Get("X-Forwarded-Prefix"); prefix != "" {
		h.Set("X-Forwarded-Prefix", prefix)
	}
}

// failure maps an error on the way to a backend to the status a client gets.
func failure(err error) int {
	var timeout net.Error
	switch {
	case errors.Is(err, errNoServer):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		return 499 // the client has gone; Traefik logs it the same way
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.As(err, &timeout) && timeout.Timeout():
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}
