package admission

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/compose/types"

	ccci "github.com/recipe-maintainers/cc-ci"
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

// CheckRegistry returns an error unless the registry of an image has a public name. Otherwise the
// daemon, which asks with the rights and from the address of the machine, must not be made to ask it.
// It is an Error with CodeRefused.
func CheckRegistry(image string) error {
	if why, hint := inner(image); why != "" {
		return ccci.Errorf(ccci.CodeRefused, "the image %q is not asked for: its registry has no public name (rule %s)", short(image), ruleImage).WithHint("%s", hint)
	}
	return nil
}

// inner says what is wrong with the registry of an image, "" when it has a public name.
func inner(image string) (what, hint string) {
	parsed, err := reference.ParseAnyReference(image)
	if err != nil {
		return fmt.Sprintf("has the image %q, which is no reference", short(image)), "write registry/path:tag"
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return fmt.Sprintf("has the image %q, which is the ID of an image of one machine", short(image)), "write registry/path:tag"
	}
	host := strings.ToLower(reference.Domain(named))
	if bare, _, ok := strings.Cut(host, ":"); ok {
		host = bare
	}
	if !registryName.MatchString(host) || slices.ContainsFunc(innerDomains, func(end string) bool { return strings.HasSuffix(host, end) }) {
		return fmt.Sprintf("makes the daemon ask the registry %q, which is no public name", short(reference.Domain(named))), "use a registry with a public name"
	}
	return "", ""
}

// image judges which registry the daemon is made to ask.
func (j *judge) image(s *types.ServiceConfig) {
	if s.Image == "" {
		return // nothing is asked, and the deployer says so
	}
	at := func() place { return j.locate(s.Image, "services", s.Name, "image") }
	if named, err := reference.ParseNormalizedNamed(s.Image); err == nil && reference.Domain(named) == recipe.LocalRegistry {
		if named.Name() == recipe.HelperImage {
			j.refuse(ruleImage, s.Name, s.Image, at(), "", "has the image %q, which is cc-ci's own", s.Image)
		}
		return // the deployer never pulls it
	}
	if what, hint := inner(s.Image); what != "" {
		j.refuse(ruleImage, s.Name, s.Image, at(), hint, "%s", what)
	}
}
