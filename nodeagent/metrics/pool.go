package metrics

import "github.com/prometheus/client_golang/prometheus"

// Cold is why a create booted a sandbox of its own.
type Cold string

// The reasons; ColdNot: it did not, it took one that waited.
const (
	ColdNot        Cold = ""
	ColdOff        Cold = "off"        // there is no pool
	ColdEmpty      Cold = "empty"      // none of its shape, or with its checkpoint, waits
	ColdNetwork    Cold = "network"    // it is to have no network
	ColdGPU        Cold = "gpu"        // it has GPUs
	ColdCheckpoint Cold = "checkpoint" // it goes on from one, and wants what one that is held has not
	ColdSpent      Cold = "spent"      // it took one that could not be used
)

var colds = []Cold{ColdOff, ColdEmpty, ColdNetwork, ColdGPU, ColdCheckpoint, ColdSpent}

// pool are the figures of sandboxes that wait.
type pool struct{ claims *prometheus.CounterVec }

func newPool() pool {
	p := pool{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "brig_pool_claims_total", Help: "Creates, by what they took (slot, cold) and why they took no slot.",
	}, []string{"outcome", "reason"})}
	p.claims.WithLabelValues("slot", "")
	for _, why := range colds {
		p.claims.WithLabelValues("cold", string(why))
	}
	return p
}

// Claimed counts what a create took.
func (m *Metrics) Claimed(why Cold) {
	outcome := "cold"
	if why == ColdNot {
		outcome = "slot"
	}
	m.pool.claims.WithLabelValues(outcome, string(why)).Inc()
}

// Slots are sandboxes that nobody has yet, each in one of the states.
type Slots struct{ Waiting, Making, Leaving int }

// Pool adds how many slots there are, which is asked at every scrape.
func (m *Metrics) Pool(slots func() Slots) {
	for state, of := range map[string]func(Slots) int{
		"waiting": func(s Slots) int { return s.Waiting },
		"making":  func(s Slots) int { return s.Making },
		"leaving": func(s Slots) int { return s.Leaving },
	} {
		m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "brig_pool_slots", Help: "Sandboxes that nobody has yet, by state (waiting, making, leaving).",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(of(slots())) }))
	}
}
