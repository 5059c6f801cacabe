package admission

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/compose/types"
)

// ownSysctl are kernel parameters of the container's own network, with plain numbers.
var ownSysctl = regexp.MustCompile(`^(net\.core\.somaxconn|net\.ipv4\.(ip_unprivileged_port_start|ip_local_port_range` +
	`|tcp_(keepalive_(time|intvl|probes)|fin_timeout|tw_reuse|syncookies|max_syn_backlog|fastopen|retries2|syn_retries))` +
	`|net\.ipv6\.conf\.(all|default|lo)\.disable_ipv6)=[0-9]{1,9}([ \t][0-9]{1,9})?$`)

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
				value := fmt.Sprintf("%s=%d", name, n)
				j.refuse(ruleUlimits, s.Name, value, j.locate(name, "services", s.Name, "ulimits"), "", "sets the limit %s", value)
				break
			}
		}
	}
	if h := s.HealthCheck; h != nil {
		for _, every := range []*types.Duration{h.Interval, h.StartInterval} {
			if every != nil && time.Duration(*every) < time.Second && *every != 0 {
				j.refuse(ruleHealth, s.Name, every.String(), j.locate("", "services", s.Name, "healthcheck"), "an interval of 10s is usual", "is checked every %s", every.String())
			}
		}
	}
}

// target judges where something is put within a container.
func (j *judge) target(service, target, section string) {
	clean := path.Clean("/" + target)
	low := strings.ToLower(clean)
	inside := func(dir string) bool { return low == dir || strings.HasPrefix(low, dir+"/") }
	switch {
	case target == "":
	case slices.Contains(strings.Split(target, "/"), ".."),
		clean == "/", inside("/proc"), inside("/sys"), inside("/dev") && !inside("/dev/shm"), strings.ContainsAny(target, "\x00\n"):
		j.refuse(ruleMountPath, service, target, j.locate(target, "services", service, section), "choose a folder of the app", "puts something at %q", target)
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
		return
	}
	if l.Driver == "none" && len(s.Secrets) > 0 {
		j.refuse(ruleLogging, s.Name, l.Driver, j.locate(l.Driver, "services", s.Name, "logging"), "remove logging, or the secrets of this service",
			"has secrets and keeps no log, so that nothing can show whether it prints them")
		return
	}
	for _, option := range sorted(l.Options) {
		if !slices.Contains(logOptions, option) {
			j.refuse(ruleLogging, s.Name, option, j.locate(option, "services", s.Name, "logging"), "", "sets the option %s of its log", option)
		}
	}
}
