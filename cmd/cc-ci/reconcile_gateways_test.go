package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/internal/config"
)

// What the settings list as a gateway gets to the proxy's unit, which compares it with what Docker gives to
// containers: the pool of its swarm, and the networks that there are.
func TestN3_GatewaysAreComparedWithDocker(t *testing.T) {
	for _, tc := range []struct {
		gateway string
		pool    []string
		want    string // of the error
	}{
		{"198.51.100.9", nil, "the certificate in "}, // which comes next
		{"10.200.1.1", nil, "cc-ci.yml:4: reconcile.proxy.gateways[0]: 10.200.1.1/32 holds addresses of the networks that the swarm makes, 10.0.0.0/8"},
		{"10.200.1.1", []string{"172.30.0.0/16"}, "the certificate in "},
		{"172.30.0.0/28", []string{"172.30.0.0/16"}, "172.30.0.0/28 holds addresses of the networks that the swarm makes, 172.30.0.0/16"},
		{"172.18.0.1", nil, "172.18.0.1/32 holds addresses of the network docker_gwbridge, 172.18.0.0/22"},
		{"192.168.1.7", nil, "the certificate in "}, // of a network that is no bridge, with the machine's own addresses
	} {
		docker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var answer any = []network.Summary{
				{Name: "docker_gwbridge", Driver: "bridge", IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: "172.18.0.0/22"}}}},
				{Name: "lan", Driver: "macvlan", IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: "192.168.1.0/24"}}}},
				{Name: "host", Driver: "host"},
			}
			if strings.HasSuffix(r.URL.Path, "/info") {
				answer = system.Info{Swarm: swarm.Info{Cluster: &swarm.ClusterInfo{DefaultAddrPool: tc.pool}}}
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer)
		}))
		c, err := client.NewClientWithOpts(client.WithHost("tcp://"+docker.Listener.Addr().String()), client.WithVersion("1.44"))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Parse("cc-ci.yml", []byte("ingress: {kind: traefik}\nreconcile:\n  images: {cc_ci: 'cc-ci:1'}\n  proxy: {certificates: /nonexistent, gateways: ["+tc.gateway+"]}\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range reconcileUnits(cfg, c) {
			if u.Name != "proxy" {
				continue
			}
			if _, err := u.Desired(t.Context()); ccci.CodeOf(err) != ccci.CodeInvalid || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s, pool %v: %v", tc.gateway, tc.pool, err)
			}
		}
		docker.Close()
	}
}
