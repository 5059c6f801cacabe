package reconcile

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/libnetwork/resolvconf"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/firewall"
)

// FirewallOptions say what containers may reach. All may be empty but Bridges.
type FirewallOptions struct {
	Allow []firewall.Destination // of apps, besides the internet
	Ports []uint16               // TCP ports of the host for cc-ci's own services: the proxy's

	// Bridges returns the interfaces of the host on which containers are, of apps and, as infra, of
	// EgressNetwork; [Bridges] asks Docker.
	Bridges func(ctx context.Context) (apps []string, infra string, err error)
	// Resolvers returns the name servers that containers ask; default is those of this host.
	Resolvers func() ([]netip.Addr, error)
	// Namespace is a file that stands for the host's network namespace; default is this process's.
	Namespace string

	Docker DockerOptions
}

// DockerOptions say what dockerd may reach, besides the internet.
type DockerOptions struct {
	// Cgroup is the path of the control group in which dockerd is. Without one dockerd reaches everything.
	Cgroup    string
	Allow     []firewall.Destination
	Names     []Name                 // mirrors and registries, by name
	Published []firewall.Destination // ports of containers to which docker-proxy leads; To is not read
	// Resolvers returns the name servers that dockerd itself asks; default is those of this host.
	Resolvers func() ([]netip.Addr, error)
}

// Name is a TCP port of whatever addresses a name has.
type Name struct {
	Host string
	Port uint16
}

// ruleset is one of the tables and the rules that belong in it, none where it is not to be there.
type ruleset struct {
	table firewall.Table
	what  string
	rules []firewall.Rule
}

// differs says in what the table that is there is another one; "" when in nothing.
func (s ruleset) differs() (string, error) {
	if s.rules != nil {
		return s.table.Differs(s.rules)
	}
	there, err := s.table.Exists()
	if there {
		return "the table is there, and the configuration has none", err
	}
	return "", err
}

func (s ruleset) settle() error {
	if s.rules == nil {
		return s.table.Remove()
	}
	return s.table.Install(s.rules)
}

// Firewall is the unit that keeps apps away from the host, from each other and from private
// networks, cc-ci's own services from what is none of theirs, and dockerd from what a registry could lead it to.
func Firewall(o FirewallOptions) Unit {
	return Unit{
		Name:    "firewall",
		Desired: func(context.Context) (Desired, error) { return Desired{}, nil },
		Steps: func(ctx context.Context) ([]Step, error) {
			wrong, err := o.wrong(ctx)
			var steps []Step
			for _, w := range wrong {
				steps = append(steps, Step{Text: "installing the rules of " + w.what + ": " + w.why, Do: func(context.Context) error { return w.settle() }})
			}
			return steps, err
		},
	}
}

// Differs says in what the firewall is not as the unit would make it; "" when in nothing.
func (o FirewallOptions) Differs(ctx context.Context) (string, error) {
	wrong, err := o.wrong(ctx)
	var all []string
	for _, w := range wrong {
		all = append(all, w.what+": "+w.why)
	}
	return strings.Join(all, "; "), err
}

// wrong returns the rules that are not in place, and why they are not.
func (o FirewallOptions) wrong(ctx context.Context) ([]misplaced, error) {
	var all []misplaced
	for _, ask := range []func(context.Context) (ruleset, error){o.apps, o.daemon} {
		s, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		why, err := s.differs()
		if err != nil {
			return nil, err
		}
		if why != "" {
			all = append(all, misplaced{s, why})
		}
	}
	return all, nil
}

type misplaced struct {
	ruleset
	why string
}

func (o FirewallOptions) apps(ctx context.Context) (ruleset, error) {
	apps, infra, err := o.Bridges(ctx)
	if err != nil {
		return ruleset{}, ccci.Errorf(ccci.CodeInfra, "asking Docker for its bridges: %w", err).
			WithHint("start the daemon (sudo systemctl start docker), or check DOCKER_HOST")
	}
	ask := o.Resolvers
	if ask == nil {
		ask = hostResolvers
	}
	resolvers, err := ask()
	if err != nil {
		return ruleset{}, ccci.Errorf(ccci.CodeInfra, "reading the name servers of this host: %w", err).
			WithHint("see /etc/resolv.conf")
	}
	rules := firewall.Rules(firewall.Options{Apps: apps, Infra: infra, Resolvers: resolvers, Allow: o.Allow, Ports: o.Ports})
	return ruleset{firewall.Table{Namespace: o.Namespace}, "the firewall", rules}, nil
}

// lookupLimit bounds how long the start of Docker waits for name servers.
const lookupLimit = 5 * time.Second

func (o FirewallOptions) daemon(ctx context.Context) (ruleset, error) {
	d := o.Docker
	set := ruleset{table: firewall.Table{Name: firewall.DaemonName, Namespace: o.Namespace}, what: "the firewall for dockerd"}
	if d.Cgroup == "" {
		return set, nil
	}
	group, err := firewall.FindCgroup(d.Cgroup)
	if err != nil {
		return set, err
	}
	ask := d.Resolvers
	if ask == nil {
		ask = daemonResolvers
	}
	resolvers, err := ask()
	if err != nil {
		return set, ccci.Errorf(ccci.CodeInfra, "reading the name servers of this host: %w", err).
			WithHint("see /etc/resolv.conf")
	}
	allow := slices.Clone(d.Allow)
	known, done := context.WithTimeout(ctx, lookupLimit)
	defer done()
	for _, n := range d.Names {
		found, _ := net.DefaultResolver.LookupNetIP(known, "ip", n.Host) // what is not found cannot be asked
		for _, a := range found {
			// The internet is open, and what has many addresses there gives others each time.
			if a = a.Unmap(); firewall.Closed(a) {
				allow = append(allow, firewall.Destination{To: netip.PrefixFrom(a, a.BitLen()), Port: n.Port})
			}
		}
	}
	// A name server that gives the addresses in another order each time changes nothing.
	slices.SortFunc(allow, func(a, b firewall.Destination) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	set.rules = firewall.DaemonRules(firewall.DaemonOptions{Cgroup: group, Resolvers: resolvers, Allow: slices.Compact(allow),
		Gateway: gatewayBridge, Published: d.Published})
	return set, nil
}

// withoutDocker are the options as far as they can be known before Docker runs. Without a list of name
// servers yet, none may be asked.
func (o FirewallOptions) withoutDocker() FirewallOptions {
	o.Bridges = func(context.Context) ([]string, string, error) { return []string{gatewayBridge}, defaultBridge, nil }
	o.Resolvers = lenient(o.Resolvers, hostResolvers)
	o.Docker.Resolvers = lenient(o.Docker.Resolvers, daemonResolvers)
	return o
}

// Text writes the tables that Raise installs where there are none, as nft reads them.
func (o FirewallOptions) Text(ctx context.Context) (string, error) {
	o = o.withoutDocker()
	var text string
	for _, ask := range []func(context.Context) (ruleset, error){o.apps, o.daemon} {
		s, err := ask(ctx)
		if err != nil {
			return "", err
		}
		if s.rules != nil {
			text += s.table.Text(s.rules)
		}
	}
	return text, nil
}

// Raise installs the rules that can be known without Docker, and reports whether it did: those for apps
// unless there are some already, which know more, and those for dockerd. It is for the start of Docker,
// before dockerd starts containers again; the unit adds what Docker knows.
func (o FirewallOptions) Raise(ctx context.Context) (bool, error) {
	o = o.withoutDocker()
	apps, err := o.apps(ctx)
	if err != nil {
		return false, err
	}
	raised := false
	if there, err := apps.table.Exists(); err != nil {
		return false, err
	} else if !there {
		if err := apps.settle(); err != nil {
			return false, err
		}
		raised = true
	}
	daemon, err := o.daemon(ctx)
	if err != nil {
		return raised, err
	}
	if why, err := daemon.differs(); why == "" || err != nil {
		return raised, err
	}
	return true, daemon.settle()
}

// lenient asks, and takes an error for none.
func lenient(ask, otherwise func() ([]netip.Addr, error)) func() ([]netip.Addr, error) {
	if ask == nil {
		ask = otherwise
	}
	return func() ([]netip.Addr, error) {
		all, _ := ask()
		return all, nil
	}
}

// Interfaces that Docker makes, unless it is told otherwise.
const (
	gatewayBridge = "docker_gwbridge"
	defaultBridge = "docker0"
)

// Bridges returns a function that lists the interfaces of Docker's bridges on this host: the one
// of EgressNetwork, and all others, which are those of apps.
func Bridges(docker *client.Client) func(context.Context) ([]string, string, error) {
	return func(ctx context.Context) ([]string, string, error) {
		apps, infra := []string{gatewayBridge}, defaultBridge // before Docker has made them too
		all, err := docker.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("driver", "bridge"), filters.Arg("scope", "local"))})
		for _, n := range all {
			name := n.Options[bridgeName]
			if name == "" {
				name = "br-" + n.ID[:min(12, len(n.ID))]
			}
			if n.Name == EgressNetwork {
				infra = name
			} else {
				apps = append(apps, name)
			}
		}
		slices.Sort(apps)
		return slices.Compact(apps), infra, err
	}
}

// bridgeName is the option of a bridge network that names its interface.
const bridgeName = "com.docker.network.bridge.name"

// hostResolvers are those that Docker hands to containers. On loopback they are not reached
// from there: Docker asks those itself.
func hostResolvers() ([]netip.Addr, error) {
	all, err := resolversOf(resolvconf.Path())
	return slices.DeleteFunc(all, netip.Addr.IsLoopback), err
}

// daemonResolvers are those that dockerd asks, for its own names and for those of containers.
func daemonResolvers() ([]netip.Addr, error) {
	own, err := resolversOf("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	containers, err := hostResolvers()
	for _, a := range containers {
		if !slices.Contains(own, a) {
			own = append(own, a)
		}
	}
	return own, err
}

func resolversOf(path string) ([]netip.Addr, error) {
	file, err := resolvconf.GetSpecific(path)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, server := range resolvconf.GetNameserversAsPrefix(file.Content) {
		all = append(all, server.Addr().WithZone("").Unmap())
	}
	return all, nil
}
