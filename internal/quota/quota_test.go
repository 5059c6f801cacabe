package quota

import (
	"net/netip"
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
