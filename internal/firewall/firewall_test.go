package firewall

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func example() Options {
	return Options{
		Apps: []string{"docker_gwbridge", "br-0123456789ab"}, Infra: "docker0", Ports: []uint16{80, 443},
		Resolvers: []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("fd00::53")},
		Allow:     []Destination{{To: netip.MustParsePrefix("10.1.2.0/24"), Port: 443}, {To: netip.MustParsePrefix("fd01::7/128"), Port: 53, UDP: true}},
	}
}

// packet is what a rule judges.
type packet struct {
	chain, in, out          string
	established, redirected bool
	over                    BoundKind
	to                      string
	protocol                Protocol
	port                    uint16
	icmp                    uint8
	cgroup                  uint64
}

// judge says what becomes of a packet: the first rule that fits decides, and what no rule fits passes.
func judge(rules []Rule, p packet) bool {
	to := netip.MustParseAddr(p.to)
	for _, r := range rules {
		if r.Chain == p.chain && (r.In == "" || r.In == p.in) && (r.Out == "" || r.Out == p.out) && (!r.Established || p.established) &&
			(r.Over.Kind == "" || r.Over.Kind == p.over && r.Over.IPv6 == to.Is6()) && (r.Cgroup.ID == 0 || r.Cgroup.ID == p.cgroup) &&
			(!r.Redirected || p.redirected) && (!r.To.IsValid() || r.To.Contains(to)) && (r.Protocol == 0 || r.Protocol == p.protocol) &&
			(r.Protocol != TCP && r.Protocol != UDP || r.Port == p.port) && (r.Protocol != ICMPv6 || r.Type == p.icmp) {
			return r.Accept
		}
	}
	return true
}

func TestN3_WhatPasses(t *testing.T) {
	rules := Rules(example())
	app, infra := "docker_gwbridge", "docker0"
	for _, tc := range []struct {
		what string
		p    packet
		want bool
	}{
		{"app to the internet", packet{chain: Forward, in: app, out: "eth0", to: "203.0.113.7", protocol: TCP, port: 443}, true},
		{"app to the internet by IPv6", packet{chain: Forward, in: app, out: "eth0", to: "2001:db8::7", protocol: TCP, port: 443}, true},
		{"app's answer to a private address", packet{chain: Forward, in: app, out: "eth0", to: "10.9.9.9", protocol: TCP, port: 50000, established: true}, true},
		{"app to the internet with many connections", packet{chain: Forward, in: app, out: "eth0", to: "203.0.113.7", protocol: TCP, port: 443, over: Open}, false},
		{"app to the internet by IPv6 with many", packet{chain: Forward, in: app, out: "eth0", to: "2001:db8::7", protocol: TCP, port: 443, over: Open}, false},
		{"app asks a name server too often", packet{chain: Input, in: app, to: "fd00::53", protocol: UDP, port: 53, over: Rate}, false},
		{"app with many connections answers", packet{chain: Forward, in: app, out: "eth0", to: "203.0.113.7", protocol: TCP, port: 50000, established: true, over: Rate}, true},
		{"bridge with many connections", packet{chain: Forward, in: infra, out: "eth0", to: "203.0.113.7", protocol: TCP, port: 443, over: Open}, true},
		{"app to a private address", packet{chain: Forward, in: app, out: "eth0", to: "10.9.9.9", protocol: TCP, port: 443}, false},
		{"app to 172.16/12", packet{chain: Forward, in: app, out: "eth0", to: "172.31.255.255", protocol: UDP, port: 53}, false},
		{"app to 192.168/16", packet{chain: Forward, in: app, out: "eth0", to: "192.168.1.1", protocol: TCP, port: 22}, false},
		{"app to carrier-grade NAT", packet{chain: Forward, in: app, out: "eth0", to: "100.64.0.1", protocol: TCP, port: 22}, false},
		{"app to metadata", packet{chain: Forward, in: app, out: "eth0", to: "169.254.169.254", protocol: TCP, port: 80}, false},
		{"app to metadata of Azure", packet{chain: Forward, in: app, out: "eth0", to: "168.63.129.16", protocol: TCP, port: 80}, false},
		{"app to metadata by IPv6", packet{chain: Forward, in: app, out: "eth0", to: "fd00:ec2::254", protocol: TCP, port: 80}, false},
		{"app to a unique local address", packet{chain: Forward, in: app, out: "eth0", to: "fd12::1", protocol: TCP, port: 80}, false},
		{"app to a private address as NAT64 writes it", packet{chain: Forward, in: app, out: "eth0", to: "64:ff9b::a00:1", protocol: TCP, port: 80}, false},
		{"app to a group", packet{chain: Forward, in: app, out: "eth0", to: "239.1.1.1", protocol: UDP, port: 80}, false},
		{"app to a neighbour", packet{chain: Forward, in: app, out: app, to: "203.0.113.7", protocol: TCP, port: 80}, false},
		{"app to infrastructure", packet{chain: Forward, in: app, out: infra, to: "203.0.113.7", protocol: TCP, port: 80}, false},
		{"app to a published port", packet{chain: Forward, in: app, out: "eth1", to: "203.0.113.7", protocol: TCP, port: 80, redirected: true}, false},
		{"app to the host", packet{chain: Input, in: app, to: "203.0.113.1", protocol: TCP, port: 443}, false},
		{"app to its gateway", packet{chain: Input, in: app, to: "172.18.0.1", protocol: TCP, port: 6379}, false},
		{"app pings the host", packet{chain: Input, in: app, to: "172.18.0.1", protocol: 1}, false},
		{"app's answer to the host", packet{chain: Input, in: app, to: "172.18.0.1", protocol: TCP, port: 50000, established: true}, true},
		{"app asks who has an address", packet{chain: Input, in: app, to: "fe80::1", protocol: ICMPv6, icmp: 135}, true},
		{"app asks a name server", packet{chain: Forward, in: app, out: "eth0", to: "10.0.0.53", protocol: UDP, port: 53}, true},
		{"app asks one on the host", packet{chain: Input, in: app, to: "fd00::53", protocol: TCP, port: 53}, true},
		{"app asks a name server something else", packet{chain: Forward, in: app, out: "eth0", to: "10.0.0.53", protocol: TCP, port: 22}, false},
		{"app to what is allowed", packet{chain: Forward, in: app, out: "eth0", to: "10.1.2.3", protocol: TCP, port: 443}, true},
		{"app to another port of it", packet{chain: Forward, in: app, out: "eth0", to: "10.1.2.3", protocol: TCP, port: 80}, false},
		{"app to it by UDP", packet{chain: Forward, in: app, out: "eth0", to: "10.1.2.3", protocol: UDP, port: 443}, false},
		{"app to what is allowed by UDP", packet{chain: Input, in: app, to: "fd01::7", protocol: UDP, port: 53}, true},
		{"bridge to a private forge", packet{chain: Forward, in: infra, out: "eth0", to: "10.9.9.9", protocol: TCP, port: 443}, true},
		{"bridge to the proxy's port", packet{chain: Input, in: infra, to: "203.0.113.1", protocol: TCP, port: 443}, true},
		{"bridge to another port of the host", packet{chain: Input, in: infra, to: "172.19.0.1", protocol: TCP, port: 22}, false},
		{"bridge to metadata", packet{chain: Forward, in: infra, out: "eth0", to: "169.254.169.254", protocol: TCP, port: 80}, false},
		{"bridge to an app", packet{chain: Forward, in: infra, out: app, to: "172.18.0.5", protocol: TCP, port: 80}, false},
		{"bridge to an app's published port", packet{chain: Forward, in: infra, out: app, to: "172.18.0.5", protocol: TCP, port: 80, redirected: true}, true},
		{"bridge to Drone, out of their own network", packet{chain: Forward, in: infra, out: infra, to: "172.17.0.5", protocol: TCP, port: 80}, false},
		{"a person to the proxy", packet{chain: Forward, in: "eth0", out: app, to: "172.18.0.5", protocol: TCP, port: 443, redirected: true}, true},
		{"a person to the host", packet{chain: Input, in: "eth0", to: "203.0.113.1", protocol: TCP, port: 22}, true},
		{"the host to itself", packet{chain: Input, in: "lo", to: "127.0.0.1", protocol: TCP, port: 6379}, true},
	} {
		if got := judge(rules, tc.p); got != tc.want {
			t.Errorf("%s: passes %t", tc.what, got)
		}
	}
	// Azure's name server has the address of its agent, and Google's that of its metadata.
	for _, address := range []string{"168.63.129.16", "169.254.169.254"} {
		o := example()
		o.Resolvers = []netip.Addr{netip.MustParseAddr(address)}
		for _, in := range []string{app, infra} {
			if !judge(Rules(o), packet{chain: Forward, in: in, out: "eth0", to: address, protocol: UDP, port: 53}) {
				t.Errorf("%s: no names for %s", address, in)
			}
			if judge(Rules(o), packet{chain: Forward, in: in, out: "eth0", to: address, protocol: TCP, port: 80}) {
				t.Errorf("%s: metadata for %s", address, in)
			}
		}
	}
	// Not even an operator lets an app to metadata.
	o := example()
	o.Allow = append(o.Allow, Destination{To: netip.MustParsePrefix("169.0.0.0/8"), Port: 80})
	if judge(Rules(o), packet{chain: Forward, in: app, out: "eth0", to: "169.254.169.254", protocol: TCP, port: 80}) {
		t.Error("metadata can be allowed")
	}
}

func exampleDaemon() DaemonOptions {
	return DaemonOptions{Cgroup: Cgroup{ID: 4711, Level: 1}, Resolvers: []netip.Addr{netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("10.0.0.53")},
		Allow:   []Destination{{To: netip.MustParsePrefix("10.1.2.3/32"), Port: 5000}, {To: netip.MustParsePrefix("169.0.0.0/8"), Port: 80}},
		Gateway: "docker_gwbridge", Published: []Destination{{Port: 443}, {Port: 64738, UDP: true}}}
}

func TestN3_WhatDockerdReaches(t *testing.T) {
	rules := DaemonRules(exampleDaemon())
	for _, tc := range []struct {
		what string
		p    packet
		want bool
	}{
		{"a registry", packet{out: "eth0", to: "203.0.113.7", protocol: TCP, port: 443}, true},
		{"a registry by IPv6", packet{out: "eth0", to: "2001:db8::7", protocol: TCP, port: 443}, true},
		{"a registry by NAT64", packet{out: "eth0", to: "64:ff9b::cb00:7107", protocol: TCP, port: 443}, true},
		{"a private address by NAT64", packet{out: "eth0", to: "64:ff9b::a00:1", protocol: TCP, port: 443}, false},
		{"metadata by NAT64", packet{out: "eth0", to: "64:ff9b::a9fe:a9fe", protocol: TCP, port: 80}, false},
		{"loopback", packet{out: "lo", to: "127.0.0.1", protocol: TCP, port: 2019}, false},
		{"loopback by IPv6", packet{out: "lo", to: "::1", protocol: TCP, port: 2019}, false},
		{"the host's public address", packet{out: "lo", to: "203.0.113.1", protocol: TCP, port: 443}, false},
		{"metadata", packet{out: "eth0", to: "169.254.169.254", protocol: TCP, port: 80}, false},
		{"a private address", packet{out: "eth0", to: "10.9.9.9", protocol: TCP, port: 443}, false},
		{"a private address by UDP", packet{out: "eth0", to: "10.9.9.9", protocol: UDP, port: 443}, false},
		{"a shared address", packet{out: "eth0", to: "100.64.0.1", protocol: TCP, port: 443}, false},
		{"a unique local address", packet{out: "eth0", to: "fd00::1", protocol: TCP, port: 443}, false},
		{"a group", packet{out: "eth0", to: "239.1.1.1", protocol: UDP, port: 443}, false},
		{"an answer to a private address", packet{out: "eth0", to: "10.9.9.9", protocol: TCP, port: 50000, established: true}, true},
		{"a mirror", packet{out: "eth0", to: "10.1.2.3", protocol: TCP, port: 5000}, true},
		{"another port of it", packet{out: "eth0", to: "10.1.2.3", protocol: TCP, port: 22}, false},
		{"a name server", packet{out: "eth0", to: "10.0.0.53", protocol: UDP, port: 53}, true},
		{"one on loopback", packet{out: "lo", to: "127.0.0.53", protocol: TCP, port: 53}, true},
		{"another port of it", packet{out: "lo", to: "127.0.0.53", protocol: TCP, port: 80}, false},
		{"the swarm", packet{out: "lo", to: "127.0.0.1", protocol: TCP, port: 2377}, true},
		{"the proxy's container", packet{out: "docker_gwbridge", to: "172.18.0.5", protocol: TCP, port: 443}, true},
		{"the proxy's container by UDP", packet{out: "docker_gwbridge", to: "172.18.0.5", protocol: UDP, port: 64738}, true},
		{"an app's container", packet{out: "docker_gwbridge", to: "172.18.0.5", protocol: TCP, port: 8080}, false},
		{"a container of infrastructure", packet{out: "docker0", to: "172.17.0.2", protocol: TCP, port: 443}, false},
	} {
		tc.p.chain, tc.p.cgroup = Output, 4711
		if got := judge(rules, tc.p); got != tc.want {
			t.Errorf("%s: passes %t", tc.what, got)
		}
		tc.p.cgroup = 1
		if !judge(rules, tc.p) {
			t.Errorf("%s: a program that is not dockerd does not reach it", tc.what)
		}
	}
}

func namespace(t *testing.T) Table {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("nftables needs root")
		}
		t.Skip("nftables needs root")
	}
	name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	return Table{Namespace: "/run/netns/" + name}
}

// The kernel has what was wanted, whatever was there; each change by somebody else is seen and mended.
func TestRealTable(t *testing.T) {
	table := namespace(t)
	rules := Rules(example())
	differs := func(want string) {
		t.Helper()
		if why, err := table.Differs(rules); err != nil || !strings.Contains(why, want) || want == "" && why != "" {
			t.Errorf("want %q, got %q, %v", want, why, err)
		}
	}
	nft := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("nsenter", slices.Concat([]string{"--net=" + table.Namespace, "nft"}, args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("nft %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	install := func() {
		t.Helper()
		if err := table.Install(rules); err != nil {
			t.Fatal(err)
		}
		differs("")
	}
	differs("the table is not there")
	install()
	install()
	shown := nft("list", "table", "inet", Name)
	if n := strings.Count(shown, "\taccept\n") + strings.Count(shown, " accept\n") + strings.Count(shown, " drop\n"); n != len(rules) {
		t.Errorf("nft shows %d rules of %d", n, len(rules))
	}
	for _, r := range rules {
		if r.Protocol != 0 || r.Established || r.To.IsValid() && r.To.IsSingleIP() || r.Out != "" && r.Redirected {
			continue // nft writes these another way
		}
		if !strings.Contains(shown, "\t"+r.String()+"\n") {
			t.Errorf("nft does not show %q", r)
		}
	}
	for _, words := range []string{"hook input priority filter - 10; policy accept;", "hook forward priority filter - 10; policy accept;",
		`iifname "docker_gwbridge" ip daddr 10.0.0.53 udp dport 53 accept`, `iifname "docker0" tcp dport 443 accept`, `icmpv6 type nd-neighbor-solicit accept`} {
		if !strings.Contains(shown, words) {
			t.Errorf("nft does not show %q", words)
		}
	}
	if t.Failed() {
		t.Log(shown)
	}
	for want, change := range map[string][]string{
		"the table is not there":                     {"delete", "table", "inet", Name},
		"chain input has 0 rules":                    {"flush", "chain", "inet", Name, "input"},
		"chain forward has":                          {"add", "rule", "inet", Name, "forward", "accept"},
		"it has a further chain":                     {"add", "chain", "inet", Name, "other"},
		"it has flags":                               {"add", "table", "inet", Name, "{", "flags", "dormant", ";", "}"},
		"chain input is another one":                 {"add chain inet " + Name + " input { policy drop ; }"},
		`rule 1 of chain input is not: iifname "doc`: {"insert rule inet " + Name + " input accept; delete rule inet " + Name + " input handle " + lastHandle(nft("-a", "list", "chain", "inet", Name, "input"))},
	} {
		t.Run(want, func(t *testing.T) {
			if strings.Contains(change[0], "handle") { // handles are of the table that is there now
				change = []string{"insert rule inet " + Name + " input accept; delete rule inet " + Name + " input handle " + lastHandle(nft("-a", "list", "chain", "inet", Name, "input"))}
			}
			nft(change...)
			differs(want)
			install()
		})
	}
	nft("add table inet other; add chain inet other input { type filter hook input priority 0 ; }")
	differs("") // what is others' is theirs
	for range 2 {
		if err := table.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	differs("the table is not there")
	if all := nft("list", "tables"); !strings.Contains(all, "inet other") {
		t.Errorf("there is left %s", all)
	}
}

// What Text shows is what Install makes: nft, which reads it, then lists the same table.
func TestTextIsWhatTheKernelGets(t *testing.T) {
	daemon := exampleDaemon()
	daemon.Cgroup = Cgroup{} // nft knows those that are there
	for name, rules := range map[string][]Rule{Name: Rules(example()), DaemonName: DaemonRules(daemon)} {
		t.Run(name, func(t *testing.T) {
			table := namespace(t)
			table.Name = name
			nft := func(stdin string, args ...string) string {
				t.Helper()
				cmd := exec.Command("nsenter", slices.Concat([]string{"--net=" + table.Namespace, "nft"}, args)...)
				cmd.Stdin = strings.NewReader(stdin)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("nft %v: %v: %s", args, err, out)
				}
				return string(out)
			}
			if err := table.Install(rules); err != nil {
				t.Fatal(err)
			}
			installed := nft("", "list", "table", "inet", name)
			if err := table.Remove(); err != nil {
				t.Fatal(err)
			}
			nft(table.Text(rules), "-f", "-")
			if loaded := nft("", "list", "table", "inet", name); loaded != installed {
				t.Errorf("installed:\n%s\nas text:\n%s", installed, loaded)
			}
		})
	}
}

func TestTextNamesTheControlGroup(t *testing.T) {
	o := exampleDaemon()
	o.Cgroup.Path = "dockerd.slice"
	const want = `		socket cgroupv2 level 1 "dockerd.slice" ip daddr 10.1.2.3/32 tcp dport 5000 accept` + "\n"
	if text := (Table{Name: DaemonName}).Text(DaemonRules(o)); !strings.Contains(text, want) {
		t.Errorf("%s\nwithout %s", text, want)
	}
}

// lastHandle returns the handle of a chain's last rule.
func lastHandle(shown string) string {
	_, handle, _ := strings.Cut(shown[strings.LastIndex(shown, "drop # handle"):], "handle ")
	return strings.Fields(handle)[0]
}

// The control group is part of what is compared: one that is made again has another number.
func TestRealDaemonTable(t *testing.T) {
	table := namespace(t)
	table.Name = DaemonName
	o := exampleDaemon()
	if err := table.Install(DaemonRules(o)); err != nil {
		t.Fatal(err)
	}
	if why, err := table.Differs(DaemonRules(o)); why != "" || err != nil {
		t.Errorf("%q, %v", why, err)
	}
	o.Cgroup.ID++
	if why, err := table.Differs(DaemonRules(o)); !strings.Contains(why, "rule 2 of chain output is not: socket cgroupv2 level 1 4712") || err != nil {
		t.Errorf("%q, %v", why, err)
	}
	apps := Table{Namespace: table.Namespace} // is beside it, and not in its way
	for _, do := range []func() error{func() error { return apps.Install(Rules(example())) }, apps.Remove} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if there, err := table.Exists(); !there || err != nil {
			t.Errorf("%t, %v", there, err)
		}
	}
}

func TestFindCgroup(t *testing.T) {
	group := ""
	root, err := Hierarchy()
	if err == nil {
		group, err = os.MkdirTemp(root, "cc-ci-test-")
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	defer os.Remove(group)
	name := filepath.Base(group)
	if err := os.Mkdir(filepath.Join(group, "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	outer, err := FindCgroup(name)
	if err != nil || outer.ID == 0 || outer.Level != 1 || outer.Path != name {
		t.Errorf("%+v, %v", outer, err)
	}
	inner, err := FindCgroup(name + "/inner")
	if err != nil || inner.ID == outer.ID || inner.Level != 2 {
		t.Errorf("%+v, %v", inner, err)
	}
	if err := os.Remove(filepath.Join(group, "inner")); err != nil {
		t.Fatal(err)
	}
	if _, err := FindCgroup(name + "/inner"); ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(ccci.HintOf(err), "systemctl show docker --property=ControlGroup") || strings.Contains(ccci.HintOf(err), "inner") {
		t.Errorf("%v, %s", err, ccci.HintOf(err))
	}
}

func TestTableErrors(t *testing.T) {
	_, err := Table{Namespace: "/run/netns/none-of-that-name"}.Differs(nil)
	if err == nil || ccci.CodeOf(err) != ccci.CodeInfra || ccci.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
}
