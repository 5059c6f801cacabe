package dashboard

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/quota"
)

// Limits bound what readers may hold at a time. A field that is 0 has its default. "An
// address" is one of IPv4, or a /64 of IPv6.
type Limits struct {
	Requests   int           // in sum; 512
	PerAddress int           // requests of one address; 64
	Streams    int           // live pages and logs that are followed, in sum; 256
	StreamsPer int           // of one address; 32
	Patience   time.Duration // how long a reader may take nothing before it is cut off; 20 s
	// Proxies are the addresses whose X-Forwarded-For is believed. Of any other peer
	// the connection's own address counts.
	Proxies []netip.Prefix
}

func (l Limits) orDefault() Limits {
	set := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	set(&l.Requests, 512)
	set(&l.PerAddress, 64)
	set(&l.Streams, 256)
	set(&l.StreamsPer, 32)
	if l.Patience <= 0 {
		l.Patience = 20 * time.Second
	}
	return l
}

const (
	// pageBytes bounds the pages that wait to be taken by their readers, in sum and for
	// one address.
	pageBytes           = 24 << 20
	pageBytesPerAddress = 6 << 20
	// shortPage is the size up to which a page is bounded by the number of requests alone.
	shortPage = 64 << 10
	// drawers bounds the pages with a log or a result that are put together at a time.
	drawers = 2
	// bodyLimit bounds the body of any request, in bytes.
	bodyLimit = 256 << 10
)

// errBusy says that a page has to be asked for again.
var errBusy = errors.New("too many readers at a time")

// sendBuffer bounds what the kernel holds of one answer, in bytes; it takes twice that.
// By itself it would take megabytes for each reader that does not read.
const sendBuffer = 64 << 10

// ConnContext is for [http.Server]: it bounds what a connection costs.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // else the kernel decides
	}
	return ctx
}

// clientOf returns who asks, as the proxies that are believed say.
func (l Limits) clientOf(r *http.Request) netip.Prefix { return quota.ClientOf(r, l.Proxies) }

// limit lets in as many readers as the limits say, and gives each answer its pace.
func (d *Dashboard) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &paced{ResponseWriter: w, patience: d.limits.Patience, who: d.limits.clientOf(r)}
		defer p.finish()
		if r.URL.Path != "/healthz" {
			if !d.requests.Enter(p.who, 1) {
				tooMany(p, "too many requests at a time")
				return
			}
			defer d.requests.Leave(p.who, 1)
		}
		if r.ContentLength != 0 {
			// The server reads what a handler leaves of a body; that must end too.
			_ = p.control().SetReadDeadline(time.Now().Add(d.limits.Patience))
			r.Body = http.MaxBytesReader(p, r.Body, bodyLimit)
		}
		next.ServeHTTP(p, r)
	})
}

func tooMany(w http.ResponseWriter, why string) {
	quota.Busy(w, why+"; try again in a few seconds", "5")
}

// stream takes a place for an answer that lasts. When there is none it has answered.
func (d *Dashboard) stream(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	who := d.limits.clientOf(r)
	if !d.streams.Enter(who, 1) {
		quota.Busy(w, "too many live pages at a time; the page polls instead", "30")
		return nil, false
	}
	return func() { d.streams.Leave(who, 1) }, true
}

// turn waits for one of the places in which pages with a log or a result are put together.
func (d *Dashboard) turn(r *http.Request) (leave func(), err error) {
	return d.turns.take(r.Context(), d.limits.clientOf(r))
}

// paced is an answer whose reader has to take a piece of it now and then.
type paced struct {
	http.ResponseWriter
	patience time.Duration
	who      netip.Prefix
	renewed  time.Time
}

// piece is what a reader has to take within its patience, in bytes.
const piece = 32 << 10

func (p *paced) control() *http.ResponseController {
	return http.NewResponseController(p.ResponseWriter)
}

// renew gives the reader time for the next piece.
func (p *paced) renew() {
	now := time.Now()
	if now.Sub(p.renewed) < p.patience/4 {
		return
	}
	p.renewed = now
	_ = p.control().SetWriteDeadline(now.Add(p.patience)) // without a connection nobody is slow
}

// finish gives the reader time for what the server still holds.
func (p *paced) finish() {
	p.renew()
}

func (p *paced) Write(b []byte) (written int, err error) {
	for first := true; first || len(b) > 0; first = false {
		p.renew()
		n, err := p.ResponseWriter.Write(b[:min(len(b), piece)])
		written += n
		if err != nil {
			return written, err
		}
		b = b[n:]
	}
	return written, nil
}

// FlushError is what [http.ResponseController] calls.
func (p *paced) FlushError() error {
	p.renew()
	return p.control().Flush()
}

// Unwrap is what [http.ResponseController] calls.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }
