// Package metrics are brigd's figures for Prometheus, served at /metrics on its socket.
//
// Nothing here is per sandbox: ids come and go, and would be kept by whoever scrapes.
// A part of brigd with figures of its own registers them with Registry.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"brig/internal/version"
	"brig/nodeagent/denials"
)

// Metrics of a brigd.
type Metrics struct {
	// Registry takes further figures.
	Registry *prometheus.Registry

	denials   *prometheus.CounterVec
	overruns  prometheus.Counter
	changes   *prometheus.CounterVec
	isolation isolation
	lives     lives
	node      node
	pool      pool
}

// New returns figures that are all there, and zero. running counts the sandboxes.
func New(running func() int) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		denials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_denials_total", Help: "What sandboxes were refused, by reason; the kernel limits the rate at which it tells.",
		}, []string{"reason"}),
		overruns: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "brig_denials_overruns_total", Help: "How often the kernel had more denials than brigd read in time.",
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_policy_changes_total", Help: "Changes of running sandboxes' network policies, by result (ok, refused, failed, reverted).",
		}, []string{"result"}),
		isolation: newIsolation(),
		lives:     newLives(),
		node:      newNode(),
		pool:      newPool(),
	}
	for _, r := range denials.Reasons() {
		m.denials.WithLabelValues(string(r))
	}
	for _, r := range []Change{Changed, Refused, Failed, Reverted} {
		m.changes.WithLabelValues(string(r))
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "brig_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version.Version},
	})
	info.Set(1)
	count := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "brig_sandboxes_running", Help: "Sandboxes of brigd that run or are being made.",
	}, func() float64 { return float64(running()) })
	m.Registry.MustRegister(m.denials, m.overruns, m.changes, info, count,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Registry.MustRegister(m.isolation.all()...)
	m.Registry.MustRegister(m.lives.all()...)
	m.Registry.MustRegister(m.node.all()...)
	m.Registry.MustRegister(m.pool.claims)
	return m
}

// Handler serves the figures as text.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
}

// Denied counts a denial.
func (m *Metrics) Denied(reason denials.Reason) { m.denials.WithLabelValues(string(reason)).Inc() }

// Overrun counts that denials were lost on their way from the kernel.
func (m *Metrics) Overrun() { m.overruns.Inc() }

// Change is how a change of a policy ended.
type Change string

// The ends of a change.
const (
	Changed  Change = "ok"
	Refused  Change = "refused"  // the request was wrong
	Failed   Change = "failed"   // the node could not put it in force
	Reverted Change = "reverted" // a lease ended
)

// PolicyChange counts a change of a running sandbox's policy.
func (m *Metrics) PolicyChange(c Change) { m.changes.WithLabelValues(string(c)).Inc() }
