package traefik

import (
	"strings"
	"testing"

	"github.com/traefik/paerser/parser"
)

func TestN3_KeysThatTraefikMayRead(t *testing.T) {
	for key, want := range map[string]bool{
		"traefik.enable":         true,
		"Traefik.Enable":         true,
		"traefik.docker.network": true,
		"traefik.http.routers.demo-0a1b2c_ci.tls.domains[0].main":     true,
		"traefik.http.middlewares.a.headers.customrequestheaders.X-A": true,
		"traefik.http.middlewares.a.errors.statusrewrites.400-499":    true,

		"traefik.http.middlewares.demo-h.headers.customrequestheaders.a]":  false,
		"traefik.http.middlewares.demo-h.headers.customrequestheaders.]":   false,
		"traefik.http.middlewares.a].addprefix.prefix":                     false,
		"traefik.http.middlewares.a.headers.customrequestheaders.a[0":      false,
		"traefik.http.middlewares.a.headers.customrequestheaders.[0]":      false,
		"traefik.http.middlewares.a.headers.customrequestheaders.a[0][1]":  false,
		"traefik.http.middlewares.a.headers.customrequestheaders.a[]":      false,
		"traefik.http.middlewares.a.headers.customrequestheaders.a[-1]":    false,
		"traefik.http.middlewares.a.headers.customrequestheaders.a[99999]": false,
		"traefik.http.middlewares.a.headers.customrequestheaders.a b":      false,
		"traefik.http.middlewares.a.headers.customrequestheaders.a\n":      false,
		"traefik.http.middlewares.a.headers.customrequestheaders.é":        false,
		"traefik.http.middlewares.a.headers.customrequestheaders.":         false,
		"traefik..http":       false,
		"traefik.":            false,
		"traefik":             false,
		"":                    false,
		"traefi\u212a.enable": false,
		" traefik.enable":     false,
		"traefik.enable ":     false,
		"traefik." + strings.Repeat("a.", 20) + "a":   false,
		"traefik." + strings.Repeat("a", maxKey) + "": false,
	} {
		if err := CheckKey(key); (err == nil) != want {
			t.Errorf("%.90q: %v", key, err)
		}
	}
}

func TestN3_LabelsThatTraefikMayRead(t *testing.T) {
	const m = "traefik.http.middlewares.a.basicauth."
	for name, c := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"none":              {nil, true},
		"others":            {map[string]string{"a]": "", "coop-cloud.x": "", "traefik": ""}, true},
		"a bracket":         {map[string]string{"traefik.enable": "true", "TRAEFIK.a]": ""}, false},
		"users":             {map[string]string{m + "users": "a:b", m + "realm": "x"}, true},
		"in another case":   {map[string]string{strings.ToUpper(m) + "Users": "a:b", m + "realm": "x"}, true},
		"a file":            {map[string]string{m + "usersfile": "/run/secrets/users"}, true},
		"no users":          {map[string]string{m + "realm": "x"}, false},
		"empty":             {map[string]string{m + "users": ""}, false},
		"those of another":  {map[string]string{m + "realm": "x", "traefik.http.middlewares.b.basicauth.users": "a:b"}, false},
		"digest needs none": {map[string]string{"traefik.http.middlewares.a.digestauth.realm": "x"}, true},
	} {
		if err := CheckLabels(c.labels); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// options has a field of each kind that Traefik's own configuration is made of.
type options struct {
	HTTP *struct {
		Routers map[string]*struct {
			Rule, Service string
			EntryPoints   []string
			Priority      int
			TLS           *struct {
				Options string
				Domains []struct {
					Main string
					SANs []string
				}
			} `label:"allowEmpty"`
		}
		Services map[string]*struct {
			LoadBalancer *struct {
				PassHostHeader *bool
				Servers        []struct{ Port, Scheme string } `label-slice-as-struct:"server"`
				HealthCheck    *struct{ Headers map[string]string }
			}
		}
		Middlewares map[string]*struct {
			Headers *struct{ CustomRequestHeaders map[string]string }
			Errors  *struct{ StatusRewrites map[string]int }
			Plugin  map[string]map[string]any
		}
	}
	TLS *struct {
		Options map[string]struct{ MinVersion string } `label:"-"`
	}
	Enable bool
	Docker *struct{ Network *string }
}

// FuzzKeysAreRead has Traefik's own parser read what CheckKey admits: it must not panic, which would
// end its reading of all apps.
func FuzzKeysAreRead(f *testing.F) {
	for _, key := range []string{
		"traefik.http.middlewares.m.headers.customrequestheaders.a]",
		"traefik.http.middlewares.m.headers.customrequestheaders.a[0]",
		"traefik.http.routers.r.tls.domains[0].main",
		"traefik.http.routers.r.tls.domains[0][1]",
		"traefik.http.routers[0].tls",
		"traefik.http.services.s.loadbalancer.server.port",
		"traefik.http.services.s.loadbalancer.server[0].port",
		"traefik.http.middlewares.m.errors.statusrewrites.1.2",
		"traefik.http.middlewares.m.plugin.a.b[0].c",
		"traefik.http.middlewares.m.plugin.a.b.c",
		"traefik.tls.options.a.minversion",
		"traefik.enable",
		"traefik.docker.network.a",
	} {
		f.Add(key, "traefik.http.routers.r.tls", "true")
		f.Add(key, key+".x", "")
	}
	f.Fuzz(func(t *testing.T, one, two, value string) {
		labels := map[string]string{}
		for _, key := range []string{one, two} {
			if CheckKey(key) == nil {
				labels[key] = value
			}
		}
		_ = parser.Decode(labels, &options{}, "traefik", "traefik.http", "traefik.tls", "traefik.enable", "traefik.docker.")
	})
}
