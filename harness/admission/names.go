package admission

import (
	"regexp"
	"strings"

	"github.com/docker/cli/cli/compose/types"
)

// Docker's resolver answers for the service's key, each alias and the host name of a
// task on every network that the task is on. Another container of such a network, the
// proxy among them, asks it by name, and it ignores case and a dot at the end.

var (
	// runStack is how the stack of a run begins, see ccci.RunID.AppName.
	runStack = regexp.MustCompile(`^[a-z0-9]{1,4}-[0-9a-f]{6}_`)
	// hostName is one that every resolver reads alike.
	hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$`)
	// ownSuffix is what may follow the stack's name.
	ownSuffix = regexp.MustCompile(`^[_-][a-z0-9_-]+$`)
	// unitName are the services of the appliance itself, and swarm's name for their tasks.
	unitName = regexp.MustCompile(`^(tasks\.)?cc-ci([_.-]|$)`)
)

// fold brings a name into the form that resolvers compare.
func fold(name string) string { return strings.TrimRight(strings.ToLower(name), ".") }

// ownName reports whether a name can mean nothing but this run: one of its hosts, a
// name below one, the stack's name, or what the stack's name begins.
func (j *judge) ownName(name string) bool {
	name = fold(name)
	if !hostName.MatchString(name) {
		return false
	}
	for _, own := range j.policy.Domains {
		if own = fold(own); name == own || strings.HasSuffix(name, "."+own) {
			return true
		}
	}
	rest, ok := strings.CutPrefix(name, fold(j.stack.Name))
	return ok && (rest == "" || ownSuffix.MatchString(rest))
}

// shared reports whether a network has others than this run on it.
func (j *judge) shared(key string) (name string, yes bool) {
	n := j.stack.Config.Networks[key]
	return n.Name, n.External.External && !j.own(n.Name)
}

// names judges what a service is called on its networks.
func (j *judge) names(s *types.ServiceConfig) {
	j.unitNames(s)
	for _, key := range sorted(s.Networks) {
		network, shared := j.shared(key)
		if !shared {
			continue
		}
		if low := fold(s.Name); !j.ownName(low) && (runStack.MatchString(low) || strings.Contains(low, ".") || strings.HasPrefix(low, "xn--")) {
			j.refuse(ruleProxyAlias, s.Name, s.Name+"@"+network, j.locate(key, "services", s.Name, "networks"), "give the service a short name", "would answer to %q on the network %s", s.Name, network)
		}
		if n := s.Networks[key]; n != nil {
			for _, alias := range n.Aliases {
				if !j.ownName(alias) {
					j.refuse(ruleProxyAlias, s.Name, alias+"@"+network, j.locate(alias, "services", s.Name, "networks"),
						"begin it with ${STACK_NAME}_, or use ${DOMAIN}", "would answer to %q on the network %s", alias, network)
				}
			}
		}
		if s.Hostname != "" && s.Hostname != s.Name && !j.ownName(s.Hostname) {
			j.refuse(ruleHostname, s.Name, s.Hostname+"@"+network, j.locate(s.Hostname, "services", s.Name, "hostname"),
				"leave hostname out, or use ${DOMAIN}", "would answer to the host name %q on the network %s", s.Hostname, network)
		}
	}
}

// unitNames refuses the names of cc-ci's own services on every network: the proxy may
// join a network of the run, and finds its configuration by such a name.
func (j *judge) unitNames(s *types.ServiceConfig) {
	reserved := func(name, what string, path ...string) {
		low := fold(name)
		switch {
		case unitName.MatchString(low):
			j.refuse(ruleReservedName, s.Name, name, j.locate(name, path...), "choose another name", "has the %s %q, which is that of a service of cc-ci", what, name)
		case what != "key" && !hostName.MatchString(low) && !strings.Contains(low, "{{"):
			j.refuse(ruleReservedName, s.Name, name, j.locate(name, path...), "write letters, digits, hyphens and dots", "has the %s %q, which resolvers read differently", what, name)
		}
	}
	reserved(s.Name, "key", "services")
	if s.Hostname != "" {
		reserved(s.Hostname, "host name", "services", s.Name, "hostname")
	}
	for _, key := range sorted(s.Networks) {
		if n := s.Networks[key]; n != nil {
			for _, alias := range n.Aliases {
				reserved(alias, "alias", "services", s.Name, "networks")
			}
		}
	}
}
