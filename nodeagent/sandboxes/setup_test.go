package sandboxes_test

import (
	"log/slog"

	"brig/nodeagent/denials"
	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/quota"
	"brig/nodeagent/sandboxes"
)

// parts are what every manager of these tests is made of, but for its store.
func (n *node) parts() sandboxes.Parts {
	log := slog.New(slog.DiscardHandler)
	return sandboxes.Parts{
		Config: n.cfg, Runtime: n, Network: n, Rules: n, CA: n.ca, Boot: n.boot, Log: log,
		Events: events.NewHub(), Metrics: metrics.New(func() int { return 0 }), Quota: quota.New(n.cfg.Quotas),
		Denials: denials.New(denials.Config{Sink: func(denials.Denial) {}, Log: log}),
		Changed: n.rulesChanged,
	}
}
