package doctor

import (
	"context"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestGateways(t *testing.T) {
	well := func(context.Context) error { return nil }
	expect(t, "none", said(t, Gateways(nil, nil)), "ok       proxy: gateways", "visitors count by the address that their connection comes from")
	expect(t, "two", said(t, Gateways([]string{"198.51.100.9", "192.0.2.0/28"}, well)), "ok       proxy: gateways", "connections from 198.51.100.9, 192.0.2.0/28 ", "PROXY protocol")
	expect(t, "refused", said(t, Gateways([]string{"10.1.2.3"}, func(context.Context) error {
		return ccci.Errorf(ccci.CodeInvalid, "cc-ci.yml:7: no").WithHint("write another")
	})), "problem  proxy: gateways", "cc-ci.yml:7: no", "write another")
}
