package reconcile

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/recipe-maintainers/cc-ci/internal/firewall"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/child"
	"github.com/recipe-maintainers/cc-ci/internal/testserver/dockerd"
)

// Addresses around the host of the test.
const (
	publicHost, internet  = "203.0.113.1", "203.0.113.7" // a network that looks public
	privateHost, neighbor = "10.77.0.1", "10.77.0.9"     // one of the operator's
	nameServer            = "10.77.0.53"
	metadata              = "169.254.169.254"
)

// The same by IPv6, and the network of apps, which Docker gives no such addresses: an operator may.
const (
	publicHost6, internet6  = "2001:db8:113::1", "2001:db8:113::7"
	privateHost6, neighbor6 = "fd77::1", "fd77::9"
	nameServer6             = "fd77::53"
	metadata6               = "fd00:ec2::254"
	gateway6                = "fd18::1"
)

// apps6 are the addresses of apps.
var apps6 = map[string]string{"one_app": "fd18::5", "two_app": "fd18::6"}

// site is a host between the internet and a private network, with two runs, the proxy and a
// service of its own that asks others.
type site struct {
	*testHost
	firewall FirewallOptions
	six      bool       // the machine has IPv6
	test     *testing.T // with which what is started ends
}

// TestN3_RealFirewall probes from inside containers what they reach: with the firewall, without it,
// with Docker's own chains gone, and after Docker has started again.
func TestN3_RealFirewall(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	t.Run("an app reaches the internet alone", func(t *testing.T) { s.judge(t, true) })
	t.Run("the proxy is reached from everywhere else", s.proxyServes)
	t.Run("infrastructure reaches what it needs", s.infrastructure)
	t.Run("without the firewall all is open", func(t *testing.T) { // or the probes would show nothing
		if err := s.table().Remove(); err != nil {
			t.Fatal(err)
		}
		s.flushDocker(t)
		s.judge(t, false)
	})
	t.Run("it is put back, and needs none of Docker's chains", func(t *testing.T) {
		const want = "installing the rules of the firewall: the table is not there"
		dry := s.runner(t)
		dry.DryRun = true
		reports, err := dry.Run(t.Context(), Firewall(s.firewall))
		if there, existsErr := s.table().Exists(); err != nil || len(reports[0].Actions) != 1 || reports[0].Actions[0].Name != want || there || existsErr != nil {
			t.Errorf("dry it says %v, %v; then the table is there: %t, %v", texts(reports[0].Actions), err, there, existsErr)
		}
		if did := s.reconcile(t); len(did) != 1 || did[0] != want {
			t.Errorf("did %v", did)
		}
		s.judge(t, true)
	})
	t.Run("a rule that was removed comes back", func(t *testing.T) {
		s.run(t, "nft", "flush", "chain", "inet", firewall.Name, firewall.Forward)
		if did := s.reconcile(t); len(did) != 1 || !strings.Contains(did[0], "chain forward has 0 rules") {
			t.Errorf("did %v", did)
		}
		s.judge(t, true)
	})
	t.Run("Docker starts again", func(t *testing.T) {
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"one_app", "two_app", "cc-ci_asks", "cc-ci_traefik"} {
			s.await(t, name+" runs again", func() bool { return s.container(t, name) != "" })
		}
		s.judge(t, true)
		s.await(t, "the proxy serves again", func() bool { // it answers 404 until it has read its routers from swarm
			res, err := s.client(false).Get("https://" + domain + pingPath)
			if err != nil {
				return false
			}
			res.Body.Close()
			return res.StatusCode == http.StatusOK
		})
		s.proxyServes(t)
		if did := s.reconcile(t); len(did) != 0 {
			t.Errorf("did %v", did)
		}
	})
	t.Run("what the operator allows", s.allowed)
}

// On a host whose Docker has its rules in the older iptables the table does the same.
func TestN3_RealFirewallBesideLegacyTables(t *testing.T) {
	t.Parallel()
	legacy, err := exec.LookPath("iptables-legacy")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no iptables-legacy")
		}
		t.Skip("there is no iptables-legacy")
	}
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		if err := os.Symlink(strings.Replace(legacy, "iptables", name, 1), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, "PATH="+dir+":"+os.Getenv("PATH"))
	if tables := strings.TrimSpace(s.run(t, "nft", "list", "tables")); tables != "table inet "+firewall.Name+"\ntable inet "+firewall.DaemonName {
		t.Fatalf("Docker has tables of nftables here: %s", tables)
	}
	s.judge(t, true)
	s.proxyServes(t)
	s.infrastructure(t)
	if err := s.table().Remove(); err != nil {
		t.Fatal(err)
	}
	s.run(t, "iptables-legacy", "-P", "FORWARD", "ACCEPT")
	s.run(t, "iptables-legacy", "-F")
	s.judge(t, false)
	// As at the start of the machine, before Docker is asked anything.
	for _, want := range []bool{true, false} {
		if raised, err := s.firewall.Raise(t.Context()); raised != want || err != nil {
			t.Errorf("%t, %v", raised, err)
		}
	}
	s.judge(t, true)
	if did := s.reconcile(t); len(did) != 0 {
		t.Errorf("did %v", did)
	}
}

func newSite(t *testing.T, env ...string) *site {
	group := cgroup(t)
	h := newHost(t, env...)
	h.Cgroup = group
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
	files, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	_, noIPv6 := os.Stat("/proc/net/if_inet6")
	s := &site{testHost: h, six: noIPv6 == nil, test: t}
	s.link(t, "inet", publicHost, internet)
	s.link(t, "priv", privateHost, neighbor, nameServer)
	s.run(t, "ip", "route", "add", metadata, "via", neighbor)
	private := s.namespace("priv")
	s.outside(t, private, "ip", "addr", "add", metadata+"/32", "dev", "lo")
	h.converge(t, h.options()) // Traefik publishes ports of this host; it has two more of its own
	if s.six {
		s.link6(t)
	} else {
		t.Log("this machine has no IPv6: nothing is probed by it")
	}
	for namespace, ports := range map[string][]string{s.namespace("inet"): {"8080"}, private: {"8080", "53"}, s.Namespace(): {"6379", "9100"}} {
		start(t, namespace, files["guest"], append([]string{"listen"}, ports...)...)
	}
	s.firewall = FirewallOptions{Namespace: h.Namespace(), Ports: []uint16{80, 443}, Bridges: Bridges(h.Docker),
		Resolvers: func() ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(nameServer), netip.MustParseAddr(nameServer6)}, nil
		}}
	s.firewall.Docker = DockerOptions{Cgroup: filepath.Base(group), Published: []firewall.Destination{{Port: ProxyHTTP}, {Port: ProxyHTTPS}}, Resolvers: s.firewall.Resolvers}
	if did := s.reconcile(t); len(did) != 2 {
		t.Errorf("the firewall did %v", did)
	}
	if did := s.reconcile(t); len(did) != 0 {
		t.Errorf("again it did %v", did)
	}
	for _, run := range []string{"one", "two"} {
		s.run(t, "docker", "network", "create", "--driver", "overlay", run+"_net")
		h.guest(t, run+"_app", nil, run+"_net")
	}
	h.guest(t, "cc-ci_asks", nil, InfraNetwork, EgressNetwork)
	return s
}

// link6 gives IPv6 to the host, to its bridge for apps and to what is around it.
func (s *site) link6(t *testing.T) {
	t.Helper()
	s.run(t, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
	s.bridge6(t)
	for device, address := range map[string]string{"inet": publicHost6, "priv": privateHost6} {
		s.run(t, "ip", "addr", "add", address+"/64", "dev", device, "nodad")
	}
	for side, addresses := range map[string][]string{"inet": {publicHost6, internet6}, "priv": {privateHost6, neighbor6, nameServer6}} {
		for _, a := range addresses[1:] {
			s.outside(t, s.namespace(side), "ip", "addr", "add", a+"/64", "dev", "eth0", "nodad")
		}
		s.outside(t, s.namespace(side), "ip", "route", "add", "fd18::/64", "via", addresses[0])
	}
	s.outside(t, s.namespace("priv"), "ip", "addr", "add", metadata6+"/128", "dev", "lo")
	s.run(t, "ip", "route", "add", metadata6+"/128", "via", neighbor6)
}

// bridge6 gives IPv6 to the bridge for apps. Docker takes it away as it starts.
func (s *site) bridge6(t *testing.T) {
	t.Helper()
	s.run(t, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/docker_gwbridge/disable_ipv6")
	s.run(t, "ip", "addr", "replace", gateway6+"/64", "dev", "docker_gwbridge", "nodad")
}

// apps6 gives IPv6 to the bridge and to the containers of apps that have none yet, and a server to the second one.
func (s *site) apps6(t *testing.T) {
	t.Helper()
	s.bridge6(t)
	files, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for name, address := range apps6 {
		inside, device := s.interfaceOf(t, name)
		if strings.Contains(s.outside(t, inside, "ip", "-br", "-6", "addr", "show", device), address) {
			continue
		}
		s.outside(t, inside, "sh", "-c", "for i in all "+device+"; do echo 0 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done")
		s.outside(t, inside, "ip", "addr", "add", address+"/64", "dev", device, "nodad")
		s.outside(t, inside, "ip", "route", "add", "default", "via", gateway6, "dev", device)
		if name == "two_app" {
			start(s.test, inside, files["guest"], "listen", "8081")
			s.await(t, "the server of the second app", func() bool {
				out := s.outside(t, inside, files["guest"], "dial", "tcp", "["+address+"]:8081")
				return strings.HasSuffix(strings.TrimSpace(out), " open")
			})
		}
	}
}

func (s *site) table() firewall.Table { return firewall.Table{Namespace: s.Namespace()} }

func (s *site) reconcile(t *testing.T) []string {
	t.Helper()
	reports, err := s.runner(t).Run(t.Context(), Firewall(s.firewall))
	if err != nil {
		t.Fatal(err)
	}
	return texts(reports[0].Actions)
}

// probes returns what an app must not reach, by what it is.
func (s *site) probes(t *testing.T) map[string]string {
	t.Helper()
	gateway := strings.Fields(s.run(t, "ip", "-br", "-4", "addr", "show", "docker_gwbridge"))[2]
	gateway, _, _ = strings.Cut(gateway, "/")
	probes := map[string]string{
		gateway + ":6379":         "the gateway, a server of the host",
		gateway + ":9100":         "the gateway, another server of the host",
		publicHost + ":6379":      "the host's public address, a server of the host",
		dockerd.Address + ":6379": "the host's address on docker0",
		privateHost + ":9100":     "the host's private address",
		gateway + ":443":          "the gateway, a published port",
		publicHost + ":443":       "the host's public address, a published port",
		publicHost + ":80":        "the host's public address, another published port",
		neighbor + ":8080":        "a private network",
		nameServer + ":8080":      "another port of the name server",
		metadata + ":8080":        "metadata",
		s.address(t, "two_app", "docker_gwbridge") + ":8080": "another run",
	}
	if !s.six {
		return probes
	}
	s.apps6(t)
	_, device := s.interfaceOf(t, "one_app")
	for _, a := range strings.Fields(s.run(t, "ip", "-br", "-6", "addr", "show", "docker_gwbridge"))[2:] {
		if a, _, _ = strings.Cut(a, "/"); strings.HasPrefix(a, "fe80:") {
			probes["["+a+"%"+device+"]:6379"] = "the gateway's address on the link"
		}
	}
	probes["[ff02::1%"+device+"]:6379"] = group
	for address, what := range map[string]string{
		gateway6 + "]:6379":         "the gateway, a server of the host",
		gateway6 + "]:443":          "the gateway, a published port",
		publicHost6 + "]:6379":      "the host's public address, a server of the host",
		publicHost6 + "]:443":       "the host's public address, a published port",
		privateHost6 + "]:9100":     "the host's private address",
		neighbor6 + "]:8080":        "a private network",
		nameServer6 + "]:8080":      "another port of the name server",
		metadata6 + "]:8080":        "metadata",
		apps6["two_app"] + "]:8081": "another run",
	} {
		probes["["+address] = what
	}
	return probes
}

// group is what a group of addresses is called among the probes; TCP has none.
const group = "all nodes on the link"

// judge asks from inside of an app. Closed or not, it reaches the internet and the name server.
func (s *site) judge(t *testing.T, closed bool) {
	t.Helper()
	probes := s.probes(t)
	open := []string{internet + ":8080", nameServer + ":53"}
	if s.six {
		open = append(open, "["+internet6+"]:8080", "["+nameServer6+"]:53")
	}
	for _, network := range []string{"tcp", "udp"} {
		targets := slices.Concat(slices.Sorted(maps.Keys(probes)), open)
		if network == "udp" { // which TCP's published ports are not
			targets = slices.DeleteFunc(targets, func(a string) bool { return strings.HasSuffix(a, ":443") || strings.HasSuffix(a, ":80") })
		} else {
			targets = slices.DeleteFunc(targets, func(a string) bool { return probes[a] == group })
		}
		said := s.inside(t, "one_app", append([]string{"dial", network}, targets...)...)
		for _, address := range targets {
			want := "open"
			if closed && probes[address] != "" {
				want = "silent"
			}
			if said[address] != want {
				t.Errorf("%s by %s (%s) is %q, not %s", address, network, probes[address], said[address], want)
			}
		}
	}
}

// proxyServes asks for Traefik's ports from the internet, from the private network and from the host.
func (s *site) proxyServes(t *testing.T) {
	files, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for namespace, address := range map[string]string{s.namespace("inet"): publicHost + ":443", s.namespace("priv"): privateHost + ":443", s.Namespace(): "127.0.0.1:443"} {
		if out := s.outside(t, namespace, files["guest"], "dial", "tcp", address); !strings.HasSuffix(strings.TrimSpace(out), " open") {
			t.Errorf("from %s: %s", filepath.Base(namespace), out)
		}
	}
	// docker-proxy serves what comes from the host itself, and has dockerd's control group.
	conn, err := s.Dial(t.Context(), "tcp", "127.0.0.1:443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: domain}).Handshake(); err != nil {
		t.Errorf("on loopback the proxy answers %v", err)
	}
	if res, _ := get(t, s.client(false), "https://"+domain+pingPath); res.StatusCode != 200 {
		t.Errorf("the proxy answers %s", res.Status)
	}
}

// infrastructure asks from a service as the bridge is one.
func (s *site) infrastructure(t *testing.T) {
	want := map[string]string{
		internet + ":8080": "open", neighbor + ":8080": "open", // a forge may be on a private address
		publicHost + ":443":  "open", // Drone, through the proxy
		publicHost + ":6379": "silent", metadata + ":8080": "silent",
		s.address(t, "one_app", "docker_gwbridge") + ":8080": "silent",
	}
	said := s.inside(t, "cc-ci_asks", append([]string{"dial", "tcp"}, slices.Sorted(maps.Keys(want))...)...)
	for address, wanted := range want {
		if said[address] != wanted {
			t.Errorf("%s is %q, not %s", address, said[address], wanted)
		}
	}
	// And no app reaches it: neither where it has its way out nor in its own network.
	inside := map[string]string{s.address(t, "cc-ci_asks", EgressNetwork) + ":8080": "", s.address(t, "cc-ci_asks", InfraNetwork) + ":8080": ""}
	for address, answer := range s.inside(t, "one_app", append([]string{"dial", "tcp"}, slices.Sorted(maps.Keys(inside))...)...) {
		if answer == "open" {
			t.Errorf("an app asks %s: %s", address, answer)
		}
	}
}

// allowed opens one port of one address.
func (s *site) allowed(t *testing.T) {
	s.firewall.Allow = []firewall.Destination{{To: netip.MustParsePrefix(neighbor + "/32"), Port: 8080}, {To: netip.MustParsePrefix(neighbor6 + "/128"), Port: 8080}}
	if did := s.reconcile(t); len(did) != 1 {
		t.Errorf("did %v", did)
	}
	said := s.inside(t, "one_app", "dial", "tcp", neighbor+":8080", nameServer+":8080", metadata+":8080")
	if said[neighbor+":8080"] != "open" || said[nameServer+":8080"] != "silent" || said[metadata+":8080"] != "silent" {
		t.Errorf("an app hears %v", said)
	}
	if !s.six {
		return
	}
	said = s.inside(t, "one_app", "dial", "tcp", "["+neighbor6+"]:8080", "["+nameServer6+"]:8080", "["+metadata6+"]:8080")
	if said["["+neighbor6+"]:8080"] != "open" || said["["+nameServer6+"]:8080"] != "silent" || said["["+metadata6+"]:8080"] != "silent" {
		t.Errorf("by IPv6 an app hears %v", said)
	}
}

// flushDocker empties the filter chains that Docker has made, and lets pass what they would.
func (s *site) flushDocker(t *testing.T) {
	t.Helper()
	s.run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	s.run(t, "iptables", "-F")
}

// address returns a container's address in a network; docker_gwbridge's is known to Docker alone.
func (s *site) address(t *testing.T, service, network string) string {
	t.Helper()
	id := s.container(t, service)
	if network != "docker_gwbridge" {
		info, err := s.Docker.ContainerInspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return info.NetworkSettings.Networks[network].IPAddress
	}
	namespace, device := s.interfaceOf(t, service)
	fields := strings.Fields(s.outside(t, namespace, "ip", "-br", "-4", "addr", "show", device))
	address, _, _ := strings.Cut(fields[2], "/")
	return address
}

// interfaceOf returns the network namespace of a service's container, and its interface on docker_gwbridge.
func (s *site) interfaceOf(t *testing.T, service string) (namespace, device string) {
	t.Helper()
	info, err := s.Docker.ContainerInspect(t.Context(), s.container(t, service))
	if err != nil {
		t.Fatal(err)
	}
	namespace = fmt.Sprintf("/proc/%d/ns/net", info.State.Pid)
	all := s.outside(t, namespace, "ip", "-br", "-4", "addr")
	for line := range strings.Lines(all) {
		if f := strings.Fields(line); strings.HasPrefix(f[2], s.gatewayPrefix(t)) {
			device, _, _ := strings.Cut(f[0], "@")
			return namespace, device
		}
	}
	t.Fatalf("%s has no address on docker_gwbridge:\n%s", service, all)
	return "", ""
}

// gatewayPrefix is how each address on docker_gwbridge begins.
func (s *site) gatewayPrefix(t *testing.T) string {
	t.Helper()
	parts := strings.SplitAfter(strings.Fields(s.run(t, "ip", "-br", "-4", "addr", "show", "docker_gwbridge"))[2], ".")
	return parts[0] + parts[1]
}

func (s *site) namespace(side string) string { return s.Namespace() + "-" + side }

// link joins a namespace of its own to the host's, with these addresses, and ends with the test.
func (s *site) link(t *testing.T, side, host string, addresses ...string) {
	t.Helper()
	there := s.namespace(side)
	name := filepath.Base(there)
	run(t, exec.Command("ip", "netns", "add", name))
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	run(t, exec.Command("ip", "-n", filepath.Base(s.Namespace()), "link", "add", side, "type", "veth", "peer", "name", "eth0", "netns", name))
	s.run(t, "ip", "addr", "add", host+"/24", "dev", side)
	s.run(t, "ip", "link", "set", side, "up")
	for _, a := range addresses {
		s.outside(t, there, "ip", "addr", "add", a+"/24", "dev", "eth0")
	}
	for _, device := range []string{"lo", "eth0"} {
		s.outside(t, there, "ip", "link", "set", device, "up")
	}
}

// run runs a program in the host's network.
func (s *site) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return run(t, s.Command(t.Context(), name, args...))
}

// outside runs a program in another namespace.
func (s *site) outside(t *testing.T, namespace, name string, args ...string) string {
	t.Helper()
	return run(t, exec.CommandContext(t.Context(), "nsenter", append([]string{"--net=" + namespace, name}, args...)...))
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
	return string(out)
}

// start starts a server in a namespace; it ends with the test.
func start(t *testing.T, namespace, name string, args ...string) {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net=" + namespace, name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
}
