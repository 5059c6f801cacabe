package reconcile

import (
	"context"
	"net/http"
)

// DashboardOptions describe the dashboard.
type DashboardOptions struct {
	Self Self
	Port int // that it listens on in its container
}

// DashboardMemory bounds what the dashboard's service may take, in bytes.
const DashboardMemory int64 = 512 << 20

// Dashboard is cc-ci dashboard as a service at the CI domain (A27). It has no secret
// but the bus's address, reads what it shows and nothing else, and writes nothing. Whoever
// reaches it does so through the proxy, on whose network it is, so it believes what that
// says of its readers' addresses.
func Dashboard(o DashboardOptions) Unit {
	return Unit{
		Name: "dashboard",
		Desired: func(context.Context) (Desired, error) {
			s, files, err := o.Self.service("dashboard", "dashboard", "--proxies", "attached")
			if err != nil {
				return Desired{}, err
			}
			s.Memory(128<<20, DashboardMemory)
			s.halfCPUs()
			s.Route(Route{Name: "dashboard", Rule: "Host(`" + o.Self.Domain + "`)", Port: o.Port})
			return Desired{Files: files, Services: []Service{s}}, nil
		},
		Check: func(ctx context.Context) error {
			if status, err := o.Self.ask(ctx, http.MethodGet, "/healthz"); err != nil || status != http.StatusOK {
				return notServed("dashboard", "/healthz", http.StatusOK, status, err)
			}
			return nil
		},
	}
}
