package doctor

import (
	"context"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Gateways says whose PROXY protocol the proxy believes. check returns why one of them cannot be
// trusted; it is not asked without any.
func Gateways(listed []string, check func(context.Context) error) Check {
	return func(ctx context.Context) []ccci.Diagnosis {
		const name = "proxy: gateways"
		if len(listed) == 0 {
			return []ccci.Diagnosis{Well(name, "none is listed in reconcile.proxy.gateways: visitors count by the address that their connection comes from")}
		}
		if err := check(ctx); err != nil {
			return []ccci.Diagnosis{Problem(name, err)}
		}
		return []ccci.Diagnosis{Well(name, "of connections from %s the visitor is the one that the PROXY protocol names", strings.Join(listed, ", "))}
	}
}
