package reconcile

import (
	"context"
	"net/http"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// BridgeOptions describe the bridge, and the dashboard too. All but Hook are needed.
type BridgeOptions struct {
	Self Self
	Port int    // that the bridge listens on in its container
	Hook string // path of a webhook, as /hook/git.example.org, which refuses to be read
	// Locks returns the folder of the host in which the locks of this machine's runs are, or why
	// there can be no bridge.
	Locks func() (string, error)
}

// Bridge is cc-ci bridge as a service: on the host's data folder, without Docker's
// socket, reached at /hook alone (A5, A12). The runs themselves are elsewhere on this
// machine, as builds of Drone.
func Bridge(o BridgeOptions) Unit {
	return Unit{
		Name: "bridge",
		Desired: func(context.Context) (Desired, error) {
			locks, err := o.Locks()
			if err != nil {
				return Desired{}, err
			}
			s, files, err := o.Self.service("bridge", "bridge", "--locks", locks, "--proxies", "attached")
			if err != nil {
				return Desired{}, err
			}
			s.Memory(128<<20, 1<<30)
			s.halfCPUs()
			s.StopFirst() // it holds the data folder's lock
			s.Bind(locks, locks, false)
			s.Route(Route{Name: "bridge", Rule: "Host(`" + o.Self.Domain + "`) && PathPrefix(`/hook/`)", Port: o.Port})
			return Desired{Files: files, Services: []Service{s}}, nil
		},
		Check: func(ctx context.Context) error {
			if o.Hook == "" {
				return nil // there is no webhook to ask
			}
			if status, err := o.Self.ask(ctx, http.MethodGet, o.Hook); err != nil || status != http.StatusMethodNotAllowed {
				return notServed("bridge", o.Hook, http.StatusMethodNotAllowed, status, err)
			}
			return nil
		},
	}
}

// notServed says that a service of cc-ci's own is not reached.
func notServed(name, path string, want, status int, err error) error {
	if err == nil {
		return ccci.Errorf(ccci.CodeInfra, "the %s does not answer as it should: %s gives %d, not %d", name, path, status, want).
			WithHint("docker service logs %s%s says more", Prefix, name)
	}
	return ccci.Errorf(ccci.CodeInfra, "the %s is not reached: %w", name, err).WithHint("docker service logs %s%s says more", Prefix, name)
}
