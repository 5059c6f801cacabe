package firewall

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// between is a host with the firewall between two apps, as addresses of a namespace behind docker_gwbridge, and a
// server on the internet, which answers with what it is sent.
type between struct {
	family
	t     *testing.T
	table Table
	apps  string // path of their namespace
}

// family is a version of IP: addresses of two apps and their gateway, and of a server and the host beside it.
type family struct{ name, firstApp, secondApp, gateway, server, host, bits, forwarding string }

var families = []family{
	{"IPv4", "172.18.0.5", "172.18.0.6", "172.18.0.1", "203.0.113.7", "203.0.113.1", "/24", "ipv4/ip_forward"},
	{"IPv6", "fd18::5", "fd18::6", "fd18::1", "2001:db8:113::7", "2001:db8:113::1", "/64", "ipv6/conf/all/forwarding"},
}

// eachFamily runs a test with every version of IP that the machine has.
func eachFamily(t *testing.T, test func(*testing.T, family)) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			if _, err := os.Stat("/proc/sys/net/" + f.forwarding); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal("the machine has no ", f.name)
				}
				t.Skip("the machine has no ", f.name)
			}
			test(t, f)
		})
	}
}

func newBetween(t *testing.T, f family) between {
	b := between{family: f, t: t, table: namespace(t)}
	host := strings.TrimPrefix(b.table.Namespace, "/run/netns/")
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	for _, side := range []struct {
		suffix, link, gateway string
		addresses             []string
	}{
		{"-apps", "docker_gwbridge", f.gateway, []string{f.firstApp, f.secondApp}}, {"-inet", "eth0", f.host, []string{f.server}},
	} {
		there := host + side.suffix
		ip("netns", "add", there)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", there).Run() })
		for _, path := range []string{b.table.Namespace, "/run/netns/" + there} {
			if err := dockerd.Within(path, func() { // a router asks for no neighbour while it looks whether its address is another's
				_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644)
			}); err != nil {
				t.Fatal(err)
			}
		}
		ip("-n", host, "link", "add", side.link, "type", "veth", "peer", "name", "eth0", "netns", there)
		ip("-n", host, "address", "add", side.gateway+f.bits, "dev", side.link, "nodad")
		ip("-n", host, "link", "set", side.link, "up")
		for _, a := range side.addresses {
			ip("-n", there, "address", "add", a+f.bits, "dev", "eth0", "nodad")
		}
		ip("-n", there, "link", "set", "eth0", "up")
		ip("-n", there, "route", "add", "default", "via", side.gateway)
	}
	if err := errors.Join(dockerd.Within(b.table.Namespace, func() {
		if err := os.WriteFile("/proc/sys/net/"+f.forwarding, []byte("1"), 0o644); err != nil {
			t.Error(err)
		}
	}), dockerd.Within(b.table.Namespace+"-inet", func() {
		listener, err := net.Listen("tcp", net.JoinHostPort(f.server, "80"))
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(c, c)
					c.Close()
				}()
			}
		}()
	})); err != nil || t.Failed() {
		t.Fatal(err)
	}
	b.apps = b.table.Namespace + "-apps"
	for _, app := range []string{f.firstApp, f.secondApp} { // an address of IPv6 is used some time after it was added
		for end := time.Now().Add(20 * time.Second); ; {
			c, err := b.dial(app, 400*time.Millisecond)
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	return b
}

// dial opens a connection from an app to the server.
func (b between) dial(app string, patience time.Duration) (c net.Conn, err error) {
	inside := dockerd.Within(b.apps, func() {
		d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(app), 0))}
		c, err = d.Dial("tcp", net.JoinHostPort(b.server, "80"))
	})
	return c, errors.Join(inside, err)
}

func (b between) install() {
	b.t.Helper()
	if err := b.table.Install(Rules(Options{Apps: []string{"docker_gwbridge"}, Infra: "docker0"})); err != nil {
		b.t.Fatal(err)
	}
}

// open opens connections of the first app, at most limit. A second try, after a second, is within the rate again.
func (b between) open(limit int) []net.Conn {
	var all []net.Conn
	b.t.Cleanup(func() { closeAll(all) })
	for len(all) < limit {
		c, err := b.dial(b.firstApp, 4*time.Second)
		if err != nil {
			break
		}
		all = append(all, c)
	}
	return all
}

func closeAll(all []net.Conn) {
	for _, c := range all {
		c.Close()
	}
}

// An app has so many connections and no more; they go on, and those of another app begin.
func TestN3_OpenConnectionsAreBounded(t *testing.T) { eachFamily(t, openConnections) }

func openConnections(t *testing.T, f family) {
	t.Run("without the firewall", func(t *testing.T) { // or the test would show nothing
		if n := len(newBetween(t, f).open(MaxOpen + 100)); n != MaxOpen+100 {
			t.Errorf("an app has %d connections", n)
		}
	})
	t.Run("with it", func(t *testing.T) {
		b := newBetween(t, f)
		b.install()
		open := b.open(MaxOpen + 100)
		if n := len(open); n < MaxOpen-10 || n > MaxOpen+1 {
			t.Fatalf("an app has %d connections, not %d", n, MaxOpen)
		}
		echo := make([]byte, 4)
		last := open[len(open)-1]
		last.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := last.Write([]byte("ping")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(last, echo); err != nil || string(echo) != "ping" {
			t.Errorf("a connection that is open is answered %q, %v", echo, err)
		}
		b.serves(b.secondApp)
		closeAll(open)
		b.serves(b.firstApp) // what was closed no longer counts
	})
}

// serves makes sure that an app opens a connection.
func (b between) serves(app string) {
	b.t.Helper()
	c, err := b.dial(app, 20*time.Second)
	if err != nil {
		b.t.Fatalf("%s: %v", app, err)
	}
	c.Close()
}

// What is closed at once is remembered for some time too.
func TestN3_NewConnectionsAreBounded(t *testing.T) { eachFamily(t, newConnections) }

func newConnections(t *testing.T, f family) {
	const many = 2 * MaxBurst
	try := func(b between) (int, time.Duration) {
		begin := time.Now()
		for n := range many {
			c, err := b.dial(b.firstApp, 400*time.Millisecond) // before the second try
			if err != nil {
				return n, time.Since(begin)
			}
			c.Close()
		}
		return many, time.Since(begin)
	}
	t.Run("without the firewall", func(t *testing.T) {
		if n, _ := try(newBetween(t, f)); n != many {
			t.Errorf("an app opens %d connections", n)
		}
	})
	t.Run("with it", func(t *testing.T) {
		b := newBetween(t, f)
		b.install()
		n, took := try(b)
		if most := MaxBurst + int(took.Seconds()*MaxRate) + 10; n < MaxBurst-10 || n > most {
			t.Errorf("an app opens %d connections within %s, not %d to %d", n, took, MaxBurst, most)
		}
		b.serves(b.secondApp)
	})
}
