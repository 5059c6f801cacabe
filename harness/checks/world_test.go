package checks

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

const domain = "wiki-abc.ci.example.org"

// runner asks a real server, which answers for every host name as the proxy does.
func runner(t *testing.T, handler http.HandlerFunc) *Runner {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	client := server.Client()
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ServerName = "example.com" // of the test's certificate
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Runner{
		Target: Target{Domain: domain, Domains: map[string]string{"sandbox": "sandbox-" + domain}, HTTP: client},
		Vars: Vars{
			Domain: domain, Recipe: "wiki", Marker: "ccci-a-1", Domains: map[string]string{"sandbox": "sandbox-" + domain},
			Secrets: map[string]string{"admin": "pa:ss"}, Vars: map[string]string{},
		},
		Limit: 10 * time.Second,
	}
}

// outcome tells how a step must end: "" well, "invalid: " with an error of whoever
// wrote the step, anything else with a failure that says so.
func outcome(t *testing.T, err error, want string) {
	t.Helper()
	var failure *Failure
	invalid, isInvalid := strings.CutPrefix(want, "invalid: ")
	switch {
	case want == "":
		if err != nil {
			t.Errorf("%v", err)
		}
	case err == nil:
		t.Errorf("it succeeds, want %q", want)
	case isInvalid:
		if ccci.CodeOf(err) != ccci.CodeInvalid || errors.As(err, &failure) || !strings.Contains(err.Error(), invalid) {
			t.Errorf("%v (%s), want %q", err, ccci.CodeOf(err), want)
		}
	case !errors.As(err, &failure) || !strings.Contains(failure.Message, want):
		t.Errorf("%v (%T), want a failure with %q", err, err, want)
	}
}

// wire is one end of a conversation.
func wire(talk func(net.Conn)) func(context.Context, string, int) (io.ReadWriteCloser, error) {
	return func(context.Context, string, int) (io.ReadWriteCloser, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			talk(theirs)
		}()
		return ours, nil
	}
}
