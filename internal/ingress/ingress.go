// Package ingress is the small reverse proxy of the embedded profile. It brings
// HTTPS to the apps under test by the same Traefik labels that production reads,
// in one container, published on a loopback address only. Deployments attach the
// container to the networks of their apps.
//
// The host side ([Ensure], [Ingress]) owns the truth: certificates and one file
// of routes per stack, in a state directory that the container sees read-only.
// The container side ([Serve]) has no Docker socket and no say; it reads the
// files when it is told to over a Unix socket in that directory, and finds the
// backends by name in Docker's DNS.
//
// What differs from Traefik is written at [Routers].
package ingress

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/client"
	"github.com/gofrs/flock"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
)

// Options say which ingress is wanted. Docker, Box, Domain and StateDir are needed.
type Options struct {
	Docker   *client.Client
	Box      string // reference of the helper image, see package box
	Domain   string // it holds a certificate for this name and *.Domain
	StateDir string // certificates, routes and socket; created with mode 0700
	Addr     string // where HTTPS is published; default "127.0.0.1:0", port 0: a free one
	WebAddr  string // where HTTP, which redirects to HTTPS, is published; the same default
	Name     string // container name; default "cc-ci-ingress-" and a digest of StateDir
	Logger   *slog.Logger
	Now      func() time.Time // default time.Now
}

// Ingress is a running ingress. Its methods are safe for concurrent use, also
// from several processes on one state directory.
type Ingress struct {
	opts Options
	dir  stateDir
	addr string
	web  string
	cas  *x509.CertPool
	use  *flock.Flock // shared by all who use the ingress; nil after Close
}

// Ensure returns the running ingress of this state directory, starting it when
// there is none, and replacing one of another box, domain or address.
// Routes outlive the replacement. The certificate is renewed when a third of its life is left.
// Every process that uses the ingress calls Close in the end; one that is killed has closed.
// Trouble is an Error with CodeInfra; bad options are CodeInvalid.
func Ensure(ctx context.Context, opts Options) (*Ingress, error) {
	opts, err := opts.filled()
	if err != nil {
		return nil, err
	}
	dir := stateDir(opts.StateDir)
	if err := dir.make(); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "preparing the ingress's directory: %w", err)
	}
	lock := flock.New(dir.lock())
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "waiting for another process that starts the ingress: %w", err)
	}
	defer lock.Close()

	if err := dir.ensureCertificates(opts.Domain, opts.Now()); err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "making the ingress's certificates: %w", err)
	}
	cas, err := dir.authorities()
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInfra, "reading the ingress's certificate authority: %w", err)
	}
	in := &Ingress{opts: opts, dir: dir, cas: cas, use: flock.New(dir.users())}
	if err := in.use.RLock(); err != nil { // whoever closes holds the other lock too
		return nil, ccci.Errorf(ccci.CodeInfra, "noting the use of the ingress: %w", err)
	}
	if err := in.ensureContainer(ctx); err != nil {
		in.use.Close()
		return nil, err
	}
	return in, nil
}

// filled returns the options with defaults, or why they cannot work.
func (o Options) filled() (Options, error) {
	if o.Docker == nil || o.Box == "" {
		return o, ccci.Errorf(ccci.CodeInvalid, "starting the ingress: Docker client and helper image are needed")
	}
	if !validHost(o.Domain) {
		return o, ccci.Errorf(ccci.CodeInvalid, "starting the ingress: %q is not a domain name", o.Domain).
			WithHint("use lower-case letters, digits, hyphens and dots, as in ci.localhost")
	}
	abs, err := filepath.Abs(o.StateDir)
	if err != nil || o.StateDir == "" {
		return o, ccci.Errorf(ccci.CodeInvalid, "starting the ingress: %q is not a directory for its state", o.StateDir)
	}
	o.StateDir = abs
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.WebAddr == "" {
		o.WebAddr = "127.0.0.1:0"
	}
	if o.Name == "" {
		o.Name = "cc-ci-ingress-" + shortDigest(o.StateDir)[:6]
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// validHost reports whether s is a lower-case host name.
func validHost(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// Route adds the stack's routers, in place of those it had. What Traefik would
// not serve is left out and logged as a warning; the same warnings come
// from [Routers]. It returns when the routes are in effect.
func (in *Ingress) Route(ctx context.Context, stack *recipe.Stack) error {
	routers, warnings := Routers(stack)
	for _, w := range warnings {
		in.opts.Logger.WarnContext(ctx, "route left out", "stack", stack.Name, "reason", w)
	}
	if err := in.dir.ensureCertificates(in.opts.Domain, in.opts.Now()); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "renewing the ingress's certificate: %w", err)
	}
	if err := in.dir.writeRoutes(stack.Name, routers); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "routing %s: %w", stack.Name, err)
	}
	if err := in.dir.reload(ctx); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "routing %s: %w", stack.Name, err).
			WithHint("look at docker logs %s", in.opts.Name)
	}
	return nil
}

// Unroute removes the stack's routers. Legal when it has none, and when the
// ingress is gone.
func (in *Ingress) Unroute(ctx context.Context, stackName string) error {
	existed, err := in.dir.removeRoutes(stackName)
	if err == nil && existed {
		err = in.dir.reload(ctx)
	}
	if err != nil && !isGone(err) {
		return ccci.Errorf(ccci.CodeInfra, "removing the routes of %s: %w", stackName, err)
	}
	return nil
}

// Unrouted is [Unrouted].
func (in *Ingress) Unrouted(stack *recipe.Stack, host, path string) (why, hint string) {
	return Unrouted(stack, host, path)
}

// Addr is the host:port to dial for HTTPS, whatever the domain.
func (in *Ingress) Addr() string { return in.addr }

// WebAddr is the host:port to dial for plain HTTP, which redirects to HTTPS.
func (in *Ingress) WebAddr() string { return in.web }

// CAs holds the one authority that signs the ingress's certificate.
func (in *Ingress) CAs() *x509.CertPool { return in.cas.Clone() }

// CAFile is the path of that authority's certificate, in PEM.
func (in *Ingress) CAFile() string { return in.dir.caFile() }

// Container is the name of the ingress's container.
func (in *Ingress) Container() string { return in.opts.Name }

// Close ends this use of the ingress. The last of all users removes the container
// and all routes; the certificate authority stays, so that who trusted it need
// not do so again. It is idempotent.
func (in *Ingress) Close(ctx context.Context) error {
	if in.use == nil {
		return nil
	}
	lock := flock.New(in.dir.lock())
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "waiting for another process that starts the ingress: %w", err)
	}
	defer lock.Close()
	if err := in.use.Close(); err != nil {
		return fmt.Errorf("ending the use of the ingress: %w", err)
	}
	use := in.use
	last, err := use.TryLock()
	if err != nil {
		return fmt.Errorf("looking for other users of the ingress: %w", err)
	}
	defer use.Close()
	if last {
		if err := in.remove(ctx); err != nil {
			return err
		}
	}
	in.use = nil
	return nil
}

// remove removes the container and all routes.
func (in *Ingress) remove(ctx context.Context) error {
	if err := in.removeContainer(ctx); err != nil {
		return ccci.Errorf(ccci.CodeInfra, "removing the ingress: %w", err)
	}
	for _, dir := range []string{in.dir.routes(), in.dir.run()} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing the ingress's routes: %w", err)
		}
	}
	return nil
}
