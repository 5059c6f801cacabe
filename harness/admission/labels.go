package admission

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/settings"
	"github.com/recipe-maintainers/cc-ci/internal/traefik"
)

// fileMiddlewares are those of the proxy's own file that recipes may name.
var fileMiddlewares = []string{"security", "keycloak", "basicauth"}

// labels judges the labels of a service. path says where they stand.
func (j *judge) labels(service string, labels map[string]string, path ...string) {
	path = append([]string{"services", service}, path...)
	j.reserved(service, labels, path...)
	t := &traefikLabels{judge: j, service: service, path: path, seen: map[string]bool{}, routers: map[string]*router{}, replaced: map[string]replacement{}, guards: map[string]string{}}
	for _, key := range sorted(labels) {
		value := labels[key]
		low := strings.ToLower(strings.TrimSpace(key))
		switch {
		case strings.HasPrefix(low, traefik.Prefix):
			if err := traefik.CheckKey(key); err != nil {
				t.refuse(ruleLabelKey, key, key, "names in a key have letters, digits, hyphens and underscores; where there is a list, an index such as [0] follows",
					"has the label %q, and such a one may end the proxy's reading of all labels: %s", key, err.Error())
				continue
			}
			t.label(key, strings.Split(low, ".")[1:], value)
		case strings.HasPrefix(low, "coop-cloud."):
			j.coopCloud(service, key, path)
		case strings.HasPrefix(low, "backupbot."):
			j.backupPaths(service, key, value, path)
		}
	}
	t.finish()
}

// reserved refuses labels by which cc-ci and swarm know whose an object is.
func (j *judge) reserved(service string, labels map[string]string, path ...string) {
	for _, key := range sorted(labels) {
		low := strings.ToLower(strings.TrimSpace(key))
		if !strings.HasPrefix(low, "cc-ci") && !strings.HasPrefix(low, "com.docker.") {
			continue
		}
		at := j.locate(key, path...)
		switch {
		case low == "cc-ci" || strings.HasPrefix(low, "cc-ci."):
			// Rendering gave the stack's own labels their values last, so any other is the recipe's.
			want, ours := j.stack.Labels[key]
			if !ours || labels[key] != want {
				j.refuse(ruleReserved, service, key, at, "remove the label", "sets the label %q, which is cc-ci's own", key)
			}
		case low == "com.docker.stack.namespace" && labels[key] == j.stack.Name:
		case strings.HasPrefix(low, "com.docker.stack.") || strings.HasPrefix(low, "com.docker.swarm."):
			j.refuse(ruleReserved, service, key, at, "remove the label", "sets the label %q, which is swarm's own", key)
		}
	}
}

func (j *judge) coopCloud(service, key string, path []string) {
	rest := key[len("coop-cloud."):]
	if strings.HasPrefix(rest, j.stack.Name+".") || strings.HasPrefix(rest, "backupbot.") || strings.HasPrefix(rest, "${") {
		return
	}
	j.refuse(ruleNamespace, service, key, j.locate(key, path...), "write coop-cloud.${STACK_NAME}.…", "sets the label %q of another stack", key)
}

// backupPaths refuses paths outside of a volume. A label that cannot be read otherwise is no
// danger: the backup stage fails with it.
func (j *judge) backupPaths(service, key, value string, at []string) {
	_, err := j.stack.BackupLabels(service, map[string]string{key: value})
	if !errors.Is(err, recipe.ErrOutsideVolume) {
		return
	}
	for p := range strings.SplitSeq(value, ",") {
		if _, err := j.stack.BackupLabels(service, map[string]string{key: p}); errors.Is(err, recipe.ErrOutsideVolume) {
			p = strings.TrimSpace(p)
			j.refuse(ruleBackupPath, service, p, j.locate(key, at...), "paths are relative to the volume", "backs up %q, which is not within the volume", p)
		}
	}
}

// router is what the labels say of one router of the proxy.
type router struct {
	label       string // one that names it
	ruleLabel   string // the one with its rule, "" without
	rule        string
	entrypoints []string
	priority    string
}

// reach is what decides beside its rule which requests a router gets.
func (r *router) reach() string {
	text := ""
	if len(r.entrypoints) > 0 {
		text += " entrypoints=" + strings.Join(slices.Sorted(slices.Values(r.entrypoints)), ",")
	}
	if r.priority != "" {
		text += " priority=" + r.priority
	}
	return text
}

// traefikLabels judges the Traefik labels of one service. Traefik reads keys
// without regard to case, so keys come in lower case here.
type traefikLabels struct {
	*judge
	service string
	path    []string
	seen    map[string]bool    // keys in lower case
	routers map[string]*router // as "http/name"

	replaced map[string]replacement // as "middleware.option"
	guards   map[string]string      // a label of each that asks for a password, as "middleware.option"
}

// furtherHosts says how an app gets more than one host name.
const furtherHosts = "names below the app's host, as www.${DOMAIN}, are admitted; a host of its own stands in a variable of the env file, which domains: in recipe.yml fills in (domains: {sandbox: SANDBOX_DOMAIN})"

func (t *traefikLabels) refuse(rule, key, value, hint, format string, args ...any) {
	t.judge.refuse(rule, t.service, value, t.locate(key, t.path...), hint, format, args...)
}

// objectName is that of a router, service or middleware in a label's key.
var objectName = regexp.MustCompile(`^[a-z0-9_-]+$`)

// label judges one label; k is its key in lower case without "traefik".
func (t *traefikLabels) label(key string, k []string, value string) {
	low := strings.Join(k, ".")
	switch {
	case t.seen[low]:
		t.refuse(ruleTraefik, key, t.keyValue(key, value), "write it once", "sets the label %q twice, in different spellings", key)
	case len(value) > maxLabelValue:
		t.refuse(ruleTraefik, key, t.keyValue(key, value), "", "sets the label %q to a value of more than %d KiB", key, maxLabelValue>>10)
	case low == "enable":
	case low == "tags" || low == "docker.lbswarm" || low == "swarm.lbswarm":
	case low == "docker.network" || low == "swarm.network":
		if !t.reachable(value) {
			t.refuse(ruleTraefik, key, t.keyValue(key, value), "leave it out, or name ${STACK_NAME}_<network>", "lets the proxy reach it through the network %q, which is not its own", value)
		}
	case k[0] == "udp":
		t.refuse(ruleHost, key, t.keyValue(key, value), "", "routes UDP, which knows no hosts: %s", key)
	case len(k) > 2 && optionTable[k[0]+"."+k[1]] != nil:
		if !objectName.MatchString(k[2]) || !strings.HasPrefix(k[2], strings.ToLower(t.stack.Name)) {
			t.refuse(ruleNamespace, key, strings.Join(k[:3], "."), "begin the name with ${STACK_NAME}", "defines %s %q outside its own names", "the proxy's "+strings.TrimSuffix(k[1], "s"), k[2])
		}
		t.option(key, k, value)
	default:
		t.refuse(ruleTraefik, key, t.keyValue(key, value), "", "sets the label %q, which is not about its own routers", key)
	}
	t.seen[low] = true
}

// reachable reports whether a network is the proxy's or the stack's own.
func (t *traefikLabels) reachable(network string) bool {
	return network == t.policy.Network || t.own(network)
}

// option judges one option of a router, service or middleware.
func (t *traefikLabels) option(key string, k []string, value string) {
	kind, option := k[0]+"."+k[1], strings.Join(k[3:], ".")
	if k[1] == "routers" {
		t.router(key, k, value)
	}
	if k[1] == "middlewares" {
		t.replaces(key, k[2], option, value)
		if guard, _, _ := strings.Cut(option, "."); guard == "basicauth" || guard == "digestauth" {
			t.guards[k[1]+"."+k[2]+"."+guard] = key
		}
	}
	check, known := optionCheck(kind, option)
	switch {
	case strings.HasPrefix(option, "plugin."):
		t.refuse(ruleMiddleware, key, t.keyValue(key, value), "", "uses a plugin of the proxy: %s", key)
	case strings.HasPrefix(option, "forwardauth.tls."):
		t.refuse(ruleMiddleware, key, t.keyValue(key, value), "", "lets the proxy read its file or trust everybody: %s", key)
	case strings.Contains(option, "server.url") || strings.Contains(option, "server.address"):
		t.refuse(ruleTraefik, key, t.keyValue(key, value), "name the port with loadbalancer.server.port", "sends its visitors to %q", value)
	case !known:
		t.refuse(ruleTraefik, key, t.keyValue(key, value), "docs/admission.md lists the options that are admitted", "sets the label %q, an option of the proxy that is not admitted", key)
	case check != nil:
		switch wrong := check(t, value); {
		case wrong == "":
		case wrong == noUsers:
			kind, _, _ := strings.Cut(option, ".")
			t.withoutUsers(key, k[1]+"."+k[2]+"."+kind)
		case strings.HasSuffix(option, "auth.users"): // the value is hashes of passwords
			t.refuse(ruleTraefik, key, t.keyValue(key, value), "make it with htpasswd -nB, whose cost is 5", "sets the label %q, which %s", key, wrong)
		default:
			t.refuse(ruleTraefik, key, t.keyValue(key, value), "", "sets the label %q to %q, which %s", key, value, wrong)
		}
	case k[1] == "middlewares":
		t.middleware(key, k[2], option, value)
	}
}

// withoutUsers refuses a middleware of passwords that lists no user. Traefik 3.6 fails while it
// reads the labels of such a one. guard is as in t.guards.
func (t *traefikLabels) withoutUsers(key, guard string) {
	users := "traefik.http." + strings.ReplaceAll(guard, t.stack.Name, "${STACK_NAME}") + ".users"
	t.refuse(ruleUsers, key, key, "list them in "+users+", or remove the middleware",
		"sets the label %q without users, and the proxy then applies no further change of any app until it is restarted", key)
}

// router judges an option of a router that has no check of its own.
func (t *traefikLabels) router(key string, k []string, value string) {
	id := k[0] + "/" + k[2]
	r := t.routers[id]
	if r == nil {
		r = &router{label: key}
		t.routers[id] = r
		if t.routed++; t.routed > maxRouters {
			t.refuse(ruleSize, key, "routers", "", "is one of more than %d routers of the stack", maxRouters)
		}
	}
	switch field := strings.Join(k[3:], "."); {
	case field == "rule":
		r.ruleLabel, r.rule = key, value
	case field == "entrypoints":
		for name := range strings.SplitSeq(value, ",") {
			r.entrypoints = append(r.entrypoints, strings.TrimSpace(name))
		}
	case field == "priority":
		r.priority = strings.TrimSpace(value)
	case field == "middlewares":
		t.middlewares(key, value)
		t.uses = append(t.uses, use{t.service, key, value, references(value), t.locate(key, t.path...)})
	case field == "service":
		if !t.ownReference(value) {
			t.refuse(ruleTraefik, key, t.keyValue(key, value), "", "routes to the proxy's service %q, which is not its own", value)
		}
	case strings.HasPrefix(field, "tls.domains["):
		for host := range strings.SplitSeq(value, ",") {
			if _, err := proveRule("Host(`"+strings.TrimSpace(host)+"`)", t.policy.Domains); err != nil {
				t.refuse(ruleHost, key, t.keyValue(key, value), furtherHosts, "asks for a certificate for %q: %s", value, short(err.Error()))
			}
		}
	}
}

// ownReference reports whether a reference names an object of this stack.
func (t *traefikLabels) ownReference(ref string) bool {
	name, provider, _ := strings.Cut(strings.ToLower(strings.TrimSpace(ref)), "@")
	return objectName.MatchString(name) && strings.HasPrefix(name, strings.ToLower(t.stack.Name)) && slices.Contains([]string{"", "docker", "swarm"}, provider)
}

func (t *traefikLabels) middlewares(key, list string) {
	for ref := range strings.SplitSeq(list, ",") {
		ref = strings.TrimSpace(ref)
		name, isFile := strings.CutSuffix(strings.ToLower(ref), "@file")
		if ref == "" || isFile && slices.Contains(fileMiddlewares, name) || t.ownReference(ref) {
			continue
		}
		t.refuse(ruleMiddleware, key, ref, "own ones begin with ${STACK_NAME}; of the proxy's there are "+strings.Join(fileMiddlewares, "@file, ")+"@file",
			"uses the middleware %q, which is not its own", ref)
	}
}

func (t *traefikLabels) middleware(key, middleware, option, value string) {
	switch option {
	case "chain.middlewares":
		t.middlewares(key, value)
		t.chains.add(middleware, value)
	case "basicauth.usersfile", "digestauth.usersfile":
		t.refuse(ruleMiddleware, key, t.keyValue(key, value), "list the users in a label", "lets the proxy read its file %q", value)
	case "forwardauth.address":
		service, own := t.ownAddress(value)
		switch names := t.serviceNames(); {
		case own && slices.Contains(names, service):
		case own:
			t.refuse(ruleMiddleware, key, t.keyValue(key, value), settings.Suggest(service, names, "the services are "+short(strings.Join(names, ", "))),
				"lets the proxy call %q, and there is no service %q", value, service)
		default:
			t.refuse(ruleMiddleware, key, t.keyValue(key, value), "name a service as http://${STACK_NAME}_<service>:<port>/", "lets the proxy call %q, which is not its own", value)
		}
	case "errors.service":
		if !t.ownReference(value) {
			t.refuse(ruleMiddleware, key, t.keyValue(key, value), "", "shows errors of the proxy's service %q, which is not its own", value)
		}
	}
}

// serviceNames are the keys of the stack's services as the proxy asks for them, in lower case.
func (t *traefikLabels) serviceNames() []string {
	var names []string
	for _, s := range t.stack.Config.Services {
		names = append(names, strings.ToLower(s.Name))
	}
	slices.Sort(names)
	return names
}

// ownAddress returns the service of the stack that a URL leads to, if it has the form of one. It
// may not exist: a name that only begins like the stack's leads wherever its owner likes. A host
// of the run leads back to the proxy, which would ask itself without an end.
func (t *traefikLabels) ownAddress(address string) (service string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" || strings.ContainsAny(address, "\\ \t\r\n") {
		return "", false
	}
	service, ok = strings.CutPrefix(strings.ToLower(u.Hostname()), strings.ToLower(t.stack.Name)+"_")
	return service, ok && (objectName.MatchString(service) || slices.Contains(t.serviceNames(), service))
}

// dedicated reports whether a router is for TCP and on entrypoints alone that the
// operator gives to whichever recipe asks.
func (t *traefikLabels) dedicated(id string, r *router) bool {
	return strings.HasPrefix(id, "tcp/") && len(r.entrypoints) > 0 && !slices.ContainsFunc(r.entrypoints, func(name string) bool {
		return !slices.Contains(t.policy.Entrypoints, name)
	})
}

// finish judges routers as a whole. Without a rule Traefik's default applies, which
// this side does not know.
func (t *traefikLabels) finish() {
	for _, guard := range sorted(t.guards) {
		if !t.seen["http."+guard+".users"] && !t.seen["http."+guard+".usersfile"] {
			t.withoutUsers(t.guards[guard], guard)
		}
	}
	for _, id := range sorted(t.replaced) {
		r := t.replaced[id]
		if wrong := r.growth(); wrong != "" {
			t.refuse(ruleTraefik, r.label, t.keyValue(r.label, r.regex+" "+r.by), "", "sets the label %q to %q, which %s", r.label, r.by, wrong)
		}
	}
	for _, id := range sorted(t.routers) {
		r := t.routers[id]
		_, name, _ := strings.Cut(id, "/")
		if r.ruleLabel == "" {
			t.refuse(ruleHost, r.label, name+r.reach(), "add "+fmt.Sprintf("traefik.%s.rule=Host(`${DOMAIN}`)", strings.ReplaceAll(strings.Replace(id, "/", ".routers.", 1), t.stack.Name, "${STACK_NAME}")),
				"has the router %q without a rule", name)
			continue
		}
		if strings.TrimSpace(r.rule) == "HostSNI(`*`)" && t.dedicated(id, r) {
			continue
		}
		below, err := proveRule(r.rule, t.policy.Domains)
		if err != nil {
			t.refuse(ruleHost, r.ruleLabel, r.rule+r.reach(), "write Host(`${DOMAIN}`) and narrow it with && as needed; "+furtherHosts, "has a router rule that cannot be admitted: %s; %s", r.rule, short(err.Error()))
			continue
		}
		if below != "" {
			at := t.locate(r.ruleLabel, t.path...)
			t.notes = append(t.notes, recipe.Warning{File: at.file, Line: at.line, Message: fmt.Sprintf(
				"service %s: the router %s serves %s, below the app's own host; the wildcard certificate covers one level, so the proxy answers there with its default certificate",
				t.service, short(name), short(below))})
		}
	}
}
