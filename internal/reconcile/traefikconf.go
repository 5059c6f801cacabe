package reconcile

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// Traefik's configuration, as data: no text is put together. What a recipe may rely on
// is what the Co-op Cloud recipe of Traefik offers: entrypoints web and web-secure, the further
// ones by their names, middleware security@file, rules as Traefik 2 wrote them.

type object = map[string]any

// maxHeaderBytes is what each connection can make the proxy hold of an unfinished request, as in the
// embedded ingress. Traefik's default is 1 MiB. How long a request may take to come in stays at
// Traefik's 60 s: that includes the body, and with less a push to the forge behind the proxy fails.
const maxHeaderBytes = 64 << 10

// staticConfig is what Traefik reads when it starts.
func staticConfig(o ProxyOptions) (string, error) {
	entrypoints := object{
		"web": object{
			"address": ":80",
			"http":    object{"maxHeaderBytes": maxHeaderBytes, "redirections": object{"entryPoint": object{"to": fmt.Sprintf(":%d", o.HTTPS), "scheme": "https"}}},
		},
		"web-secure": object{"address": ":443", "http": object{"maxHeaderBytes": maxHeaderBytes}},
		"ping":       object{"address": fmt.Sprintf("127.0.0.1:%d", pingPort)},
	}
	if len(o.Gateways) > 0 {
		// Visitors count by address. Not on the further entrypoints: where the server speaks first, the client
		// would wait until no header has come. X-Forwarded-For stays a text of the visitor's.
		var trusted []string
		for _, g := range o.Gateways {
			trusted = append(trusted, g.From.String())
		}
		for _, name := range []string{"web", "web-secure"} {
			entrypoints[name].(object)["proxyProtocol"] = object{"trustedIPs": trusted}
		}
	}
	for _, e := range o.Entrypoints {
		o := object{"address": fmt.Sprintf(":%d", e.Port), "http": object{"maxHeaderBytes": maxHeaderBytes}}
		if e.UDP {
			o = object{"address": fmt.Sprintf(":%d/udp", e.Port)}
		}
		entrypoints[e.Name] = o
	}
	return text(object{
		"global":      object{"checkNewVersion": false, "sendAnonymousUsage": false},
		"core":        object{"defaultRuleSyntax": "v2"},
		"log":         object{"level": "INFO"},
		"ping":        object{"entryPoint": "ping"},
		"entryPoints": entrypoints,
		"providers": object{
			// How fast an app that has come up is reached.
			"providersThrottleDuration": "100ms",
			"swarm": object{
				"endpoint":         "unix://" + socketPath,
				"exposedByDefault": false,
				"network":          o.Network,
				"refreshSeconds":   "300ms",
			},
			"file": object{"directory": dynamicDir, "watch": true},
		},
	})
}

// dynamicConfig is what Traefik reads whenever it changes.
func dynamicConfig(cert, key string) (string, error) {
	pair := object{"certFile": dynamicDir + "/" + cert, "keyFile": dynamicDir + "/" + key}
	return text(object{
		"http": object{"middlewares": object{"security": object{"headers": object{
			"frameDeny": true, "browserXssFilter": true, "contentTypeNosniff": true,
			"stsIncludeSubdomains": true, "stsPreload": true, "stsSeconds": 31536000,
		}}}},
		"tls": object{
			"certificates": []any{pair},
			"stores":       object{"default": object{"defaultCertificate": pair}},
			"options":      object{"default": object{"minVersion": "VersionTLS12"}},
		},
	})
}

func text(o object) (string, error) {
	out, err := yaml.Marshal(o)
	return string(out), err
}
