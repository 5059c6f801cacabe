package harness

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/harness/checks"
)

// strictBrowser keeps what it is asked to hide, and says what its pages did not get.
type strictBrowser struct {
	worldBrowser
	hosts  *checks.Hosts
	hidden *[]string
}

func (b strictBrowser) Refused() []string { return []string{"fonts.example.net:443", "127.0.0.1:6379"} }

func (b strictBrowser) Page(context.Context) (checks.Page, error) {
	return strictPage{worldPage{world: b.world}, b.hidden}, nil
}

type strictPage struct {
	worldPage
	hidden *[]string
}

func (p strictPage) Screenshot(_ context.Context, hide []string) ([]byte, error) {
	*p.hidden = hide
	return picture(false), nil
}

// N3, U10, U17: the browser reaches the hosts of every app of the run and no other, hides the
// secrets of all of them from pictures, and what it refused is a warning and no verdict.
func TestN3_BrowserOfARunReachesItsAppsAlone(t *testing.T) {
	w := newWorld()
	c, _ := dependent(t, w)
	c.Rand = rand.Reader // each secret its own value
	c.Settings.Domains = map[string]string{"sandbox": "SANDBOX_DOMAIN"}
	var hosts *checks.Hosts
	var hidden []string
	c.Browser = func(_ context.Context, h *checks.Hosts) (checks.Browser, func(), error) {
		hosts = h
		return strictBrowser{worldBrowser{w}, h, &hidden}, func() {}, nil
	}
	r, err := Run(t.Context(), c)
	if err != nil || r.Status != ccci.StatusPassed {
		t.Fatalf("%v %s %+v", err, r.Status, r.Cause)
	}
	for _, host := range []string{r.Domain, "sandbox-" + r.Domain, r.Dependencies[0].Domain, r.Dependencies[1].Domain} {
		if !hosts.Has(host) {
			t.Errorf("%s is out of reach", host)
		}
	}
	for _, host := range []string{"x-" + r.Domain, "nobody-" + r.Domain, "other." + c.CIDomain, c.CIDomain, "localhost", "127.0.0.1"} {
		if hosts.Has(host) {
			t.Errorf("%s is within reach", host)
		}
	}
	if len(hidden) != 2 { // the token of the provider, and that of the wiki, which is the app's too
		t.Errorf("%d secrets are hidden, want 2", len(hidden))
	}
	if !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "fonts.example.net:443, 127.0.0.1:6379") }) {
		t.Errorf("no warning names what was refused: %q", r.Warnings)
	}
}
