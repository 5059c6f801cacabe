package checks

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// redirecting is an app that sends its clients to an address.
func redirecting(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Host, domain) || strings.HasPrefix(r.Host, stranger) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
		fmt.Fprint(w, "moved")
	}
}

// N3: a redirect to an address outside of the run ends a check with that address named, whatever
// status the enrolment accepts, unless it says itself where the redirect goes.
func TestN3_RedirectElsewhereEndsACheck(t *testing.T) {
	for name, c := range map[string]struct {
		to   string
		away bool
	}{
		"loopback":                   {"http://127.0.0.1:6379/", true},
		"metadata":                   {"http://169.254.169.254/latest", true},
		"a name for loopback":        {"https://localhost/", true},
		"another run":                {"https://wiki-xyz.ci.example.org/", true},
		"the wildcard's own name":    {"https://ci.example.org/", true},
		"a name that begins alike":   {"https://" + domain + ".evil.example/", true},
		"a name that ends alike":     {"https://evil-" + domain + "/", true},
		"a user with the run's name": {"https://" + domain + "@evil.example/", true},
		"without a scheme":           {"//evil.example/", true},
		"a trailing dot":             {"https://" + domain + "./", true},
		"a file":                     {"file:///etc/passwd", true},
		"itself":                     {"https://" + domain + "/login", false},
		"itself in capitals":         {"https://" + strings.ToUpper(domain) + "/login", false},
		"itself without TLS":         {"http://" + domain + "/login", false},
		"a name below itself":        {"https://www." + domain + "/login", false},
		"two below itself":           {"https://a.b." + domain + "/login", false},
		"an empty part":              {"https://a.." + domain + "/", true},
		"a part that is no name":     {"https://a*." + domain + "/", true},
		"its other host":             {"https://sandbox-" + domain + "/", false},
		"a path":                     {"/login", false},
	} {
		t.Run(name, func(t *testing.T) {
			want := ""
			if c.away {
				want = fmt.Sprintf("redirects to %q, which is no address of this run", c.to)
			}
			var asked atomic.Int32
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			redirect := redirecting(c.to)
			r := runner(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 5 { // the probe below was answered often enough
					cancel()
				}
				if r.URL.Path != "/" || strings.HasPrefix(r.Host, "sandbox-") { // what is redirected to
					fmt.Fprint(w, "hello")
					return
				}
				redirect(w, r)
			})
			moved := []int{200, 301, 302}
			outcome(t, r.Run(t.Context(), ccci.Step{HTTP: &ccci.HTTPStep{Expect: ccci.HTTPExpect{Status: moved}}}), want)
			said := ccci.HTTPExpect{Status: moved, Headers: map[string]string{"location": c.to}}
			outcome(t, r.Run(t.Context(), ccci.Step{HTTP: &ccci.HTTPStep{Expect: said}}), "")
			outcome(t, r.Healthy(ctx, ccci.Health{Path: "/", Status: moved}), want)
		})
	}
}

// N3: what an app answered cannot turn the address of a later step into another host's.
func TestN3_PathNamesNoOtherHost(t *testing.T) {
	for _, path := range []string{"@wiki-xyz.ci.example.org/", ":8080/", ".evil.example/", "-x.ci.example.org/", ":pa@127.0.0.1/"} {
		asked := false
		r := runner(t, func(w http.ResponseWriter, _ *http.Request) { asked = true })
		r.Vars.Vars["next"] = path
		outcome(t, r.Run(t.Context(), ccci.Step{HTTP: &ccci.HTTPStep{Path: `{{index .Vars "next"}}`}}), "leads away")
		if asked {
			t.Errorf("%s: a request was sent", path)
		}
	}
}

// N3: the client of steps refuses every host but the run's before a connection is made.
func TestN3_ClientReachesTheRunsHostsAlone(t *testing.T) {
	var hosts Hosts
	hosts.Add("app-1.ci.example.org", "Sandbox-app-1.ci.example.org")
	for host, may := range map[string]bool{
		"app-1.ci.example.org": true, "APP-1.ci.example.org": true, "sandbox-app-1.ci.example.org": true, "nobody-app-1.ci.example.org": true,
		"app-2.ci.example.org": false, "nobody-app-2.ci.example.org": false, "app-1.ci.example.org.": false, "x.app-1.ci.example.org": true, "x.app-2.ci.example.org": false, "ci.example.org": false,
		"127.0.0.1": false, "localhost": false, "": false,
	} {
		sent := false
		client := http.Client{Transport: hosts.Within(roundTrip(func(req *http.Request) (*http.Response, error) {
			sent = true
			return &http.Response{StatusCode: 204, Body: http.NoBody, Request: req}, nil
		}))}
		resp, err := client.Get("https://" + host + "/")
		if err == nil {
			resp.Body.Close()
		}
		if sent != may || (err == nil) != may {
			t.Errorf("%q: sent %t, %v", host, sent, err)
		}
	}
}

// N3: an answer without end costs a step 4 MiB or its time, and is the recipe's act.
func TestN3_AnswerWithoutEndIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		stalls bool
		want   string
	}{
		"much": {false, "does not hold"},
		"slow": {true, "reading the response"},
	} {
		t.Run(name, func(t *testing.T) {
			chunk := []byte(strings.Repeat("x", 64<<10))
			r := runner(t, func(w http.ResponseWriter, req *http.Request) {
				for req.Context().Err() == nil {
					if _, err := w.Write(chunk); err != nil {
						return
					}
					if c.stalls {
						http.NewResponseController(w).Flush()
						<-req.Context().Done()
					}
				}
			})
			r.Limit = 20 * time.Second
			if c.stalls {
				r.Limit = 500 * time.Millisecond
			}
			outcome(t, r.Run(t.Context(), ccci.Step{HTTP: &ccci.HTTPStep{Expect: ccci.HTTPExpect{Contains: []string{"end"}}}}), c.want)
		})
	}
}

// What an app answers makes no message longer than a paragraph.
func TestFailuresAreBounded(t *testing.T) {
	r := runner(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"a": %q}`, strings.Repeat("é", 1<<20))
	})
	err := r.Run(t.Context(), ccci.Step{HTTP: &ccci.HTTPStep{Expect: ccci.HTTPExpect{JSON: map[string]string{"a": "b"}}}})
	outcome(t, err, `a is "é`)
	if n := len(err.Error()); n > 2100 || !utf8.ValidString(err.Error()) {
		t.Errorf("%d bytes, valid %t", n, utf8.ValidString(err.Error()))
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
