// Package recipetest is what a Go test in tests/<recipe>/ imports, for what
// declarative steps cannot say. The harness runs such tests while the app is up;
// each is a row in the result.
//
//	func TestFeedIsFetched(t *testing.T) {
//		app := recipetest.Deployed(t)
//		resp, err := app.Client.Get(app.URL("/v1/feeds"))
//		…
//	}
package recipetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// Names of the variables by which the harness tells a test about the app.
const (
	EnvDomain = "CCCI_DOMAIN" // the app's host name
	EnvStack  = "CCCI_STACK"
	EnvMarker = "CCCI_MARKER" // what seed wrote
	EnvProxy  = "CCCI_PROXY"  // host:port that serves every run's host names over HTTPS
	EnvCA     = "CCCI_CA"     // file with the proxy's certificate authority; "" for the system's
)

// App is the deployed app.
type App struct {
	Domain string
	Stack  string // swarm stack name; services are <stack>_<service>
	Marker string
	Client *http.Client // reaches every host name of the run; follows redirects
}

// URL returns the address of a path of the app.
func (a App) URL(path string) string { return "https://" + a.Domain + path }

// Deployed returns the app under test. Outside of a run it ends the test as
// failed: a test that cannot run must not look like one that passed.
func Deployed(t testing.TB) App {
	t.Helper()
	app := App{Domain: os.Getenv(EnvDomain), Stack: os.Getenv(EnvStack), Marker: os.Getenv(EnvMarker)}
	proxy := os.Getenv(EnvProxy)
	if app.Domain == "" || proxy == "" {
		t.Fatalf("no app is deployed: this test is run by cc-ci run, not by go test alone")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := os.Getenv(EnvCA); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("reading the proxy's certificate authority: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			t.Fatalf("%s holds no certificate", file)
		}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	app.Client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, proxy)
		},
	}}
	return app
}
