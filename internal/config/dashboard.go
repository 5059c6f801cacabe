package config

import (
	"net/netip"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Dashboard bounds what readers of the dashboard may hold at a time.
type Dashboard struct {
	Requests   int           `yaml:"requests" default:"512" doc:"Requests at a time, in sum. Beyond it readers are asked to come again (503)."`
	PerAddress int           `yaml:"requests_per_address" default:"64" doc:"Requests at a time of one address; of IPv6 a /64 is one."`
	Streams    int           `yaml:"streams" default:"256" doc:"Live pages and logs that are followed, in sum. Further pages poll."`
	StreamsPer int           `yaml:"streams_per_address" default:"32" doc:"Live pages and logs of one address."`
	Patience   time.Duration `yaml:"patience" default:"20s" doc:"How long a reader may take nothing before it is cut off."`
	Proxies    []string      `yaml:"proxies" default:"[loopback]" doc:"Peers whose X-Forwarded-For is believed, by the dashboard and at /hook: networks as 10.0.1.0/24, loopback, or attached for all networks that this machine or container is attached to."`
	MemoryMiB  int           `yaml:"memory_mib" default:"256" doc:"MiB of memory from which on cc-ci dashboard collects garbage more often (GOMEMLIMIT)."`
}

// Peers that Dashboard.Proxies names by a word.
const (
	ProxiesLoopback = "loopback"
	ProxiesAttached = "attached"
)

// ParseProxies reads Dashboard.Proxies. attached lists the networks of this machine.
func ParseProxies(words []string, attached func() ([]netip.Prefix, error)) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, word := range words {
		switch word {
		case ProxiesLoopback:
			all = append(all, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		case ProxiesAttached:
			networks, err := attached()
			if err != nil {
				return nil, err
			}
			all = append(all, networks...)
		default:
			p, err := netip.ParsePrefix(word)
			if err != nil {
				return nil, ccci.Errorf(ccci.CodeInvalid, "%q is neither a network nor loopback or attached", word).WithHint("write a network as 10.0.1.0/24")
			}
			all = append(all, p.Masked())
		}
	}
	return all, nil
}

func (d Dashboard) finish(bad complain) {
	for _, x := range []struct {
		key   string
		value int
		min   int
	}{
		{"requests", d.Requests, 1}, {"requests_per_address", d.PerAddress, 1}, {"streams", d.Streams, 1},
		{"streams_per_address", d.StreamsPer, 1}, {"memory_mib", d.MemoryMiB, 32},
	} {
		if x.value < x.min || x.value > 1<<20 {
			bad("dashboard."+x.key, "leave the key out for its default", "%d is not between %d and %d", x.value, x.min, 1<<20)
		}
	}
	if d.Patience < time.Second || d.Patience > time.Hour {
		bad("dashboard.patience", "leave the key out for its default", "%s is not between 1s and 1h", d.Patience)
	}
	if _, err := ParseProxies(d.Proxies, func() ([]netip.Prefix, error) { return nil, nil }); err != nil {
		bad("dashboard.proxies", ccci.HintOf(err), "%v", err)
	}
}
