// Package health answers /healthz: whether this process lives and works, and
// if not, why.
package health

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Reason is why something is not as it should be.
type Reason struct {
	Part    string `json:"part"`    // "store", "git.example.org"
	Problem string `json:"problem"` // a sentence
	// Fatal problems keep the process from its work. Others it bears by itself: a
	// forge that is away is waited for, and a restart would help nobody.
	Fatal bool `json:"fatal"`
}

// Probe returns what is wrong with a part now; nothing when all is well. It
// is called often and returns soon.
type Probe func(ctx context.Context) []Reason

// Report is the answer.
type Report struct {
	Status  string         `json:"status"` // ok, degraded, failing
	Live    bool           `json:"live"`
	Ready   bool           `json:"ready"` // no fatal reason
	Reasons []Reason       `json:"reasons"`
	Details map[string]any `json:"details,omitempty"`
}

// limit bounds how long all probes may take.
const limit = 3 * time.Second

// Handler answers with the Report as JSON: 200 when ready, else 503. details may be
// nil; what it returns is shown as it is.
func Handler(details func() map[string]any, probes ...Probe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		report := look(r.Context(), probes)
		if details != nil {
			report.Details = details()
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !report.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(report) // whoever asked has gone
	})
}

func look(ctx context.Context, probes []Probe) Report {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answers := make([]chan []Reason, len(probes))
	for i, probe := range probes {
		answers[i] = make(chan []Reason, 1)
		go func() { answers[i] <- probe(ctx) }()
	}
	report := Report{Status: "ok", Live: true, Ready: true, Reasons: []Reason{}}
	for _, answer := range answers {
		select {
		case reasons := <-answer:
			report.Reasons = append(report.Reasons, reasons...)
		case <-ctx.Done():
			report.Reasons = append(report.Reasons, Reason{Part: "health", Problem: "a part did not say within " + limit.String() + " how it is", Fatal: true})
		}
	}
	for _, reason := range report.Reasons {
		switch {
		case reason.Fatal:
			report.Status, report.Ready = "failing", false
		case report.Ready:
			report.Status = "degraded"
		}
	}
	return report
}
