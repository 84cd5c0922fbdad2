package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// node are figures of what the node keeps and carries.
type node struct {
	store *prometheus.HistogramVec
}

func newNode() node {
	n := node{
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "brig_store_seconds", Help: "How long transactions of the store took, by kind (read, write).",
			Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5},
		}, []string{"kind"}),
	}
	n.store.WithLabelValues("read")
	n.store.WithLabelValues("write")
	return n
}

func (n node) all() []prometheus.Collector { return []prometheus.Collector{n.store} }

// StoreRead takes how long a look into the store took.
func (m *Metrics) StoreRead(took time.Duration) {
	m.node.store.WithLabelValues("read").Observe(took.Seconds())
}

// StoreWrite takes how long a change of the store took.
func (m *Metrics) StoreWrite(took time.Duration) {
	m.node.store.WithLabelValues("write").Observe(took.Seconds())
}

// Tunnels are totals over all sandboxes, the ended ones too.
type Tunnels struct {
	Open    int    // connections, now
	In, Out uint64 // bytes, without TLS
}

// States are sandboxes that have not ended, each in one of them.
type States struct{ Creating, Running, Paused int }

// GPUs of the node, each in one state.
type GPUs struct{ Free, Allotted, Unusable int }

// counted is what is read when somebody scrapes.
type counted struct {
	states  func() States
	tunnels func() Tunnels
	gpus    func() GPUs

	stateDesc, openDesc, bytesDesc, gpuDesc *prometheus.Desc
}

// Sandboxes adds what is counted elsewhere: sandboxes by state, what went through tunnels
// since brigd's start, and GPUs by state. All are asked at every scrape.
func (m *Metrics) Sandboxes(states func() States, tunnels func() Tunnels, gpus func() GPUs) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	m.Registry.MustRegister(counted{
		states: states, tunnels: tunnels, gpus: gpus,
		stateDesc: desc("brig_sandboxes", "Sandboxes that have not ended, by state (creating, running, paused).", "state"),
		openDesc:  desc("brig_tunnel_connections", "Connections of tunnels that are open."),
		bytesDesc: desc("brig_tunnel_bytes_total", "Bytes through tunnels since brigd's start, without TLS, by direction (in, out).", "direction"),
		gpuDesc:   desc("brig_gpus", "GPUs of the node, by state (free, allotted, unusable).", "state"),
	})
}

// Describe names the figures.
func (c counted) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.stateDesc, c.openDesc, c.bytesDesc, c.gpuDesc} {
		to <- d
	}
}

// Collect reads them.
func (c counted) Collect(to chan<- prometheus.Metric) {
	s := c.states()
	to <- prometheus.MustNewConstMetric(c.stateDesc, prometheus.GaugeValue, float64(s.Creating), "creating")
	to <- prometheus.MustNewConstMetric(c.stateDesc, prometheus.GaugeValue, float64(s.Running), "running")
	to <- prometheus.MustNewConstMetric(c.stateDesc, prometheus.GaugeValue, float64(s.Paused), "paused")
	g := c.gpus()
	to <- prometheus.MustNewConstMetric(c.gpuDesc, prometheus.GaugeValue, float64(g.Free), "free")
	to <- prometheus.MustNewConstMetric(c.gpuDesc, prometheus.GaugeValue, float64(g.Allotted), "allotted")
	to <- prometheus.MustNewConstMetric(c.gpuDesc, prometheus.GaugeValue, float64(g.Unusable), "unusable")
	t := c.tunnels()
	to <- prometheus.MustNewConstMetric(c.openDesc, prometheus.GaugeValue, float64(t.Open))
	to <- prometheus.MustNewConstMetric(c.bytesDesc, prometheus.CounterValue, float64(t.In), "in")
	to <- prometheus.MustNewConstMetric(c.bytesDesc, prometheus.CounterValue, float64(t.Out), "out")
}
