// Package quota bounds what the clients of a server hold at a time.
package quota

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Quota gives out so much in sum and so much to one client. Safe for concurrent use.
type Quota struct {
	all, each int64

	mu   sync.Mutex
	in   int64
	held map[netip.Prefix]int64
}

// New makes a quota of which nothing is held.
func New(all, each int) *Quota {
	return &Quota{all: int64(all), each: int64(each), held: map[netip.Prefix]int64{}}
}

// Enter takes n, or nothing. Who entered leaves with the same n.
func (q *Quota) Enter(who netip.Prefix, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.in+n > q.all || q.held[who]+n > q.each {
		return false
	}
	q.in += n
	q.held[who] += n
	return true
}

// Leave gives back what Enter took.
func (q *Quota) Leave(who netip.Prefix, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.in -= n
	if q.held[who] -= n; q.held[who] <= 0 {
		delete(q.held, who)
	}
}

// Client is what one client has: an address of IPv4, a /64 of IPv6.
func Client(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // of the zero address: the zero prefix, which is a client too
	return p
}

// Peer is the address in [http.Request].RemoteAddr or of [net.Conn].RemoteAddr; the zero address
// where there is none, as of a Unix socket.
func Peer(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// ClientOf returns which client asks: the connection's peer or, behind one of proxies, the last
// address before it in X-Forwarded-For that is none of them.
func ClientOf(r *http.Request, proxies []netip.Prefix) netip.Prefix {
	believed := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	peer := Peer(r.RemoteAddr)
	if !believed(peer) {
		return Client(peer)
	}
	named := r.Header["X-Forwarded-For"]
	for i := len(named) - 1; i >= 0; i-- {
		for rest := named[i]; rest != ""; {
			at := strings.LastIndexByte(rest, ',')
			addr, err := netip.ParseAddr(strings.TrimSpace(rest[at+1:]))
			if err != nil {
				return Client(peer)
			}
			if addr = addr.Unmap().WithZone(""); !believed(addr) {
				return Client(addr)
			}
			peer, rest = addr, rest[:max(at, 0)]
		}
	}
	return Client(peer)
}

// Busy answers a request for which there is no place. seconds is when to ask again.
func Busy(w http.ResponseWriter, why, seconds string) {
	w.Header().Set("Retry-After", seconds)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, why, http.StatusServiceUnavailable)
}

// Listen closes at once each connection beyond the quota, from when on it is accepted.
func (q *Quota) Listen(l *net.TCPListener) net.Listener { return &listener{l, q} }

type listener struct {
	*net.TCPListener
	quota *Quota
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		who := Client(Peer(c.RemoteAddr().String()))
		if l.quota.Enter(who, 1) {
			return &conn{TCPConn: c, leave: sync.OnceFunc(func() { l.quota.Leave(who, 1) })}, nil
		}
		_ = c.SetLinger(0) // the kernel keeps nothing of it either
		c.Close()
	}
}

type conn struct {
	*net.TCPConn
	leave func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}
