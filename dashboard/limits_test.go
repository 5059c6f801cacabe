package dashboard

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// A client is known by its connection, unless that is a proxy's that is believed; what a
// client itself writes before the proxy's word counts for nothing.
func TestClientOf(t *testing.T) {
	l := Limits{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("::1/128")}}
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
		if got := l.clientOf(r).String(); got != c.want {
			t.Errorf("%s for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.1.7:5"
	r.Header["X-Forwarded-For"] = []string{"1.1.1.1", "198.51.100.1"}
	if got := l.clientOf(r).String(); got != "198.51.100.1/32" {
		t.Errorf("of two headers: %s", got)
	}
}

// A line of any length costs little, and what follows it is where it was.
func TestFollowerBoundsLines(t *testing.T) {
	rec := httptest.NewRecorder()
	s, err := openStream(rec)
	if err != nil {
		t.Fatal(err)
	}
	f := &runFollower{s: s}
	text := "one\n" + strings.Repeat("x", 3<<20) + "\ntwo\nrest"
	for rest := []byte(text); len(rest) > 0; {
		n := min(len(rest), 10_007)
		if err := f.feed(rest[:n]); err != nil {
			t.Fatal(err)
		}
		if rest = rest[n:]; len(f.rest) > longLine {
			t.Fatalf("%d bytes are held", len(f.rest))
		}
	}
	if f.offset != int64(len(text)-len("rest")) {
		t.Errorf("offset %d", f.offset)
	}
	if err := f.finish(); err != nil || f.offset != int64(len(text)) {
		t.Errorf("offset %d, %v", f.offset, err)
	}
	body := rec.Body.String()
	if len(body) > 8<<10 || !strings.Contains(body, `"one"`) || !strings.Contains(body, `"two"`) || !strings.Contains(body, `["rest"]`) || !strings.Contains(body, " …") {
		t.Errorf("%d bytes: %.300s", len(body), body)
	}
}
