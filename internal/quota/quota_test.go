package quota

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// A quota forgets a client that has left.
func TestQuota(t *testing.T) {
	q := New(5, 3)
	a, b := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	if !q.Enter(a, 3) || q.Enter(a, 1) || !q.Enter(b, 2) || q.Enter(b, 1) {
		t.Error("it lets in more or less than it should")
	}
	q.Leave(a, 3)
	q.Leave(b, 2)
	if len(q.held) != 0 || q.in != 0 {
		t.Errorf("%+v", q)
	}
}

// A client is known by its connection, unless that is a proxy's that is believed; what a
// client itself writes before the proxy's word counts for nothing.
func TestClientOf(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1/32"},
		{"192.0.2.1:5", "198.51.100.1", "192.0.2.1/32"}, // no proxy
		{"10.0.1.7:5", "198.51.100.1", "198.51.100.1/32"},
		{"10.0.1.7:5", "1.1.1.1, 198.51.100.1", "198.51.100.1/32"},
		{"10.0.1.7:5", "1.1.1.1, 198.51.100.1 , 10.0.1.9", "198.51.100.1/32"},
		{"10.0.1.7:5", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"10.0.1.7:5", "::ffff:198.51.100.1", "198.51.100.1/32"},
		{"[::1]:5", "2001:db8::1", "2001:db8::/64"},
		{"[2001:db8::7]:5", "1.1.1.1", "2001:db8::/64"},
		{"10.0.1.7:5", "", "10.0.1.7/32"},
		{"10.0.1.7:5", "nonsense", "10.0.1.7/32"},
		{"10.0.1.7:5", "1.1.1.1,", "10.0.1.7/32"},
		{"10.0.1.7:5", "10.0.1.8", "10.0.1.8/32"},
		{"@", "1.1.1.1", "invalid Prefix"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for value := range strings.SplitSeq(c.forwarded, "|") {
			if value != "" {
				r.Header.Add("X-Forwarded-For", value)
			}
		}
		if got := ClientOf(r, proxies).String(); got != c.want {
			t.Errorf("%s for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.1.7:5"
	r.Header["X-Forwarded-For"] = []string{"1.1.1.1", "198.51.100.1"}
	if got := ClientOf(r, proxies).String(); got != "198.51.100.1/32" {
		t.Errorf("of two headers: %s", got)
	}
}
