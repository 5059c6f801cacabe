package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/recipe-maintainers/cc-ci/internal/settings"
)

// Gateway is one of Proxy.Gateways: an address or a range of addresses.
type Gateway struct {
	From  netip.Prefix
	Place string // where it stands, as "cc-ci.yml:7: reconcile.proxy.gateways[0]"
}

// widestGateway is the length of prefix below which a range is refused: it is no list of hosts, and
// each host in it could name any address.
const widestGateway = 8

// Gateways returns reconcile.proxy.gateways, which Read has checked.
func (c *Config) Gateways() []Gateway {
	var all []Gateway
	for i, text := range c.Reconcile.Proxy.Gateways {
		g := Gateway{Place: gatewayKey(i)}
		g.From, _, _ = parseGateway(text)
		if i < len(c.gatewayPlaces) {
			g.Place = c.gatewayPlaces[i]
		}
		all = append(all, g)
	}
	return all
}

func gatewayKey(i int) string { return fmt.Sprintf("reconcile.proxy.gateways[%d]", i) }

func (c *Config) noteGateways(file string, d *settings.Decoder) {
	c.gatewayPlaces = nil
	for i := range c.Reconcile.Proxy.Gateways {
		c.gatewayPlaces = append(c.gatewayPlaces, placeOf(file, gatewayKey(i), d))
	}
}

// parseGateway reads an address or a range of IPv4. Of one that cannot be trusted it returns an error
// with a hint.
func parseGateway(text string) (from netip.Prefix, hint string, err error) {
	from, err = netip.ParsePrefix(text)
	if !strings.Contains(text, "/") {
		var one netip.Addr
		if one, err = netip.ParseAddr(text); err == nil {
			from = netip.PrefixFrom(one, one.BitLen())
		}
	}
	const form = "write the address of a gateway as 198.51.100.9, or a range as 198.51.100.0/28"
	switch {
	case err != nil || from.Addr().Is4In6():
		return from, form, fmt.Errorf("%q is no address and no range", text)
	case from.Bits() < widestGateway:
		return from, form + ", of at most a /8", fmt.Errorf("%s is too wide: everybody in it could name any address as a visitor's", text)
	case from != from.Masked():
		return from, form, fmt.Errorf("%q is no address and no range; the range is %s", text, from.Masked())
	case from.Addr().Is6():
		// Its network in Docker has IPv4 alone: docker-proxy takes connections by IPv6 and makes them again, from
		// the address of a bridge.
		return from, "write the IPv4 address from which the gateway connects to this host", fmt.Errorf("%s is an address of IPv6, which the proxy never sees", text)
	}
	for _, never := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"} {
		if p := netip.MustParsePrefix(never); p.Overlaps(from) {
			return from, "write the address from which the gateway connects to this host; for one on this host, an address of the host that is not loopback",
				fmt.Errorf("%s holds addresses of %s, from which no gateway connects", text, never)
		}
	}
	return from, "", nil
}

// finishGateways checks whose PROXY protocol is to be believed. What Docker gives to containers
// besides reconcile.subnet is known to Docker alone: cc-ci reconcile refuses that.
func (c *Config) finishGateways(bad complain) {
	subnet, subnetErr := netip.ParsePrefix(c.Reconcile.Subnet)
	for i, text := range c.Reconcile.Proxy.Gateways {
		from, hint, err := parseGateway(text)
		switch {
		case err != nil:
			bad(gatewayKey(i), hint, "%v", err)
		case subnetErr == nil && subnet.Overlaps(from):
			bad(gatewayKey(i), "write the address from which the gateway connects to this host", "%s holds addresses of reconcile.subnet, %s, which apps have: an app could name any address as its visitor's", text, subnet)
		}
	}
	if len(c.Reconcile.Proxy.Gateways) > 0 && c.Ingress.Kind == IngressEmbedded {
		bad("reconcile.proxy.gateways", "leave it out, or set ingress.kind: traefik; for a proxy before the dashboard there is dashboard.proxies",
			"the embedded proxy does not read the PROXY protocol")
	}
}
