package ccci

import (
	"net"
	"regexp"
	"strings"
)

var hostLabel = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`)

// Loopback reports whether a host name or address is that of this machine's loopback interface, so
// that plain HTTP to it cannot be read on the way.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// HostWithin reports whether a host name is own, or a name below it, as www.OWN. Both are in lower case.
func HostWithin(host, own string) bool {
	front, ok := strings.CutSuffix(host, own)
	if !ok || front == "" {
		return ok
	}
	front, ok = strings.CutSuffix(front, ".")
	for part := range strings.SplitSeq(front, ".") {
		ok = ok && hostLabel.MatchString(part)
	}
	return ok
}
