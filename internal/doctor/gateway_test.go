package doctor

import (
	"context"
	"net/netip"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestN3_AWideGatewayIsNamed(t *testing.T) {
	check := func(has, should string, err error) string {
		t.Helper()
		return said(t, Gateway(func(context.Context) (a, b netip.Prefix, _ error) {
			if has != "" {
				a, b = netip.MustParsePrefix(has), netip.MustParsePrefix(should)
			}
			return a, b, err
		}))
	}
	expect(t, "Docker's own", check("172.18.0.0/16", "172.18.0.0/22", nil), "warning  network: docker_gwbridge", "172.18.0.0/16",
		"docker swarm leave --force", "docker network rm docker_gwbridge", "--subnet 172.18.0.0/22 --opt com.docker.network.bridge.name=docker_gwbridge --opt com.docker.network.bridge.enable_icc=false")
	expect(t, "small enough", check("", "", nil), "ok       network: docker_gwbridge")
	expect(t, "no answer", check("", "", ccci.Errorf(ccci.CodeInfra, "no daemon").WithHint("start it")), "problem  network: docker_gwbridge", "no daemon")
}
