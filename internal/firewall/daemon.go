package firewall

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Cgroup is a control group of version 2, as the kernel's firewall knows it: not by its path. One that
// is made again under the same path is another one.
type Cgroup struct {
	ID    uint64
	Level uint32 // how deep it is
	Path  string // for people
}

// Hierarchy is where control groups of version 2 are mounted: alone, or beside those of version 1.
func Hierarchy() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); err == nil && stat.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", ccci.Errorf(ccci.CodeInfra, "this machine has no control groups of version 2 at /sys/fs/cgroup").
		WithHint("start it with systemd.unified_cgroup_hierarchy=1, or leave reconcile.firewall.docker_cgroup empty")
}

// FindCgroup returns the control group with this path, as dockerd.slice.
func FindCgroup(path string) (Cgroup, error) {
	root, err := Hierarchy()
	if err != nil {
		return Cgroup{}, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(root, path), &stat); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return Cgroup{}, ccci.Errorf(ccci.CodeInfra, "looking for the control group %s: %w", path, &os.PathError{Op: "stat", Path: filepath.Join(root, path), Err: err})
		}
		return Cgroup{}, ccci.Errorf(ccci.CodeInvalid, "there is no control group %s, so that the firewall cannot tell what dockerd sends", path).
			WithHint("systemctl show docker --property=ControlGroup says where Docker is; let it be in a slice of its own, as dockerd.slice (docs/reconcile.md, firewall), and name that in reconcile.firewall.docker_cgroup")
	}
	return Cgroup{ID: stat.Ino, Level: uint32(strings.Count(filepath.Clean(path), "/") + 1), Path: path}, nil
}

// DaemonOptions say what dockerd may reach of the host and of private networks. The internet it always
// reaches.
type DaemonOptions struct {
	Cgroup    Cgroup        // in which dockerd is, with its containerd and docker-proxy
	Resolvers []netip.Addr  // name servers of the host, those on loopback too
	Allow     []Destination // mirrors and registries, for example
	Gateway   string        // interface of the host on which containers with published ports are
	Published []Destination // ports of those containers, to which docker-proxy leads; To is not read
}

// Closed reports whether an address is in a range that is not the internet.
func Closed(a netip.Addr) bool {
	return slices.ContainsFunc(closed, func(p netip.Prefix) bool { return p.Contains(a) })
}

// swarmPorts are those at which the nodes of a swarm meet.
var swarmPorts = []Destination{{Port: 2377}, {Port: 7946}, {Port: 7946, UDP: true}, {Port: 4789, UDP: true}}

// DaemonRules returns the rules for dockerd, in their order. A recipe names the registries of its images,
// and a registry names further addresses: for a token, and by redirecting. So nothing of the host and of
// private networks is reached but what is named here. It is pure.
func DaemonRules(o DaemonOptions) []Rule {
	rules := []Rule{{Chain: Output, Established: true, Accept: true}}
	add := func(r Rule) {
		r.Chain, r.Cgroup = Output, o.Cgroup
		rules = append(rules, r)
	}
	accept := func(r Rule, port uint16, udp bool) {
		r.Protocol, r.Port, r.Accept = TCP, port, true
		if udp {
			r.Protocol = UDP
		}
		add(r)
	}
	for _, a := range o.Resolvers {
		for _, udp := range []bool{true, false} {
			accept(Rule{To: netip.PrefixFrom(a, a.BitLen())}, 53, udp)
		}
	}
	for _, to := range slices.Concat(Metadata, translations(Metadata)) {
		add(Rule{To: to, Refuse: true})
	}
	for _, d := range o.Allow {
		accept(Rule{To: d.To}, d.Port, d.UDP)
	}
	for _, d := range swarmPorts {
		accept(Rule{}, d.Port, d.UDP)
	}
	for _, d := range o.Published {
		accept(Rule{Out: o.Gateway}, d.Port, d.UDP)
	}
	add(Rule{Out: "lo", Refuse: true}) // each address of the host, the public ones too
	// A host without IPv4 reaches the internet by addresses of version 6 that hold one of version 4.
	for _, to := range translations(closed) {
		add(Rule{To: to, Refuse: true})
	}
	add(Rule{To: translated, Accept: true})
	for _, to := range closed {
		add(Rule{To: to, Refuse: true})
	}
	return rules
}

// translated is the range in which a gateway writes addresses of IPv4 (RFC 6052).
var translated = netip.MustParsePrefix("64:ff9b::/96")

// translations are the ranges of IPv4 among these as that gateway writes them.
func translations(all []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		if p.Addr().Is4() {
			a, four := translated.Addr().As16(), p.Addr().As4()
			copy(a[12:], four[:])
			out = append(out, netip.PrefixFrom(netip.AddrFrom16(a), 96+p.Bits()))
		}
	}
	return out
}
