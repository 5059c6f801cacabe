package admission

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/compose/types"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// special are ranges that lead back to the machine or to networks around it, beside
// those that netip knows by name: carrier-grade NAT, benchmarks, and the ranges that
// translate into addresses of version 4.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// publicAddress reports whether a text is the address of a host on the internet.
func publicAddress(text string) bool {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// addresses judges where a service is told to find others.
func (j *judge) addresses(s *types.ServiceConfig) {
	for _, h := range s.ExtraHosts {
		name, address, ok := strings.Cut(h, ":")
		if ok && hostName.MatchString(strings.ToLower(name)) && publicAddress(address) {
			continue
		}
		j.refuse(ruleExtraHosts, s.Name, h, j.locate(h, "services", s.Name, "extra_hosts"), "write name:address with a public address",
			"gives a name to the machine or a network around it, %q", h)
	}
	for _, server := range s.DNS {
		if !publicAddress(server) {
			j.refuse(ruleDNS, s.Name, server, j.locate(server, "services", s.Name, "dns"), "leave dns out", "asks the name server %q, which is no public address", server)
		}
	}
	for _, domain := range s.DNSSearch {
		if domain != "." && !hostName.MatchString(fold(domain)) {
			j.refuse(ruleDNS, s.Name, domain, j.locate(domain, "services", s.Name, "dns_search"), "", "searches names in %q, which is no domain", domain)
		}
	}
}

// innerDomains are ends of names that never are on the internet.
var innerDomains = []string{".local", ".localhost", ".localdomain", ".internal", ".intranet", ".lan", ".home", ".home.arpa", ".docker", ".test", ".invalid"}

var registryName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?$`)

// image judges which registry the daemon is made to ask: dockerd does, with the rights
// and from the address of the machine.
func (j *judge) image(s *types.ServiceConfig) {
	if s.Image == "" {
		return // nothing is asked, and the deployer says so
	}
	at := func() place { return j.locate(s.Image, "services", s.Name, "image") }
	parsed, err := reference.ParseAnyReference(s.Image)
	if err != nil {
		j.refuse(ruleImage, s.Name, s.Image, at(), "write registry/path:tag", "has the image %q, which is no reference", s.Image)
		return
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		j.refuse(ruleImage, s.Name, s.Image, at(), "write registry/path:tag", "has the image %q, which is the ID of an image of one machine", s.Image)
		return
	}
	host := reference.Domain(named)
	if host == recipe.LocalRegistry {
		if named.Name() == recipe.HelperImage {
			j.refuse(ruleImage, s.Name, s.Image, at(), "", "has the image %q, which is cc-ci's own", s.Image)
		}
		return // the deployer never pulls it
	}
	host = strings.ToLower(host)
	if bare, _, ok := strings.Cut(host, ":"); ok {
		host = bare
	}
	inner := slices.ContainsFunc(innerDomains, func(end string) bool { return strings.HasSuffix(host, end) })
	if !registryName.MatchString(host) || inner {
		j.refuse(ruleImage, s.Name, s.Image, at(), "use a registry with a public name", "makes the daemon ask the registry %q, which is no public name", reference.Domain(named))
	}
}
