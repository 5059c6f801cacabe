package ingress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/compose/types"
	"github.com/google/go-cmp/cmp"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// labels writes "key=value" lines as labels; "traefik.http." is left out.
func labels(lines ...string) types.Labels {
	l := types.Labels{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(key, "traefik.") {
			key = "traefik.http." + key
		}
		l[key] = value
	}
	return l
}

func stackOf(services map[string]types.Labels) *recipe.Stack {
	s := &recipe.Stack{Name: "blog-1a2b3c_ci_test", Domain: "blog-1a2b3c.ci.test", Config: &types.Config{}}
	for name, l := range services {
		s.Config.Services = append(s.Config.Services, types.ServiceConfig{Name: name, Deploy: types.DeployConfig{Labels: l}})
	}
	slices.SortFunc(s.Config.Services, func(a, b types.ServiceConfig) int { return strings.Compare(a.Name, b.Name) })
	return s
}

const (
	enable = "traefik.enable=true"
	port   = "services.s.loadbalancer.server.port=80"
	rule   = "routers.r.rule=Host(`a`)"
	secure = "routers.r.tls.certresolver="
)

// A21: the labels of a usual recipe give one route to its own domain.
func TestA21_RoutersOfAUsualRecipe(t *testing.T) {
	got, warnings := Routers(stackOf(map[string]types.Labels{
		"app": labels(enable, "services.blog.loadbalancer.server.port=8080",
			"routers.blog.rule=Host(`blog-1a2b3c.ci.test`)", "routers.blog.entrypoints=web-secure",
			"routers.blog.tls.certresolver=", "routers.blog.middlewares=slash,security@file",
			"middlewares.slash.stripprefix.prefixes=/x"),
		"db": labels("services.db.loadbalancer.server.port=5432", "routers.db.rule=Host(`db`)"), // not enabled
	}))
	want := []Router{{
		Name: "blog", Rule: "Host(`blog-1a2b3c.ci.test`)", Domain: "blog-1a2b3c.ci.test", Priority: 27, EntryPoints: []string{"web-secure"}, TLS: true,
		Backend: Backend{Host: "blog-1a2b3c_ci_test_app", Port: 8080, Scheme: "http", PassHost: true},
		Middlewares: []Middleware{
			{Name: "slash", Kind: "stripprefix", Options: map[string]string{"prefixes": "/x"}},
			fileMiddlewares["security@file"],
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" || len(warnings) > 0 {
		t.Errorf("routers (-want +got):\n%s\nwarnings: %q", diff, warnings)
	}
}

func TestRoutersWhatTraefikDrops(t *testing.T) {
	for name, tc := range map[string]struct {
		labels  []string
		warning string
	}{
		"unknown middleware":        {[]string{enable, port, rule, secure, "routers.r.middlewares=nope"}, `middleware "nope" does not exist`},
		"unknown file middleware":   {[]string{enable, port, rule, secure, "routers.r.middlewares=m@file", "middlewares.m.stripprefix.prefixes=/x"}, "does not exist"},
		"unknown middleware kind":   {[]string{enable, port, rule, secure, "routers.r.middlewares=m", "middlewares.m.frobnicate.x=1"}, "frobnicate"},
		"middleware with two kinds": {[]string{enable, port, rule, secure, "routers.r.middlewares=m", "middlewares.m.addprefix.prefix=/x", "middlewares.m.stripprefix.prefixes=/x"}, "at once"},
		"middlewares in a circle":   {[]string{enable, port, rule, secure, "routers.r.middlewares=m", "middlewares.m.chain.middlewares=m"}, "circle"},
		"no port":                   {[]string{enable, rule, secure, "services.s.loadbalancer.server.scheme=http"}, "loadbalancer.server.port"},
		"port out of range":         {[]string{enable, rule, secure, "services.s.loadbalancer.server.port=70000"}, "70000"},
		"no service":                {[]string{enable, rule, secure}, "0 loadbalancer services"},
		"two services":              {[]string{enable, port, rule, secure, "services.z.loadbalancer.server.port=81"}, "2 loadbalancer services"},
		"service of nobody":         {[]string{enable, port, rule, secure, "routers.r.service=api@internal"}, `"api@internal" does not exist`},
		"no rule":                   {[]string{enable, port, secure}, "no rule"},
		"broken rule":               {[]string{enable, port, secure, "routers.r.rule=Host(a)"}, "Host(a)"},
		"foreign entry point":       {[]string{enable, port, rule, secure, "routers.r.entrypoints=gitea-ssh"}, "entry points"},
		"scheme":                    {[]string{enable, port, rule, secure, "services.s.loadbalancer.server.scheme=ftp"}, "ftp"},
		"priority":                  {[]string{enable, port, rule, secure, "routers.r.priority=high"}, "high"},
		"tcp":                       {[]string{enable, "traefik.tcp.routers.x.rule=HostSNI(`*`)"}, "only HTTP"},
	} {
		routers, warnings := Routers(stackOf(map[string]types.Labels{"app": labels(tc.labels...)}))
		if len(routers) > 0 {
			t.Errorf("%s: routed as %+v", name, routers)
		}
		if !strings.Contains(strings.Join(warnings, "\n"), tc.warning) {
			t.Errorf("%s: warnings %q do not say %q", name, warnings, tc.warning)
		}
	}
}

// Chains of chains grow with each level by as much as they refer to; this process makes them.
func TestN3_ChainsAreBounded(t *testing.T) {
	for name, last := range map[string]string{"of middlewares": "stripprefix.prefixes=/x", "of nothing": "chain.middlewares="} {
		all := []string{enable, port, rule, secure, "routers.r.middlewares=m0", "middlewares.m4." + last}
		for i := range 4 {
			all = append(all, fmt.Sprintf("middlewares.m%d.chain.middlewares=%s", i, strings.Repeat(fmt.Sprintf("m%d,", i+1), 291)))
		}
		routers, warnings := Routers(stackOf(map[string]types.Labels{"app": labels(all...)}))
		if len(routers) > 0 || !strings.Contains(strings.Join(warnings, "\n"), "more than 64 middlewares") {
			t.Errorf("%s: %d routers, %q", name, len(routers), warnings)
		}
	}
}

func TestRoutersDetails(t *testing.T) {
	find := func(l ...string) Router {
		t.Helper()
		routers, warnings := Routers(stackOf(map[string]types.Labels{"app": labels(l...)}))
		if len(routers) != 1 {
			t.Fatalf("%q gives %d routers, warnings %q", l, len(routers), warnings)
		}
		return routers[0]
	}
	if r := find(enable, port, rule); r.TLS {
		t.Error("a router without tls labels serves TLS")
	}
	if r := find(enable, port, rule, "routers.r.tls=true"); !r.TLS {
		t.Error("tls=true does not serve TLS")
	}
	if r := find(enable, port, rule, secure, "routers.r.priority=7"); r.Priority != 7 {
		t.Errorf("priority = %d", r.Priority)
	}
	if r := find(enable, port, rule, secure, "routers.r.service=s@docker", "services.z.loadbalancer.server.port=81"); r.Backend.Port != 80 {
		t.Errorf("service by name goes to port %d", r.Backend.Port)
	}
	if r := find("traefik.Enable=TRUE", "services.s.LoadBalancer.Server.Port=80", "Routers.r.Rule=Host(`a`)", "services.s.loadbalancer.passhostheader=false"); r.Backend.PassHost {
		t.Error("passHostHeader=false keeps the host")
	}
	if r := find(enable, port, rule, secure, "routers.r.middlewares=m", "middlewares.m.stripprefix.prefixes[0]=/a", "middlewares.m.stripprefix.prefixes[1]=/b"); r.Middlewares[0].Options["prefixes"] != "/a,/b" {
		t.Errorf("list = %q", r.Middlewares[0].Options)
	}
}

func TestRoutersAcrossServices(t *testing.T) {
	same := []string{enable, port, rule, secure}
	routers, warnings := Routers(stackOf(map[string]types.Labels{
		"a": labels(same...), "b": labels(append(slices.Clone(same), "routers.r.priority=3")...),
	}))
	if len(routers) != 0 || !strings.Contains(strings.Join(warnings, ""), "describe it differently") {
		t.Errorf("two services fight over a router: %+v, %q", routers, warnings)
	}
	routers, _ = Routers(stackOf(map[string]types.Labels{
		"a": labels(enable, rule, secure, "routers.r.service=s"), "b": labels(enable, port),
	}))
	if len(routers) != 1 || routers[0].Backend.Host != "blog-1a2b3c_ci_test_b" {
		t.Errorf("a router may name the service of another: %+v", routers)
	}
}
