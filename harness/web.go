package harness

import (
	"strconv"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// servesWeb reports whether a version of a recipe means to answer by HTTP through the proxy. Labels
// that stand where swarm does not put them count as well: a recipe that has lost its routers is asked
// for them.
func servesWeb(stack *recipe.Stack) bool {
	for _, s := range stack.Config.Services {
		enabled, other := false, false
		for _, labels := range []map[string]string{s.Deploy.Labels, s.Labels} {
			for key, value := range labels {
				switch key = strings.ToLower(key); {
				case strings.HasPrefix(key, "traefik.http."):
					return true
				case strings.HasPrefix(key, "traefik.tcp."), strings.HasPrefix(key, "traefik.udp."):
					other = true
				case key == "traefik.enable":
					on, err := strconv.ParseBool(strings.TrimSpace(value))
					enabled = enabled || err == nil && on
				}
			}
		}
		if enabled && !other { // the proxy makes a router of its own
			return true
		}
	}
	return false
}

// withoutWeb warns of an app that nothing asks.
const withoutWeb = "the recipe routes nothing by HTTP, so no page is asked for, and recipe.yml has no probe under ready: that its services run is all that shows that it works"
