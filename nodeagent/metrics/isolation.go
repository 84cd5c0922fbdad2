package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// isolation are the figures of the check that tries to escape from a sandbox.
type isolation struct {
	runs                       *prometheus.CounterVec
	last, duration             prometheus.Gauge
	escapes, attempts, enabled prometheus.Gauge
}

func newIsolation() isolation {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "brig_isolation_check_" + name, Help: help})
	}
	i := isolation{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_isolation_check_runs_total", Help: "Isolation checks, by result (ok, escaped, failed).",
		}, []string{"result"}),
		last:     gauge("last_run_timestamp_seconds", "When an isolation check last came to a result; 0: never."),
		duration: gauge("duration_seconds", "How long the last isolation check took."),
		attempts: gauge("attempts", "Escapes that the last isolation check tried."),
		escapes:  gauge("escapes", "Escapes that succeeded in the last isolation check; anything but 0 is an alarm."),
		enabled:  gauge("enabled", "1 if this brigd runs isolation checks by itself."),
	}
	for _, r := range []string{"ok", "escaped", "failed"} {
		i.runs.WithLabelValues(r)
	}
	return i
}

func (i isolation) all() []prometheus.Collector {
	return []prometheus.Collector{i.runs, i.last, i.duration, i.attempts, i.escapes, i.enabled}
}

// IsolationEnabled says that brigd runs the check by itself.
func (m *Metrics) IsolationEnabled() { m.isolation.enabled.Set(1) }

// IsolationChecked takes the result of an isolation check: how many escapes it tried,
// and how many succeeded.
func (m *Metrics) IsolationChecked(at time.Time, took time.Duration, attempts, escapes int) {
	result := "ok"
	if escapes > 0 {
		result = "escaped"
	}
	m.isolation.runs.WithLabelValues(result).Inc()
	m.isolation.last.Set(float64(at.UnixMilli()) / 1000)
	m.isolation.duration.Set(took.Seconds())
	m.isolation.attempts.Set(float64(attempts))
	m.isolation.escapes.Set(float64(escapes))
}

// IsolationFailed counts a check that came to no result.
func (m *Metrics) IsolationFailed() { m.isolation.runs.WithLabelValues("failed").Inc() }
