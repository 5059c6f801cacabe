package reconcile

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// What is believed of a connection is on the entrypoints of visitors and lists the gateways; without any,
// and of X-Forwarded-For, nothing is believed.
func TestN3_WhoseProxyProtocolIsBelieved(t *testing.T) {
	options := ProxyOptions{Domain: domain, Network: "proxy", HTTP: 80, HTTPS: 443, Entrypoints: []Entrypoint{{Name: "ssh", Port: 2222}, {Name: "udp", Port: 1, UDP: true}}}
	believed := func(o ProxyOptions) map[string]any {
		t.Helper()
		text, err := staticConfig(o)
		if err != nil {
			t.Fatal(err)
		}
		var conf struct {
			EntryPoints map[string]map[string]any `yaml:"entryPoints"`
		}
		if err := yaml.Unmarshal([]byte(text), &conf); err != nil {
			t.Fatal(err)
		}
		for _, never := range []string{"insecure", "forwardedHeaders"} {
			if strings.Contains(text, never) {
				t.Errorf("%s is in\n%s", never, text)
			}
		}
		if len(conf.EntryPoints) != 5 {
			t.Errorf("%d entrypoints are in\n%s", len(conf.EntryPoints), text)
		}
		found := map[string]any{}
		for name, e := range conf.EntryPoints {
			if p, ok := e["proxyProtocol"]; ok {
				found[name] = p
			}
		}
		return found
	}
	if got := believed(options); len(got) > 0 {
		t.Errorf("without a gateway there is %v", got)
	}
	options.Gateways = []Gateway{{From: netip.MustParsePrefix("198.51.100.9/32")}, {From: netip.MustParsePrefix("192.0.2.0/28")}}
	trusted := map[string]any{"trustedIPs": []any{"198.51.100.9/32", "192.0.2.0/28"}}
	if diff := cmp.Diff(map[string]any{"web": trusted, "web-secure": trusted}, believed(options)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// An app cannot be among the gateways, whatever Docker gives to containers; before anything is changed.
func TestN3_NoAppIsAGateway(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), domain, "*."+domain)
	containers := []ContainerRange{{netip.MustParsePrefix("10.0.0.0/8"), "the networks that the swarm makes"}, {netip.MustParsePrefix("172.18.0.0/22"), "the network docker_gwbridge"}}
	for text, want := range map[string]string{
		"198.51.100.9/32": "",
		"172.18.4.0/24":   "",
		"192.168.0.0/16":  "",
		"10.1.2.3/32":     "cc-ci.yml:7: reconcile.proxy.gateways[0]: 10.1.2.3/32 holds addresses of the networks that the swarm makes, 10.0.0.0/8: an app could name any address as its visitor's",
		"172.18.0.1/32":   "172.18.0.1/32 holds addresses of the network docker_gwbridge, 172.18.0.0/22",
		"172.16.0.0/12":   "the network docker_gwbridge",
	} {
		asked := 0
		u := Proxy(ProxyOptions{Domain: domain, Network: "proxy", Certificates: dir, Traefik: "traefik:1", CCCI: "cc-ci:1", Socket: "/var/run/docker.sock", HTTP: 80, HTTPS: 443,
			Gateways:   []Gateway{{netip.MustParsePrefix(text), "cc-ci.yml:7: reconcile.proxy.gateways[0]"}},
			Containers: func(context.Context) ([]ContainerRange, error) { asked++; return containers, nil }})
		_, err := u.Desired(t.Context())
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || ccci.CodeOf(err) != ccci.CodeInvalid || ccci.HintOf(err) == "") || asked != 1 {
			t.Errorf("%s gives %v", text, err)
		}
	}
}
