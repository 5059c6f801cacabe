package admission

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/compose/types"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// ownSysctls are the kernel parameters that a service may set, each with its least and greatest number. All are of
// the container's own network. What decides which packets leave the container, or whom it answers for
// (net.ipv4.conf, net.ipv6.conf, net.*.neigh, forwarding), is not among them: the firewall relies on it. IPv6 may be
// turned off only, because containers have none, and the table of IPv6 neighbours is that of all containers.
var ownSysctls = map[string][2]int{
	"net.core.somaxconn":                  {0, 65535},
	"net.ipv4.ip_unprivileged_port_start": {0, 65535},
	"net.ipv4.ip_local_port_range":        {1, 65535},
	"net.ipv4.tcp_fastopen":               {0, 0x1fff},
	"net.ipv4.tcp_fin_timeout":            {1, 120}, // connections that nothing holds any more are counted for all containers together
	"net.ipv4.tcp_keepalive_intvl":        {1, 32767},
	"net.ipv4.tcp_keepalive_probes":       {1, 127},
	"net.ipv4.tcp_keepalive_time":         {1, 32767},
	"net.ipv4.tcp_max_syn_backlog":        {1, 65535},
	"net.ipv4.tcp_retries2":               {0, 255},
	"net.ipv4.tcp_syn_retries":            {1, 127},
	"net.ipv4.tcp_syncookies":             {0, 2},
	"net.ipv4.tcp_tw_reuse":               {0, 2},
	"net.ipv6.conf.all.disable_ipv6":      {1, 1},
	"net.ipv6.conf.default.disable_ipv6":  {1, 1},
	"net.ipv6.conf.lo.disable_ipv6":       {1, 1},
}

// ownSysctl reports whether a service may set a kernel parameter, "name=value".
func ownSysctl(setting string) bool {
	name, value, _ := strings.Cut(setting, "=")
	bounds, known := ownSysctls[name]
	numbers, most := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '\t' }), 1
	if name == "net.ipv4.ip_local_port_range" {
		most = 2
	}
	if !known || len(numbers) != most {
		return false
	}
	for _, text := range numbers {
		n, err := strconv.Atoi(text)
		if err != nil || strconv.Itoa(n) != text || n < bounds[0] || n > bounds[1] {
			return false
		}
	}
	return true
}

// maxUlimits are the limits that a service may set, and how far; -1 stands for no limit.
var maxUlimits = map[string]int{
	"nofile": 1 << 20, "nproc": 1 << 16, "msgqueue": 819200, "sigpending": 1 << 16, "locks": 1 << 16,
	"core": -1, "cpu": -1, "data": -1, "fsize": -1, "memlock": -1, "rss": -1, "stack": -1,
}

// limits judges what a service sets of the limits of processes, and how often it is asked.
func (j *judge) limits(s *types.ServiceConfig) {
	for _, name := range sorted(s.Ulimits) {
		u := s.Ulimits[name]
		if u == nil {
			continue
		}
		most, known := maxUlimits[strings.ToLower(name)]
		for _, n := range []int{u.Single, u.Soft, u.Hard} {
			if !known || most >= 0 && (n < 0 || n > most) || n < -1 {
				value := fmt.Sprintf("%s=%d", name, u.Single)
				if u.Single == 0 {
					value = fmt.Sprintf("%s=%d:%d", name, u.Soft, u.Hard)
				}
				j.refuse(ruleUlimits, s.Name, value, j.locate(name, "services", s.Name, "ulimits"), "", "sets the limit %s", value)
				break
			}
		}
	}
	if h := s.HealthCheck; h != nil {
		for i, every := range []*types.Duration{h.Interval, h.StartInterval} {
			key := []string{"interval", "start_interval"}[i]
			if every != nil && time.Duration(*every) < time.Second && *every != 0 {
				j.refuse(ruleHealth, s.Name, key+"="+every.String(), j.locate("", "services", s.Name, "healthcheck"), "an interval of 10s is usual", "is checked every %s", every.String())
			}
		}
	}
}

// target judges where something is put within a container. kind is what.
func (j *judge) target(service, target, section, kind string) {
	switch {
	case target == "":
	case len(target) > recipe.LongestTarget, slices.Contains(strings.Split(target, "/"), ".."), recipe.GuardedPath(target), strings.ContainsAny(target, "\x00\n"):
		j.refuse(ruleMountPath, service, joined(kind, target), j.locate(target, "services", service, section), "choose a folder of the app", "puts something at %q", target)
	}
}

// workingDir judges where a service's processes start: in /proc an old runc gives them a folder of the host (CVE-2024-21626).
func (j *judge) workingDir(s *types.ServiceConfig) {
	if d := s.WorkingDir; d != "" && path.Clean("/"+d) != "/" && recipe.GuardedPath(d) {
		j.refuse(ruleMountPath, s.Name, joined("working_dir", d), j.locate(d, "services", s.Name, "working_dir"), "choose a folder of the app", "starts in %q", d)
	}
}

// exposed judges places in volumes whose way an app can change between two containers, or while one starts.
func (j *judge) exposed() {
	var mounts []recipe.Mount
	for _, s := range j.stack.Config.Services {
		if !j.large[s.Name] {
			mounts = append(mounts, recipe.MountsOf(j.stack, s)...)
		}
	}
	for _, e := range recipe.Exposed(mounts) {
		section := "volumes"
		if e.Mount.File {
			section, _, _ = strings.Cut(e.Mount.What, " ")
			section += "s"
		}
		j.refuse(ruleMountPath, e.Mount.Service, e.Mount.Target, j.locate(e.Mount.Target, "services", e.Mount.Service, section),
			"choose a place outside of the volume, or mount something at "+e.Way+" of "+e.Writer.Service+" too, or mount the volume there with :ro",
			"puts something at %q, within the %s: service %s can write the volume and put a link in place of %s", e.Mount.Target, e.Volume.What, e.Writer.Service, e.Way)
	}
}

// logOptions are those of the admitted drivers that ask nothing of the daemon.
var logOptions = []string{"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode"}

func (j *judge) logging(s *types.ServiceConfig) {
	l := s.Logging
	if l == nil {
		return
	}
	if !slices.Contains([]string{"", "json-file", "local", "journald", "none"}, l.Driver) {
		j.refuse(ruleLogging, s.Name, l.Driver, j.locate(l.Driver, "services", s.Name, "logging"), "remove logging, the run keeps all logs",
			"sends its log through the driver %s", l.Driver)
	}
	if l.Driver == "none" && len(s.Secrets) > 0 {
		j.refuse(ruleLogging, s.Name, l.Driver, j.locate(l.Driver, "services", s.Name, "logging"), "remove logging, or the secrets of this service",
			"has secrets and keeps no log, so that nothing can show whether it prints them")
	}
	for _, option := range sorted(l.Options) {
		if !slices.Contains(logOptions, option) {
			j.refuse(ruleLogging, s.Name, j.keyValue(option, l.Options[option]), j.locate(option, "services", s.Name, "logging"), "", "sets the option %s of its log", option)
		}
	}
}
