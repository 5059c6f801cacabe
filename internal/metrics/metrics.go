// Package metrics keeps cc-ci's figures for Prometheus. The parts that are
// watched know nothing of it: they tell what happens to an observer.
package metrics

import (
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	ccci "github.com/recipe-maintainers/cc-ci"
	"github.com/recipe-maintainers/cc-ci/bridge"
)

// The objectives: a command is answered, and a verdict stands on the pull
// request, within a minute.
const (
	AnswerWithin  = time.Minute
	VerdictWithin = time.Minute
)

// Metrics implements [bridge.Observer].
type Metrics struct {
	registry *prometheus.Registry

	queueWait   *prometheus.HistogramVec
	commands    *prometheus.CounterVec
	runs        *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	leaks       *prometheus.CounterVec
	polls       *prometheus.CounterVec
	late        *prometheus.HistogramVec
	reachable   *prometheus.GaugeVec
	messages    *prometheus.GaugeVec
	oldest      *prometheus.GaugeVec
	deliveries  *prometheus.CounterVec
	hooks       *prometheus.CounterVec
	answered    *prometheus.HistogramVec
	told        *prometheus.HistogramVec
	objectives  *prometheus.CounterVec
	missedGoals *prometheus.CounterVec
}

var _ bridge.Observer = (*Metrics)(nil)

// New registers every figure with registry, and those of the process and of Go.
func New(registry *prometheus.Registry) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "cc_ci", Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "cc_ci", Name: name, Help: help}, labels)
		registry.MustRegister(g)
		return g
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "cc_ci", Name: name, Help: help, Buckets: buckets}, labels)
		registry.MustRegister(h)
		return h
	}
	quick := []float64{0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 600, 3600}
	slow := []float64{1, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Metrics{
		registry:    registry,
		queueWait:   histogram("queue_wait_seconds", "From a run's acceptance to its start.", slow, "forge"),
		commands:    counter("commands_total", "Commands in comments, by what became of them.", "forge", "command", "outcome", "reason"),
		runs:        counter("runs_total", "Runs that ended, by verdict.", "forge", "verdict"),
		duration:    histogram("run_duration_seconds", "From a run's start to its end.", slow, "forge", "verdict"),
		leaks:       counter("leaks_total", "Runs whose teardown left something behind, or could not be proven.", "forge"),
		polls:       counter("polls_total", "Looks at repositories, by outcome.", "forge", "outcome"),
		late:        histogram("poll_lateness_seconds", "How much later than planned a repository was looked at.", quick, "forge"),
		reachable:   gauge("forge_reachable", "1 while the forge answers, 0 while it does not.", "forge"),
		messages:    gauge("outbox_messages", "Comments and statuses that wait to be delivered.", "forge"),
		oldest:      gauge("outbox_oldest_seconds", "For how long the oldest of them has waited.", "forge"),
		deliveries:  counter("deliveries_total", "Tries to deliver a comment or a status.", "forge", "kind", "outcome"),
		hooks:       counter("hook_requests_total", "Requests at /hook, by outcome.", "forge", "outcome"),
		answered:    histogram("first_answer_seconds", "From a command to its first answer on the pull request, by the forge's clock and ours.", quick, "forge"),
		told:        histogram("verdict_delay_seconds", "From a run's end to its verdict on the pull request.", quick, "forge"),
		objectives:  counter("objective_events_total", "Events that an objective counts: answer (a command is answered within 60 s), verdict (a verdict is posted within 60 s).", "forge", "objective"),
		missedGoals: counter("objective_missed_total", "Those of them that took longer.", "forge", "objective"),
	}
}

// Machine shows whether the machine is too full for another run, and what is free. look
// is called at each scrape; a negative figure is unknown and left out as NaN.
func (m *Metrics) Machine(look func() (held bool, disk, memory int64)) {
	show := func(name, help string, value func(held bool, disk, memory int64) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "cc_ci", Name: name, Help: help}, func() float64 { return value(look()) }))
	}
	known := func(n int64) float64 {
		if n < 0 {
			return math.NaN()
		}
		return float64(n)
	}
	show("runs_held", "1 while no run starts because the machine's disk or memory is nearly full.", func(held bool, _, _ int64) float64 {
		if held {
			return 1
		}
		return 0
	})
	show("disk_free_bytes", "Free space of the fullest disk that runs need.", func(_ bool, disk, _ int64) float64 { return known(disk) })
	show("memory_available_bytes", "Memory that the kernel can give without swapping.", func(_ bool, _, memory int64) float64 { return known(memory) })
}

// Handler shows everything in Prometheus's text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Expect makes a forge's figures visible before the first event, so that an
// alert can tell "none" from "not measured".
func (m *Metrics) Expect(forge string) {
	m.reachable.WithLabelValues(forge).Set(1)
	m.leaks.WithLabelValues(forge)
	m.messages.WithLabelValues(forge)
	m.oldest.WithLabelValues(forge)
	for _, outcome := range []string{"ok", "missing", "error"} {
		m.polls.WithLabelValues(forge, outcome)
	}
	for _, status := range ccci.Statuses {
		if !status.Terminal() {
			continue
		}
		m.runs.WithLabelValues(forge, string(status.Verdict()))
	}
	for _, objective := range []string{"answer", "verdict"} {
		m.objectives.WithLabelValues(forge, objective)
		m.missedGoals.WithLabelValues(forge, objective)
	}
}

// Hook counts a request at /hook.
func (m *Metrics) Hook(forge, outcome string) {
	if forge == "" {
		forge = "unknown"
	}
	m.hooks.WithLabelValues(forge, outcome).Inc()
}

// Looked implements [bridge.Observer].
func (m *Metrics) Looked(forge string, late time.Duration, err error) {
	outcome := "ok"
	switch {
	case errors.Is(err, ccci.ErrNotFound):
		outcome = "missing"
	case err != nil:
		outcome = "error"
	}
	m.polls.WithLabelValues(forge, outcome).Inc()
	m.late.WithLabelValues(forge).Observe(late.Seconds())
}

// Reachable implements [bridge.Observer].
func (m *Metrics) Reachable(forge string, yes bool) {
	value := 0.0
	if yes {
		value = 1
	}
	m.reachable.WithLabelValues(forge).Set(value)
}

// Decided implements [bridge.Observer].
func (m *Metrics) Decided(forge string, verb bridge.Verb, outcome, reason string) {
	m.commands.WithLabelValues(forge, string(verb), outcome, reason).Inc()
}

// Started implements [bridge.Observer].
func (m *Metrics) Started(forge string, run ccci.Run) {
	m.queueWait.WithLabelValues(forge).Observe(max(run.Started.Sub(run.Created), 0).Seconds())
}

// Ended implements [bridge.Observer].
func (m *Metrics) Ended(forge string, run ccci.Run, result *ccci.Result) {
	verdict := string(run.Status.Verdict())
	m.runs.WithLabelValues(forge, verdict).Inc()
	if run.Started.IsZero() {
		return // cancelled while it waited: there was nothing to tear down
	}
	m.duration.WithLabelValues(forge, verdict).Observe(max(run.Finished.Sub(run.Started), 0).Seconds())
	if result == nil || result.Teardown == nil || !result.Teardown.Clean || len(result.Teardown.Leftovers) > 0 {
		m.leaks.WithLabelValues(forge).Inc()
	}
}

// Said implements [bridge.Observer].
func (m *Metrics) Said(forge string, kind ccci.MessageKind, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.deliveries.WithLabelValues(forge, string(kind), outcome).Inc()
}

// Answered implements [bridge.Observer].
func (m *Metrics) Answered(forge string, after time.Duration) {
	m.answered.WithLabelValues(forge).Observe(after.Seconds())
	m.objective(forge, "answer", after > AnswerWithin)
}

// Told implements [bridge.Observer].
func (m *Metrics) Told(forge string, after time.Duration) {
	m.told.WithLabelValues(forge).Observe(after.Seconds())
	m.objective(forge, "verdict", after > VerdictWithin)
}

func (m *Metrics) objective(forge, name string, missed bool) {
	m.objectives.WithLabelValues(forge, name).Inc()
	if missed {
		m.missedGoals.WithLabelValues(forge, name).Inc()
	}
}

// Waiting implements [bridge.Observer].
func (m *Metrics) Waiting(forge string, messages int, oldest time.Duration) {
	m.messages.WithLabelValues(forge).Set(float64(messages))
	m.oldest.WithLabelValues(forge).Set(oldest.Seconds())
}
