package ingress

import (
	"maps"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/types"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// N12: what keeps the proxy from an app is read off its labels.
func TestN12_WhyNoRouterMatches(t *testing.T) {
	good := map[string]string{
		"traefik.enable": "true", "traefik.http.routers.a.rule": "Host(`app.example`)", "traefik.http.routers.a.entrypoints": "web-secure",
		"traefik.http.routers.a.tls.certresolver": "", "traefik.http.services.a.loadbalancer.server.port": "80",
	}
	named := map[string]string{}
	for key, value := range good {
		named[strings.Replace(key, "routers.a.", "routers.shop-1a2b3c-web.", 1)] = value
	}
	delete(named, "traefik.http.routers.shop-1a2b3c-web.tls.certresolver")
	changed := func(pairs ...string) map[string]string {
		labels := maps.Clone(good)
		for i := 0; i < len(pairs); i += 2 {
			if labels[pairs[i]] = pairs[i+1]; pairs[i+1] == "-" {
				delete(labels, pairs[i])
			}
		}
		return labels
	}
	for name, c := range map[string]struct {
		deploy, container map[string]string
		path              string
		says, hints       string // "" matches
	}{
		"it matches":                {good, nil, "/", "", ""},
		"labels at the wrong place": {nil, good, "/", "under labels:", "deploy: labels:"},
		"not enabled":               {changed("traefik.enable", "-"), nil, "/", "without traefik.enable=true", "traefik.enable=true"},
		"no labels":                 {nil, nil, "/", "no service has labels", "deploy labels"},
		"no router":                 {map[string]string{"traefik.enable": "true"}, nil, "/", "no service declares one", "Host(`${DOMAIN}`)"},
		"no rule":                   {changed("traefik.http.routers.a.rule", "-"), nil, "/", "it has no rule", "traefik.http.routers.a"},
		"another entry point":       {changed("traefik.http.routers.a.entrypoints", "web"), nil, "/", "entry point web alone", "entrypoints=web-secure"},
		"an unknown entry point":    {changed("traefik.http.routers.a.entrypoints", "websecure"), nil, "/", "none of its entry points exists", "routers.a"},
		"no tls":                    {changed("traefik.http.routers.a.tls.certresolver", "-"), nil, "/", "no tls label", ".tls=true"},
		"named by the stack":        {named, nil, "/", "router ${STACK_NAME}-web: it has no tls label", "traefik.http.routers.${STACK_NAME}-web.tls=true"},
		"another host":              {changed("traefik.http.routers.a.rule", "Host(`other.example`)"), nil, "/", "Host(`other.example`) does not match", "${DOMAIN}"},
		"only a path":               {changed("traefik.http.routers.a.rule", "Host(`app.example`) && PathPrefix(`/api`)"), nil, "/", "PathPrefix(`/api`) does not match", "health.path"},
		"that path":                 {changed("traefik.http.routers.a.rule", "Host(`app.example`) && PathPrefix(`/api`)"), nil, "/api/v1", "", ""},
		"a lost middleware":         {changed("traefik.http.routers.a.middlewares", "nobody@file"), nil, "/", `middleware "nobody@file" does not exist`, "routers.a"},
	} {
		t.Run(name, func(t *testing.T) {
			stack := &recipe.Stack{Name: "shop-1a2b3c", Domain: "app.example", Config: &types.Config{Services: []types.ServiceConfig{{Name: "web", Labels: c.container, Deploy: types.DeployConfig{Labels: c.deploy}}}}}
			why, hint := Unrouted(stack, "app.example", c.path)
			if (why == "") != (c.says == "") || !strings.Contains(why, c.says) || !strings.Contains(hint, c.hints) {
				t.Errorf("%q, hint %q", why, hint)
			}
		})
	}
}
