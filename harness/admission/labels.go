package admission

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// fileMiddlewares are those of the proxy's own file that recipes may name.
var fileMiddlewares = []string{"security", "keycloak", "basicauth"}

var backupPath = regexp.MustCompile(`^backupbot\.backup\.volumes\.[^.]+\.path$`)

// labels judges the labels of a service. path says where they stand.
func (j *judge) labels(service string, labels map[string]string, path ...string) {
	path = append([]string{"services", service}, path...)
	j.reserved(service, labels, path...)
	t := &traefikLabels{judge: j, service: service, path: path, ruled: map[string]bool{}, named: map[string]string{}}
	for _, key := range sorted(labels) {
		value := labels[key]
		low := strings.ToLower(strings.TrimSpace(key))
		switch {
		case strings.HasPrefix(low, "traefik."):
			t.label(key, strings.Split(low, ".")[1:], value)
		case strings.HasPrefix(low, "coop-cloud."):
			j.coopCloud(service, key, path)
		case backupPath.MatchString(low):
			j.backupPaths(service, key, value, path)
		}
	}
	t.finish()
}

// reserved refuses labels by which cc-ci and swarm know whose an object is.
func (j *judge) reserved(service string, labels map[string]string, path ...string) {
	for _, key := range sorted(labels) {
		low := strings.ToLower(key)
		at := j.locate(key, path...)
		switch {
		case low == "cc-ci.run" && j.policy.RunID != "" && ccci.RunID(labels[key]) != j.policy.RunID:
			j.refuse(ruleReserved, service, key, at, "remove the label", "sets the label %q to another run", key)
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

func (j *judge) backupPaths(service, key, value string, at []string) {
	for p := range strings.SplitSeq(value, ",") {
		p = strings.TrimSpace(p)
		if path.IsAbs(p) || p == ".." || strings.HasPrefix(path.Clean(p), "../") || path.Clean(p) == ".." {
			j.refuse(ruleBackupPath, service, p, j.locate(key, at...), "paths are relative to the volume", "backs up %q, which is not within the volume", p)
		}
	}
}

// traefikLabels judges the Traefik labels of one service. Traefik reads keys
// without regard to case, so keys come in lower case here.
type traefikLabels struct {
	*judge
	service string
	path    []string
	ruled   map[string]bool   // routers with a rule, as "http/name"
	named   map[string]string // all routers, with a label that names each
}

func (t *traefikLabels) refuse(rule, key, value, hint, format string, args ...any) {
	t.judge.refuse(rule, t.service, value, t.locate(key, t.path...), hint, format, args...)
}

// label judges one label; k is its key in lower case without "traefik".
func (t *traefikLabels) label(key string, k []string, value string) {
	switch {
	case len(k) == 1 && (k[0] == "enable" || k[0] == "tags"):
	case len(k) == 2 && (k[0] == "docker" || k[0] == "swarm"):
		if k[1] == "network" && !t.reachable(value) {
			t.refuse(ruleTraefik, key, value, "leave it out, or name ${STACK_NAME}_<network>", "lets the proxy reach it through the network %q, which is not its own", value)
		}
	case len(k) > 3 && (k[0] == "http" || k[0] == "tcp") && slices.Contains([]string{"routers", "services", "middlewares"}, k[1]):
		if !strings.HasPrefix(k[2], strings.ToLower(t.stack.Name)) {
			t.refuse(ruleNamespace, key, k[1]+"."+k[2], "begin the name with ${STACK_NAME}", "defines %s %q outside its own names", "the proxy's "+strings.TrimSuffix(k[1], "s"), k[2])
		}
		switch k[1] {
		case "routers":
			t.router(key, k, value)
		case "services":
			if field := strings.Join(k[3:], "."); strings.HasSuffix(field, "server.url") || strings.HasSuffix(field, "server.address") {
				t.refuse(ruleTraefik, key, value, "name the port with loadbalancer.server.port", "sends its visitors to %q", value)
			}
		case "middlewares":
			t.middleware(key, k, value)
		}
	case k[0] == "udp":
		t.refuse(ruleHost, key, key, "", "routes UDP, which knows no hosts: %s", key)
	default:
		t.refuse(ruleTraefik, key, key, "", "sets the label %q, which is not about its own routers", key)
	}
}

// reachable reports whether a network is the proxy's or the stack's own.
func (t *traefikLabels) reachable(network string) bool {
	return network == t.policy.Network || t.own(network)
}

func (t *traefikLabels) router(key string, k []string, value string) {
	id := k[0] + "/" + k[2]
	t.named[id] = key
	switch field := strings.Join(k[3:], "."); {
	case field == "rule":
		t.ruled[id] = true
		if err := proveRule(value, t.policy.Domains); err != nil {
			t.refuse(ruleHost, key, value, "write Host(`${DOMAIN}`) and narrow it with && as needed", "has a router rule that cannot be admitted: %s; %s", value, err)
		}
	case field == "middlewares":
		t.middlewares(key, value)
	case field == "service":
		if !t.ownReference(value) {
			t.refuse(ruleTraefik, key, value, "", "routes to the proxy's service %q, which is not its own", value)
		}
	case strings.HasPrefix(field, "tls.domains["):
		for host := range strings.SplitSeq(value, ",") {
			if err := proveRule("Host(`"+strings.TrimSpace(host)+"`)", t.policy.Domains); err != nil {
				t.refuse(ruleHost, key, value, "", "asks for a certificate for %q: %s", value, err)
			}
		}
	}
}

// ownReference reports whether a reference names an object of this stack.
func (t *traefikLabels) ownReference(ref string) bool {
	name, provider, _ := strings.Cut(strings.ToLower(strings.TrimSpace(ref)), "@")
	return strings.HasPrefix(name, strings.ToLower(t.stack.Name)) && slices.Contains([]string{"", "docker", "swarm"}, provider)
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

func (t *traefikLabels) middleware(key string, k []string, value string) {
	field := strings.Join(k[3:], ".")
	switch {
	case field == "chain.middlewares":
		t.middlewares(key, value)
	case strings.HasSuffix(field, "auth.usersfile"):
		t.refuse(ruleMiddleware, key, value, "list the users in a label", "lets the proxy read its file %q", value)
	case field == "forwardauth.address":
		if !t.ownAddress(value) {
			t.refuse(ruleMiddleware, key, value, "name a service as http://${STACK_NAME}_<service>:<port>/", "lets the proxy call %q, which is not its own", value)
		}
	case strings.HasPrefix(field, "forwardauth.tls."):
		t.refuse(ruleMiddleware, key, value, "", "lets the proxy read its file or trust everybody: %s", key)
	case field == "errors.service":
		if !t.ownReference(value) {
			t.refuse(ruleMiddleware, key, value, "", "shows errors of the proxy's service %q, which is not its own", value)
		}
	case strings.HasPrefix(field, "plugin."):
		t.refuse(ruleMiddleware, key, field, "", "uses a plugin of the proxy: %s", key)
	}
}

// ownAddress reports whether a URL leads to a service or host of this run.
func (t *traefikLabels) ownAddress(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return false
	}
	host := u.Hostname()
	return t.own(host) || slices.Contains(t.policy.Domains, strings.ToLower(host))
}

// finish judges what is missing: without a rule Traefik's default applies,
// which this side does not know.
func (t *traefikLabels) finish() {
	for _, id := range sorted(t.named) {
		if !t.ruled[id] {
			_, name, _ := strings.Cut(id, "/")
			t.refuse(ruleHost, t.named[id], name, "add "+fmt.Sprintf("traefik.%s.rule=Host(`${DOMAIN}`)", strings.ReplaceAll(strings.Replace(id, "/", ".routers.", 1), t.stack.Name, "${STACK_NAME}")),
				"has the router %q without a rule", name)
		}
	}
}
