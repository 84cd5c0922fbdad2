package sandboxes_test

import (
	"context"
	"log/slog"

	"brig/nodeagent/certificates"
	"brig/nodeagent/denials"
	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/quota"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/tunnel"
)

// parts are what every manager of these tests is made of, but for its store.
func (n *node) parts() sandboxes.Parts {
	log := slog.New(slog.DiscardHandler)
	limits := tunnel.Limits{Node: 100, Sandbox: 100, Tunnel: 100, Source: 100}
	source, err := certificates.Open(context.Background(), n.cfg, n.ca, log)
	if err != nil {
		panic(err) // of the CA's own leaves there is none
	}
	return sandboxes.Parts{
		Config: n.cfg, Runtime: n, Network: n, Rules: n, Boot: n.boot, Log: log,
		Tunnels: sandboxes.Tunnels{Pool: tunnel.NewPool(limits), Certificates: source},
		Events:  events.NewHub(), Metrics: metrics.New(func() int { return 0 }), Quota: quota.New(n.cfg.Quotas), GPUs: n.gpus,
		Denials: denials.New(denials.Config{Sink: func(denials.Denial) {}, Log: log}),
		Changed: n.rulesChanged, Held: n.Held,
	}
}
