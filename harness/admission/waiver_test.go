package admission

import (
	"strings"
	"testing"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// A waiver names the run's own names as the recipe does: they differ from run to run.
func TestN3_WaiversNameTheRunsOwnNames(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": `services:
  app:
    image: a:1
    labels:
      - "traefik.http.services.${STACK_NAME}-web.loadbalancer.serverstransport=x"
      - "traefik.http.routers.${STACK_NAME}.rule=Host(` + "`${DOMAIN}`) || Path(`/x`)" + `"
      - "traefik.http.middlewares.${STACK_NAME}.ratelimit.redis.password=$${STACK_NAME}"
`, ".env.sample": plainSample + "OTHER=Path\n"})
	transport := waiver(func(w *ccci.Waiver) {
		w.Rule, w.Service, w.Value = "traefik-label", "app", "traefik.http.services.${STACK_NAME}-web.loadbalancer.serverstransport"
	})
	rule := waiver(func(w *ccci.Waiver) {
		w.Rule, w.Service, w.Value = "foreign-host", "app", "Host(`${DOMAIN}`) || Path(`/x`)"
	})
	other := rule
	other.Value = "Host(`${DOMAIN}`) || ${OTHER}(`/x`)"
	for _, c := range []struct {
		waivers []ccci.Waiver
		refused []string
	}{
		{nil, []string{"serverstransport", "rule foreign-host", "redis.password"}},
		{[]ccci.Waiver{transport}, []string{"rule foreign-host", "redis.password"}},
		{[]ccci.Waiver{transport, rule}, []string{"redis.password"}},
		{[]ccci.Waiver{transport, other}, []string{"rule foreign-host", "redis.password"}}, // the pull request sets OTHER
	} {
		p := testPolicy()
		p.Waivers = c.waivers
		_, err := admitDir(dir, p)
		for _, what := range []string{"serverstransport", "rule foreign-host", "redis.password"} {
			want := false
			for _, r := range c.refused {
				want = want || r == what
			}
			if got := err != nil && strings.Contains(err.Error(), what); got != want {
				t.Errorf("%v: %s refused: %v\n%v", c.waivers, what, got, err)
			}
		}
	}
}
