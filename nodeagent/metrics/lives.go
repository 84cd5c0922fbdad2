package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"brig/internal/sandbox"
)

// Phase is a part of a create.
type Phase string

// The phases of a create, in their order; Total is all of them.
const (
	PhaseRecord    Phase = "record"    // the intent, on disk
	PhaseImage     Phase = "image"     // found, or pulled
	PhaseNetwork   Phase = "network"   // attached by the CNI plugin
	PhaseContainer Phase = "container" // snapshot, container and task, not started
	PhaseStart     Phase = "start"     // the gate, and the program's start
	PhaseTunnels   Phase = "tunnels"   // listening
	PhaseReady     Phase = "ready"     // the probe, if there is one
	PhaseTotal     Phase = "total"
)

var phases = []Phase{PhaseRecord, PhaseImage, PhaseNetwork, PhaseContainer, PhaseStart, PhaseTunnels, PhaseReady, PhaseTotal}

// ends are the reasons for which a sandbox ends.
var ends = []sandbox.Reason{
	sandbox.ReasonExited, sandbox.ReasonSignal, sandbox.ReasonOOM, sandbox.ReasonTimeout, sandbox.ReasonIdleTimeout,
	sandbox.ReasonTerminated, sandbox.ReasonStartFailed, sandbox.ReasonRuntimeCrash, sandbox.ReasonLost,
}

// quick are buckets from a millisecond to a minute.
var quick = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// lives are the figures of sandboxes' and programs' lives.
type lives struct {
	phases  *prometheus.HistogramVec
	creates *prometheus.CounterVec
	ends    *prometheus.CounterVec

	execs       *prometheus.CounterVec
	execsRun    prometheus.Gauge
	execSeconds prometheus.Histogram
	output      *prometheus.CounterVec

	calls *prometheus.CounterVec
}

func newLives() lives {
	l := lives{
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "brig_create_phase_seconds", Help: "How long the phases of a create took, failed ones too.", Buckets: quick,
		}, []string{"phase"}),
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_creates_total", Help: "Creates, by result (ok, refused, failed, aborted).",
		}, []string{"result"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_sandbox_ends_total", Help: "Sandboxes that have ended, by reason.",
		}, []string{"reason"}),
		execs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_execs_total", Help: "Programs run beside a sandbox's own, those of file calls and probes too, by result (ended, failed: did not start).",
		}, []string{"result"}),
		execsRun: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "brig_execs_running", Help: "Programs that run now beside a sandbox's own.",
		}),
		execSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "brig_exec_seconds", Help: "How long programs ran that were run beside a sandbox's own, from the call for them on.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 300, 1800, 3600},
		}),
		output: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_output_bytes_total", Help: "Output of programs that brigd has read for callers, by whose (sandbox, exec).",
		}, []string{"of"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "brig_api_calls_total", Help: "Calls of the API, by procedure and code; ok is success.",
		}, []string{"procedure", "code"}),
	}
	for _, p := range phases {
		l.phases.WithLabelValues(string(p))
	}
	for _, r := range []Result{Made, MakeRefused, MakeFailed, MakeAborted} {
		l.creates.WithLabelValues(string(r))
	}
	for _, r := range ends {
		l.ends.WithLabelValues(string(r))
	}
	for _, of := range []string{"sandbox", "exec"} {
		l.output.WithLabelValues(of)
	}
	for _, r := range []string{"ended", "failed"} {
		l.execs.WithLabelValues(r)
	}
	return l
}

func (l lives) all() []prometheus.Collector {
	return []prometheus.Collector{l.phases, l.creates, l.ends, l.execs, l.execsRun, l.execSeconds, l.output, l.calls}
}

// CreatePhase takes how long a phase of a create took.
func (m *Metrics) CreatePhase(p Phase, took time.Duration) {
	m.lives.phases.WithLabelValues(string(p)).Observe(took.Seconds())
}

// Result is how a create ended.
type Result string

// The ends of a create.
const (
	Made        Result = "ok"
	MakeRefused Result = "refused" // the request was wrong, or more than its caller may have
	MakeFailed  Result = "failed"  // the node could not
	MakeAborted Result = "aborted" // its caller went away, or ended it
)

// Created counts a create.
func (m *Metrics) Created(r Result) { m.lives.creates.WithLabelValues(string(r)).Inc() }

// Ended counts the end of a sandbox.
func (m *Metrics) Ended(reason string) { m.lives.ends.WithLabelValues(reason).Inc() }

// ExecStarted counts a program that runs, until ExecEnded.
func (m *Metrics) ExecStarted() { m.lives.execsRun.Inc() }

// ExecEnded counts one that runs no more. How long it took is left out if it is below 0,
// which is what a clock that was set back makes of it.
func (m *Metrics) ExecEnded(took time.Duration) {
	m.lives.execsRun.Dec()
	m.lives.execs.WithLabelValues("ended").Inc()
	if took >= 0 {
		m.lives.execSeconds.Observe(took.Seconds())
	}
}

// ExecFailed counts a program that was not started.
func (m *Metrics) ExecFailed() { m.lives.execs.WithLabelValues("failed").Inc() }

// SandboxOutput counts bytes of a sandbox's program that were sent to a caller.
func (m *Metrics) SandboxOutput(n int) { m.lives.output.WithLabelValues("sandbox").Add(float64(n)) }

// ExecOutput counts bytes of an exec that were handed to whoever reads it: a caller, or
// brigd for one.
func (m *Metrics) ExecOutput(n int) { m.lives.output.WithLabelValues("exec").Add(float64(n)) }

// Called counts a call of the API.
func (m *Metrics) Called(procedure, code string) {
	m.lives.calls.WithLabelValues(procedure, code).Inc()
	// An alert is over it, and sees no increase in a figure that begins with its first.
	m.lives.calls.WithLabelValues(procedure, "internal")
}
