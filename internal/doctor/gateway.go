package doctor

import (
	"context"
	"fmt"
	"net/netip"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Gateway warns of a docker_gwbridge with so many addresses that a few containers, which ask for all of them, fill the
// kernel's table of neighbours for all others. wide returns its addresses and those that it should have, the zero values if it is small
// enough or does not exist.
func Gateway(wide func(context.Context) (has, should netip.Prefix, err error)) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		const name = "network: docker_gwbridge"
		has, should, err := wide(ctx)
		if err != nil {
			return []ccci.Diagnosis{Problem(name, err)}
		}
		if has.IsValid() {
			return []ccci.Diagnosis{{Check: name, Code: ccci.CodeInfra, Warning: true,
				Message: fmt.Sprintf("%s has so many addresses that a few containers can fill the kernel's table of neighbours (ARP) for all others", has),
				Hint: "stop cc-ci; docker swarm leave --force, which removes all services, secrets and configs of the swarm; docker network rm docker_gwbridge; docker network create --subnet " + should.String() +
					" --opt com.docker.network.bridge.name=docker_gwbridge --opt com.docker.network.bridge.enable_icc=false --opt com.docker.network.bridge.enable_ip_masquerade=true docker_gwbridge;" +
					" then cc-ci reconcile, or docker swarm init --advertise-addr 127.0.0.1 on a machine without it"}}
		}
		return []ccci.Diagnosis{Well(name, "its containers cannot fill the kernel's table of neighbours")}
	}
}
