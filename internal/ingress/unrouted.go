package ingress

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Unrouted says why none of the routers that a stack's labels declare answers https://host/path, and
// what to write in place; "" where one does. It holds for Traefik as cc-ci keeps it too: both
// read deploy labels alone, expose nothing by default, and serve HTTPS by the routers with TLS on web-secure.
func Unrouted(stack *recipe.Stack, host, path string) (why, hint string) {
	target := "https://" + host + path
	if why, hint := unexposed(stack); why != "" {
		return fmt.Sprintf("no router of the proxy matches %s: %s", target, why), hint
	}
	c := compiler{domain: stack.Domain, routers: map[string]*labelled{}, services: map[string]*labelled{}, middlewares: map[string]*labelled{}}
	for _, svc := range stack.Config.Services {
		c.read(stack.Name+"_"+svc.Name, svc.Deploy.Labels)
	}
	if len(c.routers) == 0 {
		return fmt.Sprintf("no router of the proxy matches %s: no service declares one", target),
			"add the deploy labels traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`), .entrypoints=web-secure and .tls.certresolver=${LETS_ENCRYPT_ENV}"
	}
	address, err := url.Parse(target)
	if err != nil {
		return "", ""
	}
	request := &http.Request{Method: http.MethodGet, Host: host, URL: address, Header: http.Header{}}
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(c.routers)) {
		written := strings.ReplaceAll(name, stack.Name, "${STACK_NAME}") // as a recipe has it
		reason, way := c.misses(name, "traefik.http.routers."+written, request)
		if reason == "" {
			return "", ""
		}
		if reasons = append(reasons, fmt.Sprintf("router %s: %s", written, reason)); hint == "" {
			hint = way
		}
	}
	return fmt.Sprintf("no router of the proxy matches %s: %s", target, strings.Join(reasons, "; ")), hint
}

// unexposed says why the proxy looks at no service of a stack.
func unexposed(stack *recipe.Stack) (why, hint string) {
	lost, partly := "", ""
	for _, svc := range stack.Config.Services {
		if isTrue(lookup(svc.Deploy.Labels, "traefik.enable")) {
			return "", ""
		}
		for key := range svc.Deploy.Labels {
			if strings.HasPrefix(strings.ToLower(key), "traefik.") {
				partly = svc.Name
			}
		}
		for key := range svc.Labels {
			if strings.HasPrefix(strings.ToLower(key), "traefik.") {
				lost = svc.Name
			}
		}
	}
	switch {
	case lost != "":
		return fmt.Sprintf("service %s has the proxy's labels under labels:, where they have no effect", lost), "move them below deploy: labels:"
	case partly != "":
		return fmt.Sprintf("service %s has labels for the proxy without traefik.enable=true", partly), "add the deploy label traefik.enable=true"
	}
	return "no service has labels for the proxy", "add deploy labels with traefik.enable=true and a router, or state in recipe.yml what the app answers on: ready: {tcp: …}"
}

// misses says why a router does not answer a request by HTTPS; "" when it does. label begins its labels.
func (c *compiler) misses(name, label string, r *http.Request) (why, hint string) {
	router, err := c.router(name)
	if err != nil {
		return err.Error(), "correct the labels that begin with " + label
	}
	switch {
	case len(router.EntryPoints) > 0 && !slices.Contains(router.EntryPoints, entrySecure):
		return "it is on entry point " + strings.Join(router.EntryPoints, ", ") + " alone, which redirects to HTTPS", "set the label " + label + ".entrypoints=web-secure"
	case !router.TLS:
		return "it has no tls label, so it does not serve HTTPS", "set the label " + label + ".tls.certresolver or " + label + ".tls=true"
	}
	match, err := router.matcher()
	if err != nil {
		return err.Error(), "correct the label " + label + ".rule"
	}
	if !match(r) {
		return fmt.Sprintf("its rule %s does not match", router.Rule), "the rule has to match the app's own name, Host(`${DOMAIN}`); where only a path is served, name it with health.path in recipe.yml"
	}
	return "", ""
}
