package reconcile

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// Addresses of the test's network that are neither Docker's nor a container's.
const (
	theHost    = "192.0.2.1"
	theGateway = "192.0.2.10"
	anybody    = "192.0.2.11"
)

// addresses gives them to the host, so that connections can come from each.
func (h *testHost) addresses(t *testing.T) {
	t.Helper()
	for _, address := range []string{theHost, theGateway, anybody} {
		if out, err := h.Command(t.Context(), "ip", "address", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// header2 is a header of the PROXY protocol, version 2: a connection by TCP from that client.
func header2(client string) string {
	from := netip.MustParseAddrPort(client)
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21")
	if from.Addr().Is4() {
		b = binary.BigEndian.AppendUint16(append(b, 0x11), 12)
		b = append(append(b, from.Addr().AsSlice()...), 192, 0, 2, 10)
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x21), 36)
		b = append(append(b, from.Addr().AsSlice()...), netip.MustParseAddr("2001:db8::10").AsSlice()...)
	}
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from.Port()), 443))
}

// header1 is one of version 1, for IPv4.
func header1(client string) string {
	from := netip.MustParseAddrPort(client)
	return fmt.Sprintf("PROXY TCP4 %s 192.0.2.10 %d 443\r\n", from.Addr(), from.Port())
}

// caller is how a request comes to the proxy.
type caller struct {
	namespace string // of the network; "" is the host's
	from, to  string // addresses; from may be ""
	port      int
	header    string // before TLS
	forwarded string // X-Forwarded-For
}

// ask sends one request on a connection of its own, which the answer's body holds.
func (h *testHost) ask(ctx context.Context, c caller, host, path string) (*http.Response, error) {
	namespace := c.namespace
	if namespace == "" {
		namespace = h.Namespace()
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if c.from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.from)}
	}
	var conn net.Conn
	var err error
	if inside := dockerd.Within(namespace, func() { conn, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort(c.to, fmt.Sprint(c.port))) }); inside != nil {
		return nil, inside
	}
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*http.Response, error) { return nil, errors.Join(err, conn.Close()) }
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return fail(err)
	}
	if _, err := io.WriteString(conn, c.header); err != nil {
		return fail(err)
	}
	stream := conn
	if c.port == 443 {
		secure := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true})
		if err := secure.HandshakeContext(ctx); err != nil {
			return fail(err)
		}
		stream = secure
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, http.NoBody)
	if err != nil {
		return fail(err)
	}
	if c.forwarded != "" {
		req.Header.Set("X-Forwarded-For", c.forwarded)
	}
	if err := req.Write(stream); err != nil {
		return fail(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(stream), req)
	if err != nil {
		return fail(err)
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{res.Body, conn}
	return res, nil
}

// client is as whom an app sees whoever calls, or why it does not.
func (h *testHost) clientSeen(t *testing.T, c caller) string {
	t.Helper()
	res, err := h.ask(t.Context(), c, "who."+domain, "/client")
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Sprint(res.Status, " ", err)
	}
	return string(text)
}

// who deploys an app that says as whom it sees its visitors.
func (h *testHost) who(t *testing.T) {
	t.Helper()
	_, err := h.Docker.ServiceCreate(t.Context(), swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: "who_app", Labels: map[string]string{
			"traefik.enable": "true", "traefik.swarm.network": "proxy",
			"traefik.http.routers.who.rule": "Host(`who." + domain + "`)", "traefik.http.routers.who.entrypoints": "web-secure", "traefik.http.routers.who.tls": "true",
			"traefik.http.services.who.loadbalancer.server.port": "8080",
		}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Image: guestImage, Args: []string{"listen"}},
			Networks:      []swarm.NetworkAttachmentConfig{{Target: "proxy"}},
		},
		EndpointSpec: &swarm.EndpointSpec{Mode: swarm.ResolutionModeDNSRR},
	}, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.await(t, "the app is reached", func() bool {
		return h.clientSeen(t, caller{from: anybody, to: theHost, port: 443}) == anybody
	})
}

// TestN3_RealGateway is a gateway before the real proxy: whom an app sees, and so whom dashboard and bridge do.
func TestN3_RealGateway(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addresses(t)
	h.converge(t, h.options())
	h.who(t)
	const visitor, sixth = "198.51.100.7:4711", "[2001:db8::7]:4711"
	by := func(from, header, forwarded string) caller {
		return caller{from: from, to: theHost, port: 443, header: header, forwarded: forwarded}
	}
	for what, tc := range map[string]struct {
		c    caller
		want string
	}{
		"the gateway":               {by(theGateway, "", ""), theGateway},
		"the gateway, a field":      {by(theGateway, "", "198.51.100.7"), theGateway},
		"anybody":                   {by(anybody, "", ""), anybody},
		"anybody, a field":          {by(anybody, "", "198.51.100.7"), anybody},
		"the gateway, header early": {by(theGateway, header2(visitor), ""), "tls: first record does not look like"}, // nobody is served
	} {
		if got := h.clientSeen(t, tc.c); !strings.Contains(got, tc.want) || strings.Contains(got, "198.51.100.7") {
			t.Errorf("without a list, %s: the client is %s, want %s", what, got, tc.want)
		}
	}

	o := h.options()
	o.Containers = ContainerRanges(h.Docker)
	o.Gateways = []Gateway{{netip.MustParsePrefix(theGateway + "/32"), "cc-ci.yml:7: reconcile.proxy.gateways[0]"}}
	h.converge(t, o)
	if again := h.converge(t, o); len(again) > 0 {
		t.Errorf("then it does\n%s", strings.Join(again, "\n"))
	}
	app := h.container(t, "who_app")
	inspected, err := h.Docker.ContainerInspect(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	traefik, err := h.Docker.ContainerInspect(t.Context(), h.container(t, "cc-ci_traefik"))
	if err != nil {
		t.Fatal(err)
	}
	own := inspected.NetworkSettings.Networks["proxy"].IPAddress
	within := caller{namespace: fmt.Sprintf("/proc/%d/ns/net", inspected.State.Pid), to: traefik.NetworkSettings.Networks["proxy"].IPAddress, port: 443, header: header2(visitor)}
	h.await(t, "the app is reached again", func() bool { return h.clientSeen(t, by(anybody, "", "")) == anybody })
	for what, tc := range map[string]struct {
		c    caller
		want string
	}{
		"the gateway names a visitor":                                   {by(theGateway, header2(visitor), ""), "198.51.100.7"},
		"the gateway names another":                                     {by(theGateway, header2("203.0.113.8:1"), ""), "203.0.113.8"},
		"the gateway names one of IPv6":                                 {by(theGateway, header2(sixth), ""), "2001:db8::7"},
		"the gateway uses version 1":                                    {by(theGateway, header1(visitor), ""), "198.51.100.7"},
		"the gateway's visitor names somebody":                          {by(theGateway, header2(visitor), "203.0.113.66"), "198.51.100.7"},
		"the gateway names nobody":                                      {by(theGateway, "", ""), theGateway},
		"the gateway names nobody, but a field":                         {by(theGateway, "", "203.0.113.66"), theGateway},
		"anybody":                                                       {by(anybody, "", ""), anybody},
		"anybody names a visitor":                                       {by(anybody, header2(visitor), ""), anybody},
		"anybody names a visitor in version 1":                          {by(anybody, header1(visitor), ""), anybody},
		"anybody names the gateway":                                     {by(anybody, header2(theGateway+":1"), "203.0.113.66"), anybody},
		"anybody with a field":                                          {by(anybody, "", "203.0.113.66"), anybody},
		"an app, in the network it has with the proxy, names a visitor": {within, own},
	} {
		if got := h.clientSeen(t, tc.c); got != tc.want {
			t.Errorf("%s: the client is %s, want %s", what, got, tc.want)
		}
	}
	// Why the settings refuse IPv6: docker-proxy makes such a connection anew.
	if got, err := netip.ParseAddr(h.clientSeen(t, caller{to: "::1", port: 443, header: header2(visitor)})); err != nil || !got.Is4() || !got.IsPrivate() {
		t.Errorf("by IPv6 the client is %s, %v", got, err)
	}
	// The other port of visitors.
	for _, from := range []string{theGateway, anybody} {
		res, err := h.ask(t.Context(), caller{from: from, to: theHost, port: 80, header: header2(visitor)}, "who."+domain, "/a")
		if err != nil {
			t.Errorf("HTTP from %s: %v", from, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode/100 != 3 || res.Header.Get("Location") != "https://who."+domain+"/a" {
			t.Errorf("HTTP from %s: %s, %s", from, res.Status, res.Header.Get("Location"))
		}
	}

	// Ranges that containers have are refused, and what serves is left alone.
	for _, bad := range []string{own + "/32", "172.31.0.1/32", "10.200.0.0/16"} {
		o.Gateways = []Gateway{{netip.MustParsePrefix(bad), "cc-ci.yml:7: reconcile.proxy.gateways[0]"}}
		reports, err := h.runner(t).Run(t.Context(), unitsOf(o)...)
		if ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(fmt.Sprint(err), "cc-ci.yml:7: reconcile.proxy.gateways[0]: "+bad+" holds addresses of ") || len(reports[1].Actions) > 0 {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if got := h.clientSeen(t, by(theGateway, header2(visitor), "")); got != "198.51.100.7" {
		t.Errorf("after the refusals the client is %s", got)
	}
}
