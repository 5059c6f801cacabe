package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// Reconcile says what cc-ci reconcile makes of this host.
type Reconcile struct {
	Images   Images      `yaml:"images" doc:"What the services are made of."`
	Proxy    Proxy       `yaml:"proxy" doc:"The proxy of production, Traefik."`
	Firewall Firewall    `yaml:"firewall" doc:"What apps may reach."`
	Subnet   string      `yaml:"subnet" default:"10.10.0.0/16" doc:"Addresses of the network that the proxy and apps deployed by hand share; a /16, because a swarm leaks some with every app."`
	Drone    DroneServer `yaml:"drone" doc:"The Drone server of this host, with engine.kind drone."`
	Backup   Backup      `yaml:"backup" doc:"Backups of the apps that stay on this host."`
	Socket   string      `yaml:"socket" default:"/var/run/docker.sock" doc:"Docker's socket on the host."`
}

// Images are references of images.
type Images struct {
	CCCI    string `yaml:"cc_ci" doc:"The image of cc-ci itself, whose program is its entrypoint. The tag has to change with the content."`
	Drone   string `yaml:"drone" default:"drone/drone:2.26.0" doc:"The Drone server. Mind its licence: it is not free for every use."`
	Traefik string `yaml:"traefik" default:"traefik:v3.6.12" doc:"Traefik 3.6.1 or newer: older ones cannot talk to Docker 29."`
}

// Proxy settings.
type Proxy struct {
	Certificates string   `yaml:"certificates" default:"/var/lib/ci-certs/live" doc:"Folder with fullchain.pem and privkey.pem, valid for the domain and everything one label under it."`
	HTTP         int      `yaml:"http" default:"80" doc:"Port of the host that redirects to HTTPS."`
	HTTPS        int      `yaml:"https" default:"443" doc:"Port of the host for HTTPS."`
	Entrypoints  []string `yaml:"entrypoints" doc:"Further ports for recipes, as gitea-ssh:2222 or mumble-udp:64738/udp; the names are those of the Co-op Cloud recipe."`
	Gateways     []string `yaml:"gateways" doc:"IPv4 addresses, as 198.51.100.9 or 198.51.100.0/28, of hosts that pass the connections of visitors on to the ports http and https and name the visitor with the PROXY protocol (version 1 or 2). A connection from there counts as the visitor's. From any other address the header is ignored. List a host only if it sends the header with every connection. With ingress.kind traefik."`
}

// Firewall settings.
type Firewall struct {
	Allow []string `yaml:"allow" doc:"What apps may reach besides the internet and the name servers of the host, as 10.1.2.3:443, 10.1.2.0/24:5432, [fd00::1]:53/udp. Without it no private address and no port of the host."`

	DockerCgroup string   `yaml:"docker_cgroup" doc:"The slice of docker.service, as dockerd.slice; nothing else is to be in it. The group of docker.service itself is another one after each start. dockerd, which asks the registries that recipes name, then reaches neither this host nor private networks. Empty: it reaches everything."`
	DockerAllow  []string `yaml:"docker_allow" doc:"What dockerd may reach nevertheless: mirrors and registries, as https://mirror.example.org or 10.1.2.3:5000, and containers with published ports, as 172.18.0.0/16:3000."`
}

// Destination is one of Firewall.Allow: a port of an address or of each address of a range.
type Destination struct {
	To   netip.Prefix
	Port uint16
	UDP  bool
}

var destinationPattern = regexp.MustCompile(`^(?:([0-9./]+)|\[([0-9a-fA-F:./]+)\]):([0-9]{1,5})(/tcp|/udp)?$`)

// errNeverOpen is for ranges that no setting opens: loopback, link-local addresses and cloud metadata.
var errNeverOpen = errors.New("which cannot be opened")

// ParseDestination reads ADDRESS:PORT, with /BITS after the address and /tcp or /udp after the
// port. An address of IPv6 is in brackets, with its bits.
func ParseDestination(text string) (Destination, error) {
	m := destinationPattern.FindStringSubmatch(text)
	if m == nil {
		return Destination{}, fmt.Errorf("%q is no address with a port", text)
	}
	address := m[1] + m[2]
	to, err := netip.ParsePrefix(address)
	if !strings.Contains(address, "/") {
		var one netip.Addr
		if one, err = netip.ParseAddr(address); err == nil {
			to = netip.PrefixFrom(one, one.BitLen())
		}
	}
	port, portErr := strconv.ParseUint(m[3], 10, 16)
	switch {
	case err != nil || to.Addr().Is4In6() || to != to.Masked():
		return Destination{}, fmt.Errorf("%q is no address and no range", address)
	case portErr != nil || port == 0:
		return Destination{}, fmt.Errorf("%s is no port", m[3])
	}
	for _, never := range []string{"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::/32"} {
		if p := netip.MustParsePrefix(never); p.Overlaps(to) {
			return Destination{}, fmt.Errorf("%s holds addresses of %s, %w", address, never, errNeverOpen)
		}
	}
	return Destination{To: to, Port: uint16(port), UDP: m[4] == "/udp"}, nil
}

// Entrypoint is one of Proxy.Entrypoints.
type Entrypoint struct {
	Name string
	Port int
	UDP  bool
}

var entrypointPattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?):([0-9]{1,5})(/tcp|/udp)?$`)

// ParseEntrypoint reads name:port, name:port/tcp or name:port/udp.
func ParseEntrypoint(text string) (Entrypoint, error) {
	m := entrypointPattern.FindStringSubmatch(text)
	if m == nil {
		return Entrypoint{}, fmt.Errorf("%q is not an entrypoint", text)
	}
	port, err := strconv.Atoi(m[3])
	if err != nil || port < 1 || port > 65535 {
		return Entrypoint{}, fmt.Errorf("%s is no port", m[3])
	}
	return Entrypoint{Name: m[1], Port: port, UDP: m[4] == "/udp"}, nil
}

// finishReconcile checks what cc-ci reconcile is to make.
func (c *Config) finishReconcile(bad complain) {
	r := c.Reconcile
	if subnet, err := netip.ParsePrefix(r.Subnet); err != nil || subnet != subnet.Masked() || subnet.Bits() > 16 {
		bad("reconcile.subnet", "write a network of at least 65536 addresses, as 10.10.0.0/16", "%q is not such a range", r.Subnet)
	}
	for key, file := range map[string]string{"reconcile.proxy.certificates": r.Proxy.Certificates, "reconcile.socket": r.Socket} {
		if !strings.HasPrefix(file, "/") {
			bad(key, "write the whole path", "%q does not begin at /", file)
		}
	}
	destination := func(key string, i int, text, form, closed string) {
		_, err := ParseDestination(text)
		if errors.Is(err, errNeverOpen) {
			form = closed
		}
		if err != nil {
			bad(fmt.Sprintf("reconcile.firewall.%s[%d]", key, i), form, "%v", err)
		}
	}
	for i, text := range r.Firewall.Allow {
		destination("allow", i, text, "write it as 10.1.2.3:443 or [fd00::1]:53/udp",
			"leave it out, or write a smaller range: loopback, link-local addresses and cloud metadata are closed to every app")
	}
	if group := r.Firewall.DockerCgroup; group != "" && (group != path.Clean(group) || strings.HasPrefix(group, "/") || strings.HasPrefix(group, "..") || group == ".") {
		bad("reconcile.firewall.docker_cgroup", "write the path below /sys/fs/cgroup, as dockerd.slice", "%q is no control group", group)
	}
	for i, text := range r.Firewall.DockerAllow {
		u, err := url.Parse(text)
		if named := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != ""; named {
			continue
		}
		destination("docker_allow", i, text, "write it as https://mirror.example.org or 10.1.2.3:5000",
			"leave it out, or write a smaller range: link-local addresses and cloud metadata are closed to dockerd; a registry on loopback is written as http://127.0.0.1:5000")
	}
	c.finishGateways(bad)
	c.finishServices(bad)
	taken := map[string]string{}
	port := func(key string, number int, udp bool) {
		if number < 1 || number > 65535 {
			bad(key, "", "%d is not between 1 and 65535", number)
		}
		id := fmt.Sprint(number, udp)
		if first, twice := taken[id]; twice {
			bad(key, "give each its own", "port %d is that of %s too", number, first)
		}
		taken[id] = key
	}
	port("reconcile.proxy.http", r.Proxy.HTTP, false)
	port("reconcile.proxy.https", r.Proxy.HTTPS, false)
	names := map[string]bool{"web": true, "web-secure": true, "ping": true}
	for i, text := range r.Proxy.Entrypoints {
		key := fmt.Sprintf("reconcile.proxy.entrypoints[%d]", i)
		e, err := ParseEntrypoint(text)
		if err != nil {
			bad(key, "write it as gitea-ssh:2222 or mumble-udp:64738/udp", "%v", err)
			continue
		}
		if names[e.Name] {
			bad(key, "choose another name", "there is an entrypoint %s already", e.Name)
		}
		names[e.Name] = true
		port(key, e.Port, e.UDP)
	}
}

// Kinds of proxies.
const (
	IngressEmbedded = "embedded"
	IngressTraefik  = "traefik"
)

// finishIngress checks which proxy apps are reached through.
func (c *Config) finishIngress(bad complain) {
	kinds := []string{IngressEmbedded, IngressTraefik}
	if !slices.Contains(kinds, c.Ingress.Kind) {
		bad("ingress.kind", settings.Suggest(c.Ingress.Kind, kinds, "write "+list(kinds)), "there is no proxy of kind %q", c.Ingress.Kind)
	}
	if host, _, _ := net.SplitHostPort(c.Ingress.Address); !isAddress(c.Ingress.Address) || host == "" {
		bad("ingress.address", "write an address and a port, as 127.0.0.1:443", "%q is not an address", c.Ingress.Address)
	}
	if c.Ingress.CAFile != "" && c.Ingress.Kind == IngressEmbedded {
		bad("ingress.ca_file", "leave it out, or set ingress.kind: traefik", "the embedded proxy has an authority of its own")
	}
}
