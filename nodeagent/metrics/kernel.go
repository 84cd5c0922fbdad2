package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// kernel reads the rules' own counters when somebody scrapes.
type kernel struct {
	desc *prometheus.Desc
	read func() (map[string]uint64, error)
}

// Kernel adds the denied packets by reason as the kernel counts them: all of them, while
// what it tells brigd of is limited in rate. They begin anew with the rules. A scrape
// that cannot read them has all other figures.
func (m *Metrics) Kernel(read func() (map[string]uint64, error)) {
	m.Registry.MustRegister(kernel{
		desc: prometheus.NewDesc("brig_denied_packets_total", "Packets of sandboxes that the node's rules denied, by reason.", []string{"reason"}, nil),
		read: read,
	})
}

// Describe names the figure.
func (k kernel) Describe(to chan<- *prometheus.Desc) { to <- k.desc }

// Collect reads it.
func (k kernel) Collect(to chan<- prometheus.Metric) {
	counts, err := k.read()
	if err != nil {
		to <- prometheus.NewInvalidMetric(k.desc, err)
		return
	}
	for reason, n := range counts {
		to <- prometheus.MustNewConstMetric(k.desc, prometheus.CounterValue, float64(n), reason)
	}
}
