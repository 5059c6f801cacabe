package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// U1: the floor of every recipe is that the app itself answers. A proxy that
// answers for every name must not be taken for it.
func TestU1_AnswerOfTheProxyIsNotTheApps(t *testing.T) {
	for name, c := range map[string]struct {
		app, stranger http.HandlerFunc
		want          string
	}{
		"the app": {says(200, "hello"), says(404, "404 page not found"), ""},
		"the proxy's not found": {says(404, "404 page not found"), says(404, "404 page not found"),
			"answers what the proxy answers for any unknown name"},
		"the proxy's welcome page": {says(200, "welcome"), says(200, "welcome"), "answers what the proxy answers for any unknown name"},
		"same text, other status":  {says(200, "hello"), says(404, "hello"), ""},
		"same status, other text":  {says(200, "hello"), says(200, "welcome"), ""},
		"no answer for strangers":  {says(200, "hello"), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ""},
		"not what health demands":  {says(503, "starting"), says(404, ""), "answered 503, expected 200 or 404"},
		"not the text of health":   {says(200, "installer"), says(404, ""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := runner(t, func(w http.ResponseWriter, req *http.Request) {
				if req.Host == domain {
					c.app(w, req)
					return
				}
				c.stranger(w, req)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			outcome(t, r.Healthy(ctx, ccci.Health{Path: "/", Status: []int{200, 404}}), c.want)
		})
	}
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestHealthyDemandsTextAndWaitsForIt(t *testing.T) {
	var asked atomic.Int32
	r := runner(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Host != domain:
			http.NotFound(w, req)
		case req.URL.Path != "/healthz":
			t.Errorf("asked for %s", req.URL.Path)
		case asked.Add(1) < 3:
			fmt.Fprint(w, "starting")
		default:
			fmt.Fprint(w, "status: OK")
		}
	})
	if err := r.Healthy(t.Context(), ccci.Health{Path: "/healthz", Status: []int{200}, Contains: "OK"}); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
}

// U1: an app that sends its visitors to an installer or to a login answers on that page.
func TestU1_TextIsLookedForWhereARedirectionLeads(t *testing.T) {
	r := runner(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Host != domain:
			http.NotFound(w, req)
		case req.URL.Path == "/":
			http.Redirect(w, req, "/install", http.StatusFound)
		default:
			fmt.Fprint(w, "choose a password")
		}
	})
	for text, want := range map[string]string{
		"choose": "",
		"Found":  "https://" + domain + `/install: the answer does not hold "Found"`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		outcome(t, r.Healthy(ctx, ccci.Health{Path: "/", Status: []int{302}, Contains: text}), want)
		cancel()
	}
}

// answers is a proxy whose app gives one answer after the other.
type answers struct {
	list  []int // status codes; 0: the connection is refused; the last one stays
	asked int
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	status := http.StatusNotFound
	if !strings.HasPrefix(req.URL.Host, "nobody-") {
		status = a.list[min(a.asked, len(a.list)-1)]
		a.asked++
	}
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(http.StatusText(status))), Request: req}, nil
}

func over(a http.RoundTripper) *Runner {
	return &Runner{Target: Target{Domain: domain, HTTP: &http.Client{Transport: a}}, Limit: time.Minute}
}

func TestProbeMustSucceedNTimesInARow(t *testing.T) {
	for name, c := range map[string]struct {
		stable int
		list   []int
		asked  int
		want   string
	}{
		"once":                     {1, []int{200}, 1, ""},
		"none stated":              {0, []int{200}, 1, ""},
		"three":                    {3, []int{200}, 3, ""},
		"a relapse starts anew":    {3, []int{200, 200, 0, 200, 200, 200}, 6, ""},
		"late":                     {2, []int{0, 502, 503, 200}, 5, ""},
		"never":                    {1, []int{503}, -1, "answered 503"},
		"never often enough":       {2, []int{200, 503, 200, 503, 200, 503}, -1, "answered 503"},
		"refused until the end":    {1, []int{0}, -1, "connection refused"},
		"what it lacked last":      {1, []int{0, 0, 503}, -1, "answered 503"},
		"more often than time has": {10000, []int{200}, -1, "did not succeed 10000 times in a row in time"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &answers{list: c.list}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := over(a).Ready(ctx, ccci.Probe{Stable: c.stable, HTTP: &ccci.HTTPProbe{Status: []int{200}}})
				outcome(t, err, c.want)
				if c.asked >= 0 && a.asked != c.asked {
					t.Errorf("asked %d times, want %d", a.asked, c.asked)
				}
				if c.want != "" && ctx.Err() == nil {
					t.Error("it gave up before its time was over")
				}
			})
		})
	}
}

func TestProbeThatAsksNothingIsRefusedAtOnce(t *testing.T) {
	r := over(&answers{list: []int{200}})
	outcome(t, r.Ready(t.Context(), ccci.Probe{Name: "empty"}), `invalid: probe "empty" asks nothing`)
	outcome(t, r.Ready(t.Context(), ccci.Probe{HTTP: &ccci.HTTPProbe{Domain: "gone", Status: []int{200}}}), "invalid: no extra domain")
}

func TestTCPProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dialled []string
		r := &Runner{Target: Target{Dial: func(_ context.Context, service string, port int) (io.ReadWriteCloser, error) {
			dialled = append(dialled, fmt.Sprintf("%s:%d", service, port))
			if len(dialled) < 3 {
				return nil, errors.New("connection refused")
			}
			ours, theirs := net.Pipe()
			theirs.Close()
			return ours, nil
		}}}
		if err := r.Ready(t.Context(), ccci.Probe{TCP: &ccci.TCPProbe{Port: 25}}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(dialled, []string{"app:25", "app:25", "app:25"}) {
			t.Errorf("%q", dialled)
		}
	})
}

func TestRetryIsForStepsThatAskForIt(t *testing.T) {
	for name, c := range map[string]struct {
		retry   bool
		timeout time.Duration
		list    []int
		asked   int
		want    string
		lasts   time.Duration // at least
	}{
		"no retry":              {false, 0, []int{503, 200}, 1, "answered 503", 0},
		"retry":                 {true, 0, []int{503, 0, 200}, 3, "", 0},
		"the runner's limit":    {true, 0, []int{503}, -1, "answered 503", time.Minute},
		"the step's own limit":  {true, 5 * time.Second, []int{503}, -1, "answered 503", 5 * time.Second},
		"success is not redone": {true, 0, []int{200, 503}, 1, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, started := &answers{list: c.list}, time.Now()
				err := over(a).Run(t.Context(), ccci.Step{Retry: c.retry, Timeout: c.timeout, HTTP: &ccci.HTTPStep{}})
				outcome(t, err, c.want)
				if c.asked >= 0 && a.asked != c.asked {
					t.Errorf("asked %d times, want %d", a.asked, c.asked)
				}
				if took := time.Since(started); took < c.lasts || took > c.lasts+time.Second {
					t.Errorf("it took %s, want %s", took, c.lasts)
				}
			})
		})
	}
	// Waiting does not mend a step that is wrong.
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		r := over(&answers{list: []int{200}})
		outcome(t, r.Run(t.Context(), ccci.Step{Retry: true, HTTP: &ccci.HTTPStep{Path: "/{{.Gone}}"}}), "invalid: Gone")
		outcome(t, r.Run(t.Context(), ccci.Step{Name: "x", Retry: true}), `invalid: step "x" does nothing`)
		if err := r.Run(t.Context(), ccci.Step{Retry: true, Browser: []ccci.BrowserStep{{Open: "/"}}}); !errors.Is(err, ErrNoBrowser) {
			t.Errorf("%v", err)
		}
		if time.Since(started) != 0 {
			t.Errorf("it was repeated for %s", time.Since(started))
		}
	})
}

// U1: a redirection is the app's answer if what it leads to is. The proxy redirects and refuses by itself.
func TestU1_RedirectionCountsByWhatItLeadsTo(t *testing.T) {
	standard := []int{200, 301, 302}
	to := func(where string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/" {
				http.Redirect(w, req, where, http.StatusFound)
				return
			}
			says(200, "log in")(w, req)
		}
	}
	then := func(where string, last http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/" {
				http.Redirect(w, req, where, http.StatusFound)
				return
			}
			last(w, req)
		}
	}
	dead := failf(seen{}, "nothing listens")
	for name, c := range map[string]struct {
		accepted []int
		app      http.HandlerFunc
		behind   error
		want     string
	}{
		"to its page":                {standard, to("/login"), nil, ""},
		"to its page by HTTP":        {standard, to("http://" + domain + "/login"), nil, ""},
		"to its page, port named":    {standard, to("https://" + domain + ":443/login"), nil, ""},
		"to another host of the run": {standard, to("https://sandbox-" + domain + "/login"), nil, ""},
		"an installer": {standard, func(w http.ResponseWriter, req *http.Request) {
			next := map[string]string{"/": "/wp-admin/install.php", "/wp-admin/install.php": "/wp-admin/setup-config.php"}[req.URL.Path]
			if next == "" {
				says(200, "welcome")(w, req)
				return
			}
			http.Redirect(w, req, next, http.StatusFound)
		}, nil, ""},
		"with a cookie": {standard, func(w http.ResponseWriter, req *http.Request) {
			if _, err := req.Cookie("seen"); err != nil {
				http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1", Secure: true})
				http.Redirect(w, req, "/", http.StatusFound)
				return
			}
			says(200, "hello")(w, req)
		}, nil, ""},
		"no page but a status":          {[]int{304}, says(304, ""), nil, ""},
		"by the proxy, the app is dead": {standard, then("/login", says(502, "Bad Gateway")), nil, "redirects to https://" + domain + "/login, which answered 502"},
		"to what is not there":          {standard, then("/login", says(404, "")), nil, "which answered 404"},
		"to what asks for a password":   {standard, then("/login", says(401, "")), nil, "which answered 401"},
		"the same, and it is expected":  {append(standard, 401), then("/login", says(401, "")), nil, ""},
		"without end":                   {standard, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, req.URL.Path+"x", 302) }, nil, "redirects more than 10 times"},
		"out of the run":                {standard, to("https://docs.example.net/"), nil, `redirects to "https://docs.example.net/"`},
		"later out of the run": {standard, then("/x", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "https://docs.example.net/", 302)
		}), nil, `from there to "https://docs.example.net/"`},
		"to what is alive, the app not":   {standard, to("/login"), dead, "nothing listens"},
		"refused, as expected":            {[]int{401}, says(401, "who are you"), nil, ""},
		"refused, as expected, not alive": {[]int{401}, says(401, "who are you"), dead, "nothing listens"},
		"forbidden, as expected":          {[]int{403}, says(403, "no"), nil, ""},
		"the proxy does not reach it":     {standard, says(502, "Bad Gateway"), dead, "nothing listens"},
		"it says that it does not":        {standard, says(502, "Bad Gateway"), nil, "answered 502"},
		"it cannot be asked":              {standard, says(502, "Bad Gateway"), errors.New("the daemon is gone"), "answered 502"},
		"it has an error":                 {standard, says(500, "oops"), dead, "answered 500"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runner(t, func(w http.ResponseWriter, req *http.Request) {
				if strings.HasPrefix(req.Host, "nobody-") {
					http.NotFound(w, req)
					return
				}
				c.app(w, req)
			})
			asked := 0
			r.Target.Behind = func(_ context.Context, status int) error {
				asked = status
				return c.behind
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			outcome(t, r.Healthy(ctx, ccci.Health{Path: "/", Status: c.accepted}), c.want)
			if c.want == "" && !slices.Contains(c.accepted, asked) {
				t.Errorf("what is behind the proxy was asked for with status %d", asked)
			}
		})
	}
}
