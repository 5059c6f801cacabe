package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v", w.Code, err)
	}
	return string(text)
}

func TestFigures(t *testing.T) {
	m := New(prometheus.NewRegistry())
	m.Expect("git.example.org")
	if text := scrape(t, m); !strings.Contains(text, `cc_ci_objective_missed_total{forge="git.example.org",objective="verdict"} 0`) || !strings.Contains(text, "process_resident_memory_bytes") {
		t.Errorf("before the first event:\n%s", text)
	}
	var o bridge.Observer = m
	forge, at := "git.example.org", time.Unix(1000, 0)
	o.Looked(forge, time.Second, nil)
	o.Looked(forge, 0, fmt.Errorf("asking: %w", ccci.ErrNotFound))
	o.Looked(forge, 0, errors.New("refused"))
	o.Reachable(forge, false)
	o.Decided(forge, bridge.VerbTest, "refused", "not-allowed")
	run := ccci.Run{Status: ccci.StatusPassed, Created: at, Started: at.Add(40 * time.Second), Finished: at.Add(5 * time.Minute)}
	o.Started(forge, run)
	o.Ended(forge, run, &ccci.Result{Teardown: &ccci.Teardown{Clean: true}})
	o.Ended(forge, run, &ccci.Result{Teardown: &ccci.Teardown{Clean: true, Leftovers: []string{"volume x"}}})
	o.Ended(forge, run, nil)
	o.Ended(forge, ccci.Run{Status: ccci.StatusCancelled, Created: at}, nil) // it never started
	o.Ended(forge, ccci.Run{Status: ccci.StatusRefused, Created: at}, nil)
	o.Ended(forge, ccci.Run{Status: ccci.StatusInconclusive, Created: at}, nil)
	o.Said(forge, ccci.MessageComment, nil)
	o.Said(forge, ccci.MessageStatus, errors.New("refused"))
	o.Answered(forge, 59*time.Second)
	o.Answered(forge, 61*time.Second)
	o.Told(forge, time.Second)
	o.Waiting(forge, 3, 90*time.Second)
	m.Hook(forge, "accepted")
	m.Hook("", "unknown")
	m.Machine(func() (bool, int64, int64) { return true, 5 << 30, -1 })
	text := scrape(t, m)
	for _, want := range []string{
		"cc_ci_runs_held 1", "cc_ci_disk_free_bytes 5.36870912e+09", "cc_ci_memory_available_bytes NaN",
		`cc_ci_polls_total{forge="git.example.org",outcome="ok"} 1`,
		`cc_ci_polls_total{forge="git.example.org",outcome="missing"} 1`,
		`cc_ci_polls_total{forge="git.example.org",outcome="error"} 1`,
		`cc_ci_forge_reachable{forge="git.example.org"} 0`,
		`cc_ci_commands_total{command="!testme",forge="git.example.org",outcome="refused",reason="not-allowed"} 1`,
		`cc_ci_queue_wait_seconds_sum{forge="git.example.org"} 40`,
		`cc_ci_runs_total{forge="git.example.org",verdict="passed"} 3`,
		`cc_ci_runs_total{forge="git.example.org",verdict="inconclusive"} 2`,
		`cc_ci_runs_total{forge="git.example.org",verdict="refused"} 1`,
		`cc_ci_leaks_total{forge="git.example.org"} 2`,
		`cc_ci_deliveries_total{forge="git.example.org",kind="status",outcome="error"} 1`,
		`cc_ci_objective_events_total{forge="git.example.org",objective="answer"} 2`,
		`cc_ci_objective_missed_total{forge="git.example.org",objective="answer"} 1`,
		`cc_ci_objective_missed_total{forge="git.example.org",objective="verdict"} 0`,
		`cc_ci_outbox_messages{forge="git.example.org"} 3`,
		`cc_ci_outbox_oldest_seconds{forge="git.example.org"} 90`,
		`cc_ci_hook_requests_total{forge="unknown",outcome="unknown"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// docs/operations.md lists every figure of ours, and none that does not exist.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	New(registry).Machine(func() (bool, int64, int64) { return false, 0, 0 })
	descriptions := make(chan *prometheus.Desc, 1000)
	registry.Describe(descriptions)
	close(descriptions)
	have := map[string]bool{}
	for d := range descriptions {
		if m := regexp.MustCompile(`fqName: "(cc_ci_[a-z_]+)"`).FindStringSubmatch(d.String()); m != nil {
			have[m[1]] = true
			if !strings.Contains(string(page), "| `"+m[1]+"` |") {
				t.Errorf("%s is not in docs/operations.md", m[1])
			}
		}
	}
	for _, name := range regexp.MustCompile(`cc_ci_[a-z_]+`).FindAllString(string(page), -1) {
		if !have[name] {
			t.Errorf("docs/operations.md names %s, which there is not", name)
		}
	}
	if len(have) < 16 {
		t.Errorf("only %d figures", len(have))
	}
}
