package swarm

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/compose/types"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// This file decides how the services of a run meet the proxy: on an overlay network
// of the run's own, which all stacks of the run share and no other run joins. A recipe
// knows it as the external network that the proxy has in production.

// runNetworkPrefix begins the names of these networks; a run's identifier follows. No
// recipe can declare such a name: its own begin with the name of its stack.
const runNetworkPrefix = "cc-ci-run-"

// RunNetwork is the name of a run's network to the proxy.
func RunNetwork(run ccci.RunID) string { return runNetworkPrefix + string(run) }

// isRunNetwork reports whether a network of this name and these labels is a run's to the proxy.
func isRunNetwork(name string, labels map[string]string) bool {
	return labels[LabelRun] != "" && name == RunNetwork(ccci.RunID(labels[LabelRun]))
}

// runNetworkOptions are what the network is created with. It is attachable, because a
// proxy that is no swarm task can join only such a network. It is not encrypted: see
// decision 0010. It has no stack label, since it belongs to all stacks of the run.
func runNetworkOptions(run ccci.RunID) network.CreateOptions {
	return network.CreateOptions{Driver: "overlay", Scope: "swarm", Attachable: true, Labels: owned(nil, run, "")}
}

// toProxy reports whether a network of the compose file is the one to the proxy.
func (c converter) toProxy(key string) bool {
	name, external, err := c.networkName(key)
	return err == nil && external && name == c.proxy
}

func (c converter) onRunNetwork(s types.ServiceConfig) bool {
	return slices.ContainsFunc(networkKeys(s), c.toProxy)
}

// proxyAttachment joins a service to the run's network. Swarm gives it the name
// <stack>_<service> there. The proxy resolves names on the networks of all runs at once,
// so a further name is kept only if no other run can have it: short names such as "app"
// are left out, also for the two stacks of one run that both have an "app".
func (c converter) proxyAttachment(s types.ServiceConfig) swarm.NetworkAttachmentConfig {
	a := swarm.NetworkAttachmentConfig{Target: RunNetwork(c.run)}
	for _, key := range networkKeys(s) {
		own := s.Networks[key]
		if !c.toProxy(key) || own == nil {
			continue
		}
		for _, alias := range own.Aliases {
			if alias = strings.ToLower(alias); c.ownName(alias) && !slices.Contains(a.Aliases, alias) {
				a.Aliases = append(a.Aliases, alias)
			}
		}
		for option, value := range own.DriverOpts {
			if a.DriverOpts == nil {
				a.DriverOpts = map[string]string{}
			}
			a.DriverOpts[option] = value
		}
	}
	return a
}

// nameCharacters are those of names in DNS, with the underscore of swarm's names. In
// particular they do not make a template, which the daemon would evaluate.
const nameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789_.-"

// ownName reports whether a name can be this stack's alone, in every spelling that DNS
// takes for the same: it is the stack's, begins with it as names of its services do,
// or is the app's domain or a name made from that (www.DOMAIN, www-DOMAIN).
func (c converter) ownName(name string) bool {
	name = strings.ToLower(name)
	stack, domain := strings.ToLower(c.stack.Name), strings.ToLower(c.stack.Domain)
	if name == "" || strings.Trim(name, nameCharacters) != "" {
		return false
	}
	if name == stack || strings.HasPrefix(name, stack+"_") {
		return true
	}
	return recipe.OwnHost(name, domain)
}

// hostname is the host name of a service's containers. Docker makes it an alias on every
// network that they join. On the run's network one that another run could have as
// well is replaced by one of the stack's own. The replacement is the same for
// every task, as the recipe's is: some apps name their data after it.
func (c converter) hostname(s types.ServiceConfig) string {
	if s.Hostname == "" || !c.onRunNetwork(s) || c.ownName(s.Hostname) {
		return s.Hostname
	}
	first, _, _ := strings.Cut(strings.ToLower(c.stack.Name), "_")
	const longest = 63 // of one label in DNS; Linux takes one more
	name := first + "-" + strings.ToLower(s.Name)
	return strings.TrimRight(name[:min(len(name), longest)], "-._")
}

// proxyLabels makes the proxy look for a service on the run's network. A service without a
// label for that gets one, in the spelling that Traefik 2 and 3 both read, unless it has
// labels in that of Traefik 3 alone: that refuses a service with both. A label that names
// another network stays: it is the recipe's mistake and shows as in production.
func (c converter) proxyLabels(s types.ServiceConfig, labels map[string]string) map[string]string {
	if !c.onRunNetwork(s) {
		return labels
	}
	out := maps.Clone(labels)
	missing := "traefik.docker.network"
	enabled, named := false, false
	for key, value := range labels {
		value = strings.TrimSpace(value)
		low := strings.ToLower(key) // as Traefik does
		if strings.HasPrefix(low, "traefik.swarm.") {
			missing = "traefik.swarm.network"
		}
		switch low {
		case "traefik.enable":
			on, err := strconv.ParseBool(value)
			enabled = enabled || err == nil && on
		case "traefik.docker.network", "traefik.swarm.network":
			named = true
			if value == "" || value == c.proxy {
				out[key] = RunNetwork(c.run)
			}
		}
	}
	if enabled && !named {
		out[missing] = RunNetwork(c.run)
	}
	return out
}

// unsafeDefaults are options of the proxy that a recipe may leave out, and that then let an app reach
// or take what is not its run's. Admission refuses values of the recipe's own that do.
var unsafeDefaults = []struct{ objects, group, option, value string }{
	// Traefik reads the whole answer of an authentication server, and the whole request where it
	// forwards that, and allocates before it reads. In bytes.
	{"middlewares", "forwardauth", "maxresponsebodysize", "262144"},
	{"middlewares", "forwardauth", "maxbodysize", "1048576"},
	// A health check follows an app's redirects, with method and headers, to wherever they lead.
	{"services", "loadbalancer.healthcheck", "followredirects", "false"},
}

// safeDefaults sets options of unsafeDefaults that labels leave out, for each object of the proxy
// that has another option of the group.
func safeDefaults(labels map[string]string) map[string]string {
	seen, out := map[string]bool{}, maps.Clone(labels)
	for key := range labels {
		seen[strings.ToLower(key)] = true // Traefik folds case
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		low := strings.ToLower(key)
		for _, d := range unsafeDefaults {
			group := "." + d.group + "."
			at := strings.Index(low, group)
			if at < 0 || !strings.HasPrefix(low, "traefik.http."+d.objects+".") {
				continue
			}
			// An object's name keeps its spelling: others refer to it.
			if option := key[:at] + group + d.option; !seen[strings.ToLower(option)] {
				seen[strings.ToLower(option)] = true
				out[option] = d.value
			}
		}
	}
	return out
}
