package health

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

func TestReport(t *testing.T) {
	says := func(reasons ...Reason) Probe { return func(context.Context) []Reason { return reasons } }
	minor, fatal := Reason{Part: "forge", Problem: "away"}, Reason{Part: "store", Problem: "broken", Fatal: true}
	for name, tc := range map[string]struct {
		probes []Probe
		code   int
		status string
		n      int
	}{
		"nothing":  {nil, 200, "ok", 0},
		"well":     {[]Probe{says(), says()}, 200, "ok", 0},
		"degraded": {[]Probe{says(), says(minor)}, 200, "degraded", 1},
		"failing":  {[]Probe{says(fatal, minor), says(minor)}, 503, "failing", 3},
	} {
		w := httptest.NewRecorder()
		Handler(func() map[string]any { return map[string]any{"forges": 1} }, tc.probes...).ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		var r Report
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if w.Code != tc.code || r.Status != tc.status || len(r.Reasons) != tc.n || !r.Live || r.Ready != (tc.code == 200) || r.Details["forges"] == nil {
			t.Errorf("%s: %d %+v", name, w.Code, r)
		}
	}
	w := httptest.NewRecorder()
	Handler(nil).ServeHTTP(w, httptest.NewRequest("POST", "/healthz", nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestAProbeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan bool)
		defer close(never)
		r := look(t.Context(), []Probe{func(context.Context) []Reason { <-never; return nil }})
		if r.Ready || len(r.Reasons) != 1 || !r.Reasons[0].Fatal {
			t.Errorf("%+v", r)
		}
	})
}
