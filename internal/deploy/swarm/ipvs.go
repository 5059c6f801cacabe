package swarm

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// useDNSRR decides, once per run, whether services are reached by the addresses of
// their tasks instead of a virtual address. A virtual address needs IPVS in the
// kernel; without it services start and cannot reach each other ("no route to
// host"), which would be blamed on the recipe.
func (d *Deployer) useDNSRR(ctx context.Context, stack *recipe.Stack) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dnsrr != nil {
		return *d.dnsrr
	}
	use := false
	switch d.o.EndpointMode {
	case EndpointDNSRR:
		use = true
	case EndpointAuto:
		local, release := d.sameKernel(ctx)
		switch {
		case !local:
			d.log.Info("cannot see the kernel of this Docker: services keep the endpoint mode of the recipe",
				"stack", stack.Name, "docker", d.docker.DaemonHost())
		case !hasIPVS("/", release):
			use = true
			d.log.Info("this kernel has no IPVS: every service gets endpoint_mode dnsrr, the recipe's files stay as they are",
				"stack", stack.Name, "kernel", release)
		}
	}
	d.dnsrr = &use
	return use
}

// sameKernel reports whether the daemon runs on this very kernel, and its release.
func (d *Deployer) sameKernel(ctx context.Context) (bool, string) {
	if !strings.HasPrefix(d.docker.DaemonHost(), "unix://") {
		return false, ""
	}
	info, err := d.docker.Info(ctx)
	if err != nil {
		return false, ""
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || strings.TrimSpace(string(release)) != info.KernelVersion {
		return false, info.KernelVersion // a socket forwarded from another machine
	}
	return true, info.KernelVersion
}

// hasIPVS reports whether the kernel under root has IPVS loaded, built in, or as
// a module that dockerd can load when it first needs it.
func hasIPVS(root, release string) bool {
	if _, err := os.Stat(filepath.Join(root, "proc/net/ip_vs")); err == nil {
		return true
	}
	modules := filepath.Join(root, "lib/modules", release)
	for _, list := range []string{
		filepath.Join(root, "proc/modules"),
		filepath.Join(modules, "modules.builtin"),
		filepath.Join(modules, "modules.dep"),
	} {
		if mentionsIPVS(list) {
			return true
		}
	}
	return false
}

func mentionsIPVS(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// "ip_vs 180224 0 - Live" or "kernel/net/netfilter/ipvs/ip_vs.ko.xz: …"
		name, _, _ := strings.Cut(lines.Text(), " ")
		name = filepath.Base(strings.TrimSuffix(name, ":"))
		if name == "ip_vs" || strings.HasPrefix(name, "ip_vs.ko") {
			return true
		}
	}
	return false
}

// onThisHost reports whether an address belongs to this machine.
func onThisHost(ip net.IP) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil || ip == nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
