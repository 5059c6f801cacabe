// Package firewall keeps apps away from the host and from private networks, and dockerd from what
// an image's registry could lead it to, by two tables of nftables that are cc-ci's own.
//
// Their chains come before those of Docker and of the host's own firewall, in
// whatever program's table those are: iptables on nftables, the older iptables, or nftables
// itself. What is dropped here reaches none of them; what is accepted here they still judge.
// Flushing theirs, or starting Docker again, does not touch these.
package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Options say whose traffic is judged and what it may reach.
type Options struct {
	Apps      []string      // interfaces of the host on which containers of apps are
	Infra     string        // interface on which containers of cc-ci's own services are
	Resolvers []netip.Addr  // name servers: their port 53 may be asked by all
	Allow     []Destination // what apps may reach besides
	Ports     []uint16      // TCP ports of the host that Infra may reach
}

// Destination is a port of an address or of each address of a range.
type Destination struct {
	To   netip.Prefix
	Port uint16
	UDP  bool
}

// Rule is one rule: what its conditions fit, it accepts or drops. An empty condition fits all.
type Rule struct {
	Chain       string // Input, Forward or Output
	Cgroup      Cgroup // of the process whose socket sends
	In, Out     string // interfaces of the host
	Established bool   // answers, and what belongs to a connection that is there
	Over        Bound  // a new connection beyond this bound of its source address
	Redirected  bool   // sent to a published port of the host, which Docker leads to a container
	To          netip.Prefix
	Protocol    Protocol
	Port        uint16 // with TCP or UDP: its destination
	Type        uint8  // with ICMPv6
	Accept      bool   // else it drops, or refuses
	Refuse      bool   // the sender is told so
}

// Bound is one of the bounds on the connections of an address.
type Bound struct {
	Kind BoundKind // "" for none
	IPv6 bool
}

// BoundKind says what is bounded.
type BoundKind string

// Bounds. A connection that was closed is no longer open, and the kernel remembers it for some time;
// so both are needed to bound what one address takes of the table of connections, which
// is the whole machine's.
const (
	Open BoundKind = "open" // MaxOpen
	Rate BoundKind = "rate" // MaxRate
)

// What one address may have. The table holds 262144 on most machines. An app under test has some dozens
// open; one that fetches its dependencies opens some hundreds in a few seconds.
const (
	MaxOpen  = 2048 // at the same time
	MaxRate  = 100  // new ones in a second, for longer
	MaxBurst = 2048 // new ones at once
)

// set is the name of the set in which the kernel keeps the state of each address.
func (b Bound) set() string {
	if b.IPv6 {
		return string(b.Kind) + "6"
	}
	return string(b.Kind) + "4"
}

// Protocol is a number of IP.
type Protocol uint8

// Protocols of rules.
const (
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
)

// Chains of rules.
const (
	Input   = "input"   // to the host itself
	Forward = "forward" // through the host
	Output  = "output"  // from the host itself
)

// closed are the ranges that no app reaches: those of special purpose that are not the
// internet (https://www.iana.org/assignments/iana-ipv4-special-registry and its sibling for
// IPv6), without those for documentation, and the address at which Azure has its agent.
var closed = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
	"::/8", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8")

// Metadata are the ranges in which clouds tell a machine its own secrets. Nothing in a container
// reaches them, whatever is allowed, but for the port of names of an address that is the host's
// name server as well, as that of Azure and of Google.
var Metadata = prefixes("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128", "fe80::/10")

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// Rules returns the rules, in their order within each chain. It is pure.
func Rules(o Options) []Rule {
	var rules []Rule
	add := func(in string, more ...Rule) {
		for _, r := range more {
			r.In = in
			rules = append(rules, r)
		}
	}
	bridges := slices.Concat(o.Apps, []string{o.Infra})
	for _, in := range bridges {
		// What answers somebody outside, as the proxy does, goes on.
		add(in, Rule{Chain: Input, Established: true, Accept: true}, Rule{Chain: Forward, Established: true, Accept: true})
		if in != o.Infra {
			for _, chain := range []string{Input, Forward} {
				for _, kind := range []BoundKind{Open, Rate} {
					add(in, Rule{Chain: chain, Over: Bound{Kind: kind}}, Rule{Chain: chain, Over: Bound{Kind: kind, IPv6: true}})
				}
			}
		}
		// Before metadata: in some clouds one address answers both, at ports of their own.
		for _, a := range o.Resolvers {
			for _, p := range []Protocol{UDP, TCP} {
				r := Rule{To: netip.PrefixFrom(a, a.BitLen()), Protocol: p, Port: 53, Accept: true}
				add(in, r.in(Input), r.in(Forward))
			}
		}
		for _, to := range Metadata {
			add(in, Rule{Chain: Forward, To: to})
		}
	}
	for _, in := range o.Apps {
		for _, d := range o.Allow {
			r := Rule{To: d.To, Protocol: TCP, Port: d.Port, Accept: true}
			if d.UDP {
				r.Protocol = UDP
			}
			add(in, r.in(Input), r.in(Forward))
		}
		add(in, Rule{Chain: Forward, Redirected: true})
		for _, out := range bridges {
			add(in, Rule{Chain: Forward, Out: out})
		}
		for _, to := range closed {
			add(in, Rule{Chain: Forward, To: to})
		}
	}
	for _, port := range o.Ports {
		add(o.Infra, Rule{Chain: Input, Protocol: TCP, Port: port, Accept: true})
	}
	for _, out := range o.Apps { // but by a published port
		add(o.Infra, Rule{Chain: Forward, Redirected: true, Out: out, Accept: true}, Rule{Chain: Forward, Out: out})
	}
	add(o.Infra, Rule{Chain: Forward, Out: o.Infra}) // they meet in a network of their own
	for _, in := range bridges {
		for _, kind := range []uint8{133, 135, 136} { // who has which address: IPv6 does not go without
			add(in, Rule{Chain: Input, Protocol: ICMPv6, Type: kind, Accept: true})
		}
		add(in, Rule{Chain: Input})
	}
	return rules
}

func (r Rule) in(chain string) Rule {
	r.Chain = chain
	return r
}

// String writes the rule as nft does, without its chain.
func (r Rule) String() string {
	var words []string
	add := func(there bool, format string, args ...any) {
		if there {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(r.Cgroup.ID != 0 && r.Cgroup.Path == "", "socket cgroupv2 level %d %d", r.Cgroup.Level, r.Cgroup.ID)
	add(r.Cgroup.ID != 0 && r.Cgroup.Path != "", "socket cgroupv2 level %d %q", r.Cgroup.Level, r.Cgroup.Path)
	add(r.In != "", "iifname %q", r.In)
	add(r.Out != "", "oifname %q", r.Out)
	add(r.Established, "ct state established,related")
	add(r.Redirected, "ct status dnat")
	family, over := "ip", fmt.Sprintf("ct count over %d", MaxOpen)
	if r.Over.IPv6 {
		family = "ip6"
	}
	if r.Over.Kind == Rate {
		over = fmt.Sprintf("limit rate over %d/second burst %d packets", MaxRate, MaxBurst)
	}
	add(r.Over.Kind != "", "ct state new update @%s { %s saddr %s }", r.Over.set(), family, over)
	add(r.To.IsValid() && r.To.Addr().Is4(), "ip daddr %s", r.To)
	add(r.To.IsValid() && r.To.Addr().Is6(), "ip6 daddr %s", r.To)
	add(r.Protocol == TCP, "tcp dport %d", r.Port)
	add(r.Protocol == UDP, "udp dport %d", r.Port)
	add(r.Protocol == ICMPv6, "icmpv6 type %d", r.Type)
	add(r.Accept, "accept")
	add(r.Refuse, "reject with icmpx admin-prohibited")
	add(!r.Accept && !r.Refuse, "drop")
	return strings.Join(words, " ")
}
