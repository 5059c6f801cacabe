package bench

import (
	"testing"
	"time"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all  []time.Duration
		want time.Duration
	}{
		{[]time.Duration{3}, 3},
		{[]time.Duration{9, 1, 4}, 4},
		{[]time.Duration{8, 2, 4, 100}, 6},
	} {
		if got := median(c.all); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.all, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	var all []time.Duration
	for i := range 1000 {
		all = append(all, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 500, 0.99: 990, 1: 999} {
		if got := quantile(all, q); got != want {
			t.Errorf("quantile %v = %v, want %v", q, got, want)
		}
	}
}

// N6: what a run left is never excused as somebody else's.
func TestN6_OnlyOthersObjectsAreForgiven(t *testing.T) {
	result := func(trouble string, leftovers ...string) ccci.Result {
		return ccci.Result{
			RunID: "261121-031304-d338fd", Domain: "cana-c111f5.ci.localhost",
			Teardown: &ccci.Teardown{Leftovers: leftovers, Error: trouble},
		}
	}
	for _, c := range []struct {
		result ccci.Result
		want   bool
	}{
		{result("", "container another-ingress"), true},
		{result("", "container another-ingress", "volume cana-c111f5_ci_localhost_data"), false},
		{result("", "volume cc-ci-backup-261121-031304-d338fd"), false},
		{result("listing what is left: no answer"), false},
	} {
		if got := othersWork(c.result); got != c.want {
			t.Errorf("othersWork(%v) = %v, want %v", *c.result.Teardown, got, c.want)
		}
	}
}
