package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness"
	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/config"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/swarm"
	"github.com/recipe-maintainers/cc-ci/internal/ingress"
)

// proxyServer is the proxy that apps under test are reached through.
type proxyServer interface {
	harness.Router
	Addr() string                    // host:port of HTTPS
	Container() string               // its name; "" where containers with the proxy's label are it
	CAFile() string                  // what signs its certificate, in PEM; "" for the system's authorities
	Close(ctx context.Context) error // ends this use of it
}

// keptProxy is the Traefik that cc-ci reconcile keeps. It finds the apps by their labels
// itself, so there is nothing to tell it and nothing to take back.
type keptProxy struct {
	address, caFile string
	cas             *x509.CertPool
}

// openKeptProxy refuses a proxy that is not there: every run would fail without a reason.
func openKeptProxy(ctx context.Context, settings config.Ingress) (keptProxy, error) {
	cas, err := x509.SystemCertPool()
	if err != nil {
		return keptProxy{}, ccci.Errorf(ccci.CodeInfra, "reading the system's certificates: %w", err)
	}
	if settings.CAFile != "" {
		text, err := os.ReadFile(settings.CAFile)
		if err != nil {
			return keptProxy{}, ccci.Errorf(ccci.CodeInvalid, "reading ingress.ca_file: %w", err).WithHint("name a file that you may read")
		}
		if !cas.AppendCertsFromPEM(text) {
			return keptProxy{}, ccci.Errorf(ccci.CodeInvalid, "the file %s of ingress.ca_file holds no certificate", settings.CAFile).WithHint("it must be in PEM")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", settings.Address)
	if err != nil {
		return keptProxy{}, ccci.Errorf(ccci.CodeInfra, "the proxy does not answer at %s: %w", settings.Address, err).
			WithHint("run cc-ci reconcile proxy, or mend ingress.address")
	}
	return keptProxy{settings.Address, settings.CAFile, cas}, conn.Close()
}

// awaitProxyContainer waits until a container is there that runs find as the proxy: it joins
// the network of each. One that is being replaced is away for a moment.
func awaitProxyContainer(ctx context.Context, docker *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	label := swarm.LabelProxy + "=true"
	for {
		found, err := docker.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))})
		if err == nil && len(found) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = ccci.Errorf(ccci.CodeInfra, "no container of this Docker has the label %s, so no run can reach its app through the proxy", label)
			}
			return ccci.Errorf(ccci.CodeInfra, "looking for the proxy: %w", err).WithHint("run cc-ci reconcile proxy, which labels Traefik")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (keptProxy) Route(context.Context, *recipe.Stack) error { return nil }
func (keptProxy) Unroute(context.Context, string) error      { return nil }
func (keptProxy) Unrouted(stack *recipe.Stack, host, path string) (why, hint string) {
	return ingress.Unrouted(stack, host, path)
}
func (keptProxy) Close(context.Context) error    { return nil }
func (keptProxy) Container() string              { return "" }
func (p keptProxy) Addr() string                 { return p.address }
func (p keptProxy) CAFile() string               { return p.caFile }
func (p keptProxy) Transport() http.RoundTripper { return transportTo(p.address, p.cas) }

// transportTo reaches a proxy for whatever host name, and verifies its certificate.
func transportTo(address string, cas *x509.CertPool) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Transport{
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, // verified below
			VerifyConnection:   func(c tls.ConnectionState) error { return verifyProxy(c, cas) },
		},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           8,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
}

// verifyProxy verifies a certificate for the name that was asked for, or for one that it is below: a
// wildcard covers one level, and an app may route names below its own.
func verifyProxy(c tls.ConnectionState, cas *x509.CertPool) error {
	if len(c.PeerCertificates) == 0 {
		return errors.New("the proxy shows no certificate")
	}
	opts := x509.VerifyOptions{Roots: cas, Intermediates: x509.NewCertPool()}
	for _, cert := range c.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	leaf := c.PeerCertificates[0]
	if _, err := leaf.Verify(opts); err != nil {
		return err
	}
	err := leaf.VerifyHostname(c.ServerName)
	for name := c.ServerName; err != nil; {
		_, below, ok := strings.Cut(name, ".")
		if !ok || !strings.Contains(below, ".") {
			return err
		}
		if leaf.VerifyHostname(below) == nil {
			return nil
		}
		name = below
	}
	return nil
}
