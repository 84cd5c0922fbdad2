package sandboxes

import (
	"context"
	"net/netip"

	"brig/nodeagent/clock"
	"brig/nodeagent/explain"
	"brig/nodeagent/record"
	"brig/nodeagent/resolver"
)

// Explain tells what becomes of a sandbox's connection, from what is in the kernel now.
func (m *Manager) Explain(ctx context.Context, rec record.Record, q explain.Question) (explain.Answer, error) {
	if _, err := m.running(rec.ID); err != nil {
		return explain.Answer{}, err
	}
	if !rec.Address.IsValid() {
		return explain.Answer{Rule: "block_network: the sandbox has no interface", Generation: m.unbound(rec).Generation}, nil
	}
	// Reading back a long list takes a while, in which nobody else changes any policy.
	select {
	case m.explaining <- struct{}{}:
		defer func() { <-m.explaining }()
	case <-ctx.Done():
		return explain.Answer{}, context.Cause(ctx)
	}
	live, err := m.rules.Live(ctx, string(rec.ID))
	if err != nil {
		return explain.Answer{}, err
	}
	now, err := clock.Now()
	if err != nil {
		return explain.Answer{}, err
	}
	// The store may have the words of a change that has come meanwhile.
	if rec, err = m.store.Get(rec.ID); err != nil {
		return explain.Answer{}, err
	}
	f := explain.Facts{Live: live, Now: now, Resolver: resolver.Address}
	if grant, bound := live.InForce(now); bound {
		f.Spec = rec.Spec(grant)
	}
	names, link := m.denials.Names(), m.rules.Link(string(rec.ID))
	f.NameOf = func(a netip.Addr) string { return names.Of(link, a) }
	return explain.Explain(q, f), nil
}
