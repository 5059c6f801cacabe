package recipetest

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// outcome is a test that notes how it was ended.
type outcome struct {
	testing.TB
	fatal string
}

type ended struct{}

func (o *outcome) Helper() {}
func (o *outcome) Fatalf(format string, args ...any) {
	o.fatal = fmt.Sprintf(format, args...)
	panic(ended{})
}
func (o *outcome) Skip(...any)          { panic("a test that cannot run must not skip") }
func (o *outcome) Skipf(string, ...any) { panic("a test that cannot run must not skip") }

// deployed calls Deployed and returns how it ended the test, "" when it did not.
func deployed(t *testing.T) (app App, fatal string) {
	o := &outcome{TB: t}
	defer func() {
		if r := recover(); r != nil && r != any(ended{}) {
			panic(r)
		}
		fatal = o.fatal
	}()
	return Deployed(o), ""
}

func TestU23_OutsideOfARunATestFails(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ domain, proxy, ca, want string }{
		"nothing is set":   {"", "", "", "no app is deployed"},
		"no proxy":         {"app.ci.example.org", "", "", "no app is deployed"},
		"no domain":        {"", "127.0.0.1:443", "", "no app is deployed"},
		"no such file":     {"app.ci.example.org", "127.0.0.1:443", empty + ".gone", "reading the proxy's certificate authority"},
		"no certificate":   {"app.ci.example.org", "127.0.0.1:443", empty, "holds no certificate"},
		"the system's own": {"app.ci.example.org", "127.0.0.1:443", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(EnvDomain, c.domain)
			t.Setenv(EnvProxy, c.proxy)
			t.Setenv(EnvCA, c.ca)
			_, fatal := deployed(t)
			if (c.want == "") != (fatal == "") || !strings.Contains(fatal, c.want) {
				t.Errorf("it ended with %q, want %q", fatal, c.want)
			}
		})
	}
}

// Every host name of the run is reached through the proxy, whose certificate counts.
func TestClientReachesTheAppThroughTheProxy(t *testing.T) {
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s%s", r.Host, r.URL.Path)
	}))
	defer proxy.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(EnvDomain, "example.com") // of the test's certificate
	t.Setenv(EnvStack, "wiki_example_com")
	t.Setenv(EnvMarker, "ccci-a-1")
	t.Setenv(EnvProxy, proxy.Listener.Addr().String())
	t.Setenv(EnvCA, ca)
	app, fatal := deployed(t)
	if fatal != "" {
		t.Fatal(fatal)
	}
	if app.Stack != "wiki_example_com" || app.Marker != "ccci-a-1" {
		t.Errorf("%+v", app)
	}
	resp, err := app.Client.Get(app.URL("/feeds"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "example.com/feeds" {
		t.Errorf("%q, %v", body, err)
	}

	t.Setenv(EnvCA, "")
	app, _ = deployed(t)
	if resp, err := app.Client.Get(app.URL("/")); err == nil {
		resp.Body.Close()
		t.Error("a certificate that nobody vouches for is accepted")
	}
}
