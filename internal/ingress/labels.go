package ingress

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Router is one router of a stack, with all that it refers to.
type Router struct {
	Name        string       `json:"name"`
	Rule        string       `json:"rule"`
	Domain      string       `json:"domain"`                // of the run; requests for other hosts are not the router's, whatever its rule is
	Priority    int          `json:"priority"`              // the higher one decides; by default the length of the rule
	EntryPoints []string     `json:"entryPoints,omitempty"` // of "web" and "web-secure"; empty: both
	TLS         bool         `json:"tls"`                   // serves HTTPS; else plain HTTP
	Backend     Backend      `json:"backend"`
	Middlewares []Middleware `json:"middlewares,omitempty"` // the first one sees the request first
}

// Backend is where a router sends requests.
type Backend struct {
	Host     string `json:"host"` // the service's name on the daemon: <stack>_<service>
	Port     int    `json:"port"`
	Scheme   string `json:"scheme"`   // http, https or h2c
	PassHost bool   `json:"passHost"` // keeps the Host header
}

// Middleware changes requests or answers them. Options have lower-case keys;
// lists are joined by commas.
type Middleware struct {
	Name    string            `json:"name"`
	Kind    string            `json:"kind"`
	Options map[string]string `json:"options,omitempty"`
}

// Routers reads the Traefik labels of a stack's services. A router that Traefik
// would drop (unknown middleware, no port, a rule that does not parse, two
// services to choose from) is left out, and a warning says why: its requests get
// the 404 of a proxy that knows nothing about them.
//
// Unlike Traefik: a router answers for hosts of the stack's domain alone, whatever its rule is, also
// where an operator waived that; there is no default rule and no port taken from the image;
// TCP and UDP routers are not served; middlewares that check who is asking
// (basicAuth, forwardAuth, IP lists) answer 501 instead of letting anybody pass; those that only
// limit or compress are passed over. Of middlewares from files, security@file exists.
// The names of backends are confined to the stack.
func Routers(stack *recipe.Stack) ([]Router, []string) {
	c := compiler{domain: stack.Domain, routers: map[string]*labelled{}, services: map[string]*labelled{}, middlewares: map[string]*labelled{}}
	if stack.Config == nil {
		return nil, nil
	}
	for _, svc := range stack.Config.Services {
		c.read(stack.Name+"_"+svc.Name, svc.Deploy.Labels)
	}
	var routers []Router
	for _, name := range slices.Sorted(maps.Keys(c.routers)) {
		r, err := c.router(name)
		if err != nil {
			c.warn("router %s: %v", name, err)
			continue
		}
		routers = append(routers, r)
	}
	return routers, c.warnings
}

// labelled is one named thing in the labels, and the services that describe it.
type labelled struct {
	options map[string]string // lower-case keys
	origin  []string
	clash   bool
}

type compiler struct {
	domain                         string
	routers, services, middlewares map[string]*labelled
	warnings                       []string
}

func (c *compiler) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// read sorts one service's labels.
func (c *compiler) read(origin string, labels map[string]string) {
	if !isTrue(lookup(labels, "traefik.enable")) {
		return
	}
	found := map[*map[string]*labelled]map[string]map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts := strings.SplitN(key, ".", 5)
		if !strings.EqualFold(parts[0], "traefik") || len(parts) < 3 {
			continue
		}
		switch strings.ToLower(parts[1]) {
		case "http":
		case "tcp", "udp":
			c.warn("%s: %s is not served, only HTTP is", origin, key)
			continue
		default:
			continue
		}
		var kind *map[string]*labelled
		switch strings.ToLower(parts[2]) {
		case "routers":
			kind = &c.routers
		case "services":
			kind = &c.services
		case "middlewares":
			kind = &c.middlewares
		}
		if kind == nil || len(parts) < 5 {
			c.warn("%s: label %s is not understood", origin, key)
			continue
		}
		if found[kind] == nil {
			found[kind] = map[string]map[string]string{}
		}
		if found[kind][parts[3]] == nil {
			found[kind][parts[3]] = map[string]string{}
		}
		addOption(found[kind][parts[3]], strings.ToLower(parts[4]), labels[key])
	}
	for kind, things := range found {
		for name, options := range things {
			old, ok := (*kind)[name]
			if !ok {
				(*kind)[name] = &labelled{options: options, origin: []string{origin}}
				continue
			}
			old.origin = append(old.origin, origin)
			old.clash = old.clash || !maps.Equal(old.options, options)
		}
	}
}

// addOption stores an option; name[0], name[1] make a list.
func addOption(options map[string]string, key, value string) {
	base, _, list := strings.Cut(key, "[")
	if list && options[base] != "" {
		value = options[base] + "," + value
	}
	options[base] = value
}

func lookup(labels map[string]string, key string) string {
	for k, v := range labels {
		if strings.EqualFold(k, key) {
			return v
		}
	}
	return ""
}

func isTrue(s string) bool {
	v, err := strconv.ParseBool(strings.TrimSpace(s))
	return err == nil && v
}

// router resolves one router.
func (c *compiler) router(name string) (Router, error) {
	l := c.routers[name]
	if l.clash {
		return Router{}, fmt.Errorf("services %s describe it differently", strings.Join(l.origin, ", "))
	}
	r := Router{Name: name, Rule: l.options["rule"], Domain: strings.ToLower(c.domain), EntryPoints: list(l.options["entrypoints"])}
	if r.Rule == "" {
		return Router{}, fmt.Errorf("it has no rule")
	}
	if _, err := parseRule(r.Rule); err != nil {
		return Router{}, fmt.Errorf("rule %s: %w", r.Rule, err)
	}
	for _, entry := range r.EntryPoints {
		if entry != entryWeb && entry != entrySecure {
			c.warn("router %s: entry point %s does not exist here", name, entry)
		}
	}
	if len(r.EntryPoints) > 0 && !slices.Contains(r.EntryPoints, entryWeb) && !slices.Contains(r.EntryPoints, entrySecure) {
		return Router{}, fmt.Errorf("none of its entry points exists")
	}
	r.Priority = len(r.Rule)
	if text := l.options["priority"]; text != "" {
		priority, err := strconv.Atoi(text)
		if err != nil {
			return Router{}, fmt.Errorf("priority %q is not a number", text)
		}
		r.Priority = cmp.Or(priority, r.Priority)
	}
	for key, value := range l.options {
		// An empty certresolver, as wildcard mode writes it, still means TLS.
		r.TLS = r.TLS || strings.HasPrefix(key, "tls.") || (key == "tls" && isTrue(value))
	}
	var err error
	if r.Backend, err = c.backend(l); err != nil {
		return Router{}, err
	}
	left := maxMiddlewares
	r.Middlewares, err = c.chain(list(l.options["middlewares"]), 0, &left)
	return r, err
}

// backend finds the service of a router: the one it names, else the only one
// that the same swarm service describes.
func (c *compiler) backend(router *labelled) (Backend, error) {
	name := provider(router.options["service"])
	if name == "" {
		var own []string
		for service, l := range c.services {
			if slices.Contains(l.origin, router.origin[0]) {
				own = append(own, service)
			}
		}
		if len(own) != 1 {
			return Backend{}, fmt.Errorf("service %s has %d loadbalancer services, and it names none of them", router.origin[0], len(own))
		}
		name = own[0]
	}
	l, ok := c.services[name]
	if !ok {
		return Backend{}, fmt.Errorf("service %q does not exist", name)
	}
	if l.clash || len(l.origin) > 1 {
		return Backend{}, fmt.Errorf("service %s is described by %s; one must own it", name, strings.Join(l.origin, ", "))
	}
	port, err := strconv.Atoi(l.options["loadbalancer.server.port"])
	if err != nil || port < 1 || port > 65535 {
		return Backend{}, fmt.Errorf("service %s has no usable loadbalancer.server.port (%q)", name, l.options["loadbalancer.server.port"])
	}
	scheme := cmp.Or(l.options["loadbalancer.server.scheme"], "http")
	if !slices.Contains([]string{"http", "https", "h2c"}, scheme) {
		return Backend{}, fmt.Errorf("service %s has scheme %q; http, https and h2c are known", name, scheme)
	}
	pass := true
	if text := l.options["loadbalancer.passhostheader"]; text != "" {
		pass = isTrue(text)
	}
	return Backend{Host: l.origin[0], Port: port, Scheme: scheme, PassHost: pass}, nil
}

// maxMiddlewares bounds the middlewares of one router as admission does: chains count, and what
// they refer to once for each reference.
const maxMiddlewares = 64

// chain resolves middlewares by name. left is how many more the router may have.
func (c *compiler) chain(names []string, depth int, left *int) ([]Middleware, error) {
	if depth > 10 {
		return nil, fmt.Errorf("its middlewares refer to each other in a circle")
	}
	var all []Middleware
	for _, name := range names {
		if *left--; *left < 0 {
			return nil, fmt.Errorf("it has more than %d middlewares", maxMiddlewares)
		}
		if m, ok := fileMiddlewares[name]; ok {
			all = append(all, m)
			continue
		}
		l, ok := c.middlewares[provider(name)]
		if !ok { // also for other providers' names, which keep their suffix
			return nil, fmt.Errorf("middleware %q does not exist", name)
		}
		if l.clash {
			return nil, fmt.Errorf("services %s describe middleware %s differently", strings.Join(l.origin, ", "), name)
		}
		kind, options, err := split(l.options)
		if err != nil {
			return nil, fmt.Errorf("middleware %s: %w", name, err)
		}
		if kind == "chain" {
			inner, err := c.chain(list(options["middlewares"]), depth+1, left)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
			continue
		}
		m := Middleware{Name: name, Kind: kind, Options: options}
		if _, err := newMiddleware(m); err != nil {
			return nil, fmt.Errorf("middleware %s: %w", name, err)
		}
		if note := remark(m); note != "" {
			c.warn("middleware %s: %s", name, note)
		}
		all = append(all, m)
	}
	return all, nil
}

// split separates the kind, which all keys of a middleware begin with.
func split(options map[string]string) (kind string, rest map[string]string, err error) {
	rest = map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		first, option, _ := strings.Cut(key, ".")
		if kind != "" && kind != first {
			return "", nil, fmt.Errorf("it is %s and %s at once", kind, first)
		}
		kind = first
		if option != "" {
			rest[option] = options[key]
		}
	}
	return kind, rest, nil
}

// provider takes the provider's name off a reference.
func provider(name string) string {
	for _, suffix := range []string{"@docker", "@swarm"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// list splits a comma list and drops empty items.
func list(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
